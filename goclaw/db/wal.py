"""How long the write-ahead log is, from its index: four numbers that every connection to the file shares."""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

_HEAD = struct.Struct("=I10xHI")
"""iVersion, szPage, mxFrame: SQLite, WAL-mode file format, section 2.1."""
_BACKFILLED = 96
"""Offset of nBackfill, the frames that are in the database file already (section 2.2)."""
_VERSION = 3_007_000
_FRAME_HEADER = 24


class Wal:
    """The log of one database. Looking costs two reads of a page that is in memory.

    The index is opened once and kept open until `close`, which must come after the last connection of this process is
    closed: closing any descriptor of a file gives up all POSIX locks that the process has on it (SQLite, How To
    Corrupt, 2.2).
    """

    def __init__(self, database: Path) -> None:
        self._path = Path(f"{database}-shm")
        self._fd: int | None = None

    def lengths(self) -> tuple[int, int]:
        """(bytes of frames in the log, bytes of those that the database file does not have yet)."""
        head, backfilled = self._read(_HEAD.size, 0), self._read(4, _BACKFILLED)
        if len(head) < _HEAD.size or len(backfilled) < 4:
            return 0, 0
        version, page, frames = _HEAD.unpack(head)
        if version != _VERSION:
            return 0, 0
        done = min(int.from_bytes(backfilled, sys.byteorder), frames)
        size = (65_536 if page == 1 else page) + _FRAME_HEADER
        return frames * size, (frames - done) * size

    def close(self) -> None:
        """Let go of the index."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _read(self, size: int, offset: int) -> bytes:
        if self._fd is None:
            try:
                self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                return b""
        return os.pread(self._fd, size, offset)
