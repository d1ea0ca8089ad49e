"""Lines on their way out: a bounded queue, a thread, and files that rotate by size."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO

Entry = Mapping[str, Any]
MAX_WAITING = 10_000
FILE_BYTES = 20 * 1024 * 1024
FILES = 5
CLOSE_SECONDS = 2.0
MIRROR_GATHER_S = 0.02


class Sink(Protocol):
    """Where lines end. Only the writer's thread calls it."""

    def write(self, entries: Sequence[Entry]) -> None:
        """Write all entries, or raise OSError or ValueError."""
        ...

    def close(self) -> None:
        """Let go of the file, if there is one."""
        ...


class LineWriter:
    """Takes entries without waiting and writes them on a thread of its own, in their order.

    At most 10,000 entries wait; more are dropped. What is dropped, and what a sink could not write (a full
    disk), is counted, and the sink gets `notice(count)` as its first entry when it works again. Idle, the
    thread sleeps. With `gather_s` it lets entries come for that long before it writes them together.
    """

    def __init__(self, notice: Callable[[int], Entry], *sinks: Sink, gather_s: float = 0.0) -> None:
        self._notice = notice
        self._gather_s = gather_s
        self._lost: dict[Sink, int] = dict.fromkeys(sinks, 0)
        self._waiting: deque[Entry] = deque()
        self._dropped = 0
        self._busy = False
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="goclaw-log", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def put(self, entry: Entry) -> None:
        """Hand over one entry, which is not to be changed afterwards."""
        with self._changed:
            if self._closed:
                return
            if len(self._waiting) >= MAX_WAITING:
                self._dropped += 1
                return
            self._waiting.append(entry)
            if len(self._waiting) == 1:
                self._changed.notify_all()

    def add(self, sink: Sink) -> None:
        """Write to `sink` too, from the next entry on."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting and not self._busy, CLOSE_SECONDS)
            self._lost[sink] = 0

    def flush(self, seconds: float = CLOSE_SECONDS) -> bool:
        """Wait until everything handed over is written; False when that took too long (a terminal that is
        stopped).
        """
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._busy, seconds)

    def close(self) -> None:
        """Write what waits, at most for two seconds, and end. Idempotent."""
        atexit.unregister(self.close)
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(CLOSE_SECONDS)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._gather_s:
                    self._changed.wait_for(lambda: self._closed, self._gather_s)
                entries = tuple(self._waiting)
                self._waiting.clear()
                dropped, self._dropped = self._dropped, 0
                self._busy = True
                sinks = tuple(self._lost)
                if not entries and self._closed:
                    break
            for sink in sinks:
                self._write(sink, entries, dropped)
        for sink in sinks:
            with contextlib.suppress(OSError, ValueError):
                sink.close()

    def _write(self, sink: Sink, entries: tuple[Entry, ...], dropped: int) -> None:
        lost = self._lost[sink]
        try:
            sink.write((self._notice(lost), *entries) if lost else entries)
        except (OSError, ValueError):
            self._lost[sink] = lost + len(entries) + dropped
        else:
            self._lost[sink] = dropped


class RotatingFile:
    """JSON lines in a file of mode 0600: at most five files of 20 MB, PATH and PATH.1 (the youngest) to
    PATH.4.
    """

    def __init__(self, path: Path, max_bytes: int = FILE_BYTES) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._fd: int | None = None
        self._size = 0
        self._torn = False

    def write(self, entries: Sequence[Entry]) -> None:
        """Append one line for each entry; raises OSError, and then the next write starts on a line of its
        own.
        """
        data = "".join(map(json_line, entries)).encode("utf-8", "backslashreplace")
        if self._fd is not None and not os.fstat(self._fd).st_nlink:
            self.close()  # somebody deleted the file: go on in a new one under the name
        fd = self._open()
        if self._size and self._size + len(data) > self._max_bytes:
            self._rotate()
            fd = self._open()
        if self._torn:
            data = b"\n" + data
        written = os.write(fd, data)
        self._size += written
        self._torn = written < len(data)
        if self._torn:
            raise OSError(f"{self._path}: only a part of the lines could be written")

    def close(self) -> None:
        """Let go of the file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _open(self) -> int:
        if self._fd is None:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._size = os.fstat(self._fd).st_size
        return self._fd

    def _rotate(self) -> None:
        self.close()
        for number in range(FILES - 1, 0, -1):
            older = self._path if number == 1 else self._numbered(number - 1)
            with contextlib.suppress(FileNotFoundError):
                os.replace(older, self._numbered(number))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


class Stream:
    """Lines on a stream that is open already (stderr), each made by `render`. The stream is not closed."""

    def __init__(self, stream: TextIO, render: Callable[[Entry], str]) -> None:
        self._stream = stream
        self._render = render

    def write(self, entries: Sequence[Entry]) -> None:
        """Write and flush."""
        self._stream.write("".join(map(self._render, entries)))
        self._stream.flush()

    def close(self) -> None:
        """Nothing: the stream is somebody else's."""


class AuditMirror:
    """Mirrors rows of the table audit_log into a JSON lines file.

    The table is the truth. Not promised: that the last rows before a crash or a full disk are in the mirror.
    """

    def __init__(self, path: Path) -> None:
        # Every change through the gateway is a row: waking a thread for each would cost a submission a tenth.
        self._writer = LineWriter(
            lambda count: {"msg": "audit lines lost", "count": count}, RotatingFile(path), gather_s=MIRROR_GATHER_S
        )

    def append(self, row: Mapping[str, Any]) -> None:
        """Hand over one row, redacted already and made of JSON values. Returns at once and never raises."""
        self._writer.put(row)

    def close(self) -> None:
        """Write what waits and end. Idempotent."""
        self._writer.close()


def json_line(entry: Entry) -> str:
    """One entry as a line of JSON; a value that is no JSON shows as the name of its type."""
    return json.dumps(entry, ensure_ascii=False, separators=(",", ":"), default=lambda one: type(one).__name__) + "\n"
