"""What the rest of the house logs with: a logger for each component, and the ids of the work at hand.

It stands on the standard library's logging, so libraries, warnings and tests' capture meet in one stream.
(structlog would load rich, pygments and attrs at import, a quarter of a second that a start does not have.)
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

ROOT = "goclaw"
FIELDS = "goclaw_fields"
IDS = ("trace_id", "task_id", "run_id", "session_id")
_NONE: Mapping[str, str] = MappingProxyType({})
_ids: ContextVar[Mapping[str, str]] = ContextVar("goclaw_log_ids", default=_NONE)


class Log:
    """The logger of one component. A message is a fixed sentence; what varies are fields, whose values are
    JSON.

    Calls are cheap when the level is not wanted. Before `Logs` is open, warnings and errors go to stderr as
    plain text and the rest nowhere: a command of the command line needs no set-up.
    """

    __slots__ = ("_logger",)

    def __init__(self, component: str) -> None:
        self._logger = logging.getLogger(f"{ROOT}.{component}")

    def debug(self, msg: str, **fields: Any) -> None:
        """What only the developer of goclaw wants to know."""
        self._write(logging.DEBUG, msg, fields)

    def info(self, msg: str, **fields: Any) -> None:
        """What a person watching wants to know."""
        self._write(logging.INFO, msg, fields)

    def warning(self, msg: str, **fields: Any) -> None:
        """Something is not as it should be, and goclaw goes on."""
        self._write(logging.WARNING, msg, fields)

    def error(self, msg: str, **fields: Any) -> None:
        """Something failed that a person has to look at."""
        self._write(logging.ERROR, msg, fields)

    def exception(self, msg: str, error: BaseException, **fields: Any) -> None:
        """`error` with its traceback: for what nobody expected."""
        self._write(logging.ERROR, msg, fields, error)

    def _write(self, level: int, msg: str, fields: dict[str, Any], error: BaseException | None = None) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, msg, exc_info=error, extra={FIELDS: fields}, stacklevel=3)


def get_logger(component: str) -> Log:
    """The logger of a component, named by its package: `kernel`, `brain`, `gateway`."""
    return Log(component)


class bound:
    """Every line logged inside carries these ids, in the tasks and threads started there too. None changes
    nothing. A class, because the generator of `contextlib` costs three times as much, once for every task.
    """

    __slots__ = ("_given", "_token")

    def __init__(
        self,
        *,
        trace_id: str | None = None,
        task_id: str | None = None,
        run_id: str | None = None,
        session_id: str | None = None,
    ) -> None:
        self._given = (trace_id, task_id, run_id, session_id)

    def __enter__(self) -> None:
        ids = dict(_ids.get())
        for name, value in zip(IDS, self._given, strict=True):
            if value is not None:
                ids[name] = value
        self._token = _ids.set(ids)

    def __exit__(self, *_: object) -> None:
        _ids.reset(self._token)


def current_ids() -> Mapping[str, str]:
    """The ids bound at this point."""
    return _ids.get()
