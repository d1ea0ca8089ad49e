"""Keep the head and the tail of an endless stream, and the whole of it up to a limit in a file."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import IO

_IN_MEMORY = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Captured:
    """What was kept of a stream of `total` bytes. Without a gap `tail` is empty."""

    head: bytes
    tail: bytes
    total: int

    @property
    def left_out(self) -> int:
        """How many bytes between head and tail were not kept."""
        return self.total - len(self.head) - len(self.tail)

    @property
    def text(self) -> str:
        """Head and tail, with a line in between that says what is missing; broken UTF-8 is replaced."""
        head, tail = self.head.decode("utf-8", "replace"), self.tail.decode("utf-8", "replace")
        return f"{head}\n[... {self.left_out} bytes left out ...]\n{tail}" if self.left_out else head + tail


class Capture:
    """Takes a stream in pieces and keeps at most `cap` bytes of it."""

    def __init__(self, cap: int) -> None:
        self._half = max(1, cap // 2)
        self._head = bytearray()
        self._tail = bytearray()
        self._total = 0

    def add(self, chunk: bytes) -> None:
        """Take the next piece."""
        self._total += len(chunk)
        room = self._half - len(self._head)
        self._head += chunk[:room]
        self._tail += chunk[room:]
        if len(self._tail) > 2 * self._half:
            del self._tail[: -self._half]

    def end(self) -> Captured:
        """What is kept."""
        return Captured(bytes(self._head), bytes(self._tail[-self._half :]), self._total)


class Spool:
    """Writes what comes into a file, up to a limit; later bytes are dropped. Slow writes leave the event
    loop.
    """

    def __init__(self, file: IO[bytes], cap: int) -> None:
        self._file = file
        self._room = cap
        self.written = 0

    async def add(self, chunk: bytes) -> None:
        """Take the next piece."""
        chunk = chunk[: self._room]
        self._room -= len(chunk)
        self.written += len(chunk)
        if self.written <= _IN_MEMORY:
            self._file.write(chunk)
        elif chunk:
            await asyncio.to_thread(self._file.write, chunk)
