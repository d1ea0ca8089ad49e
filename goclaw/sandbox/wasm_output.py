"""A bounded way out of the sandbox: a pipe that the event loop empties while the module writes."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable

_PIECE = 64 * 1024


class Output:
    """Collects what is written to `path`: keeps the first `keep` bytes, calls `overflow` once beyond `limit`.

    A pipe and not a file, because a file would grow as fast as the module can write. After the overflow the
    reading end is closed, so that a writer that waits for room gets an error instead of waiting for ever.
    Everything but `close_writer` belongs to the thread of the event loop.
    """

    def __init__(self, keep: int, limit: int, overflow: Callable[[], None]) -> None:
        self._keep, self._limit, self._overflow = keep, limit, overflow
        self._kept = bytearray()
        self._seen = 0
        self._loop = asyncio.get_running_loop()
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        self._loop.add_reader(self._reader, self._ready)

    @property
    def path(self) -> str:
        """A name under which this process can open the writing end."""
        return f"/dev/fd/{self._writer}"

    def close_writer(self) -> None:
        """Close our own hold of the writing end; what has opened `path` keeps its own. Any thread, once or
        more."""
        if self._writer >= 0:
            os.close(self._writer)
            self._writer = -1

    def close(self) -> bytes:
        """Take what is left in the pipe, close both ends and return what was kept. The writers must be
        gone."""
        self.close_writer()
        try:
            while self._reader >= 0:
                self._take(os.read(self._reader, _PIECE))
        except BlockingIOError:
            # A child process that is just being started may hold a copy of the writing end for a moment, so
            # an empty pipe need not be at its end. Nothing more will come.
            self._close_reader()
        return bytes(self._kept)

    def _ready(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._take(os.read(self._reader, _PIECE))

    def _take(self, piece: bytes) -> None:
        if not piece:
            self._close_reader()
            return
        self._seen += len(piece)
        self._kept += piece[: max(0, self._keep - len(self._kept))]
        if self._seen > self._limit:
            self._close_reader()
            self._overflow()

    def _close_reader(self) -> None:
        self._loop.remove_reader(self._reader)
        os.close(self._reader)
        self._reader = -1
