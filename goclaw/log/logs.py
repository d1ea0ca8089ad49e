"""From a call of a logger to an entry: the ids, the limits, the redaction; and the set-up of all of it."""

from __future__ import annotations

import logging
import math
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path, PurePath
from types import TracebackType
from typing import Any, Self, TextIO

from goclaw.core.ports import Clock
from goclaw.log.logger import FIELDS, IDS, ROOT, current_ids
from goclaw.log.startup import COMPONENT
from goclaw.log.writer import Entry, LineWriter, RotatingFile, Stream, json_line

MAX_TEXT = 16_384
MAX_READ = 65_536
MAX_PARTS = 200
MAX_DEPTH = 8
_HEAD = ("timestamp", "level", "msg", "component", *IDS)


class Logs:
    """The one outlet of all lines of this process, open from `with` to its end.

    Lines of goclaw's own components are written from `level` up, those of libraries and Python's warnings
    from WARNING up. `redact` is applied to every text. `human` makes the lines on `stream` readable instead
    of JSON.
    """

    def __init__(self, *, clock: Clock, redact: Callable[[str], str], stream: TextIO, human: bool = False) -> None:
        self._clock = clock
        self._redact = redact
        self._sink = Stream(stream, human_line if human else json_line)
        self._level = "info"

    def __enter__(self) -> Self:
        self._writer = LineWriter(self._notice, self._sink)
        self._door = _Door(self._take)
        root, own = logging.getLogger(), logging.getLogger(ROOT)
        self._before = (root.level, own.level)
        root.addHandler(self._door)
        root.setLevel(logging.WARNING)
        own.setLevel(self._level.upper())
        # The phases of a start are promised to whoever waits for them, whatever level is set.
        logging.getLogger(f"{ROOT}.{COMPONENT}").setLevel(logging.INFO)
        logging.captureWarnings(True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logging.captureWarnings(False)
        root, own = logging.getLogger(), logging.getLogger(ROOT)
        root.removeHandler(self._door)
        root.setLevel(self._before[0])
        own.setLevel(self._before[1])
        logging.getLogger(f"{ROOT}.{COMPONENT}").setLevel(logging.NOTSET)
        self._writer.close()

    def set_level(self, level: str) -> None:
        """Take lines from `debug`, `info`, `warning` or `error` up, from now on."""
        self._level = level
        logging.getLogger(ROOT).setLevel(level.upper())

    def open_file(self, path: Path) -> None:
        """Write JSON lines into `path` too (rotated). Only for whoever holds the lock of the home it is
        in.
        """
        self._writer.add(RotatingFile(path))

    def flush(self) -> bool:
        """Wait until everything logged is written; False when that took more than two seconds."""
        return self._writer.flush()

    def _take(self, record: logging.LogRecord) -> None:
        self._writer.put(self._entry(record))

    def _entry(self, record: logging.LogRecord) -> Entry:
        fields: Mapping[str, Any] = {**current_ids(), **getattr(record, FIELDS, {})}
        head: dict[str, Any] = {
            "timestamp": self._clock.wall(),
            "level": record.levelname,
            "msg": self._text(_message(record)),
            "component": record.name.removeprefix(f"{ROOT}."),
        }
        ids = {name: self._plain(fields.get(name), 1) for name in IDS}
        rest = {name: self._plain(value, MAX_DEPTH) for name, value in fields.items() if name not in _HEAD}
        if record.exc_info and record.exc_info[1] is not None:
            rest["traceback"] = self._text("".join(traceback.format_exception(record.exc_info[1], limit=-30)))
        return {**head, **ids, **rest}

    def _notice(self, count: int) -> Entry:
        ids = dict.fromkeys(IDS)
        head = {
            "timestamp": self._clock.wall(),
            "level": "WARNING",
            "msg": "log lines lost",
            "component": "log",
        }
        return {**head, **ids, "count": count}

    def _text(self, text: str) -> str:
        # Redacted before it is cut, so that no half of a secret stays at the edge.
        clean = self._redact(text[:MAX_READ])
        more = len(clean) + max(0, len(text) - MAX_READ) - MAX_TEXT
        return clean if more <= 0 else f"{clean[:MAX_TEXT]}... [{more} characters more]"

    def _plain(self, value: Any, depth: int) -> Any:
        """A JSON value that nobody else holds, without secrets and within the limits."""
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return value if -(2**63) <= value < 2**64 else "<int>"  # readers of JSON take no more than that
        if isinstance(value, float):
            return value if math.isfinite(value) else str(value)
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, Mapping) and depth:
            items = list(value.items())[:MAX_PARTS]
            return {self._text(str(name)): self._plain(part, depth - 1) for name, part in items}
        if isinstance(value, (list, tuple, set, frozenset)) and depth:
            return [self._plain(part, depth - 1) for part in list(value)[:MAX_PARTS]]
        if isinstance(value, Enum):
            return self._plain(value.value, 0)
        if isinstance(value, (BaseException, PurePath)):
            return self._text(str(value))
        return f"<{type(value).__name__}>"


class _Door(logging.Handler):
    def __init__(self, take: Callable[[logging.LogRecord], None]) -> None:
        super().__init__()
        self._take = take

    def emit(self, record: logging.LogRecord) -> None:
        self._take(record)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):  # a library's format and its arguments do not match
        return str(record.msg)


def human_line(entry: Entry) -> str:
    """An entry for a person at a terminal: time of day, level, component, message and what is set of the
    rest.
    """
    at = datetime.fromtimestamp(entry.get("timestamp", 0) / 1000, UTC).astimezone()
    rest = "".join(
        f" {name}={value if isinstance(value, str) and ' ' not in value else json_line({'': value})[4:-2]}"
        for name, value in entry.items()
        if name not in _HEAD[:4] and name != "traceback" and value is not None
    )
    trace = entry.get("traceback")
    told = f"{at:%H:%M:%S}.{at.microsecond // 1000:03d} {entry.get('level'):<7} {entry.get('component'):<10}"
    return f"{told} {entry.get('msg')}{rest}\n" + (f"{trace.rstrip()}\n" if isinstance(trace, str) else "")
