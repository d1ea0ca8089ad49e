"""Room on the disk: a reserve inside the WAL that nobody else can take, and whether there is still room.

On a full disk the database file cannot grow and the WAL cannot be taken up into it, but what the WAL has of its own can
still be written: that is where cancelling, settling and closing find their room.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

RESERVE_BYTES = 8 * 1024 * 1024
"""The WAL always has this much of the disk: several hundred commits of one task each. It ends before the WAL's index
(one file of 32 KiB for 4,062 pages) would have to grow, which a full disk would refuse as an I/O error."""
FLOOR_BYTES = 4 * 1024 * 1024
"""Below this much free space the disk counts as full: it is about what one checkpoint may add to the database file."""
GLANCE_MS = 100
"""How often the free space is looked at while something is written."""
LOOK_S = 1.0
"""How often a full disk is looked at."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class Room:
    """Whether there is room; `tell(full)` is called when that changes. Used by the writer's thread alone."""

    def __init__(self, conn: sqlite3.Connection, tell: Callable[[bool], None]) -> None:
        self._wal = Path(f"{conn.execute('PRAGMA database_list').fetchone()[2]}-wal")
        self._tell = tell
        self._next_glance = 0
        self.full = False

    def look(self) -> None:
        """After a checkpoint that succeeded: there is room if the reserve is whole or can be made so, and more beside
        it."""
        self._become(not reserve(self._wal) or self._scarce())

    def glance(self, now: int) -> None:
        """After a commit at `now` (monotonic milliseconds): whether the disk has come close to its end."""
        if now >= self._next_glance:
            self._next_glance = now + GLANCE_MS
            if not self.full and self._scarce():
                self._become(True)

    def ran_out(self) -> None:
        """A commit or a checkpoint met a full disk."""
        self._become(True)

    def _scarce(self) -> bool:
        free = free_bytes(self._wal.parent)
        return free is not None and free < FLOOR_BYTES

    def _become(self, full: bool) -> None:
        if full != self.full:
            self.full = full
            self._tell(full)


def free_bytes(folder: Path) -> int | None:
    """What this user may still write to the disk of `folder`; None where the system does not tell."""
    try:
        about = os.statvfs(folder)
    except OSError:
        return None
    return about.f_bavail * about.f_frsize


def reserve(wal: Path, size: int = RESERVE_BYTES) -> bool:
    """Give the WAL `size` bytes of the disk, zeros behind its frames; False when the disk has no room for them.

    SQLite takes zeros for the end of the WAL. A file system that cannot reserve counts as one that has room: there a
    full disk is met when it is full. Nothing is made where there is no WAL.
    """
    try:
        fd = os.open(wal, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        if os.fstat(fd).st_blocks * 512 < size and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(fd, 0, size)
    except OSError as error:
        return error.errno not in _NO_ROOM
    finally:
        os.close(fd)
    return True
