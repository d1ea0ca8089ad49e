"""What a stream is made of: the cursor that outlives connections, and the values it hands over."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from goclaw.client.connection import Line, Told
from goclaw.core.event import Delta, Event
from goclaw.core.ports import Clock

BACKOFF_MS = 100
BACKOFF_CAP_MS = 2_000
PATIENCE_MS = 15_000
"""How long one answer is awaited while no daemon is there."""


@dataclass(frozen=True, slots=True)
class Link:
    """A stream lost its connection (`up` false; it tries again in `retry_ms`) or has one."""

    up: bool
    reason: str = ""
    retry_ms: int = 0


@dataclass(frozen=True, slots=True)
class ChatEnd:
    """How a streamed turn ended. `result`, `error` and `error_code` are as in the task."""

    task_id: str
    session_id: str | None
    state: str
    result: Any
    error: str | None
    error_code: str | None


class Cursor:
    """How far a subscription has come, over all its connections."""

    def __init__(self, session_id: str, start: int | Literal["latest"], log_id: str | None) -> None:
        self._session_id = session_id
        self._at: int | Literal["latest"] = start
        self._log_id = log_id
        self.subscribed = False

    async def follow(self, line: Line, log_id: str, on_subscribed: Callable[[], None]) -> AsyncGenerator[Event | Delta]:
        """Everything after the cursor, until this connection ends. `log_id` is that of the daemon's hello."""
        params: dict[str, Any] = {"session_id": self._session_id, "from_event_id": self._at}
        if self._log_id and self._at not in (0, "latest"):
            params["log_id"] = self._log_id
        async for item in line.streamed("session.events.subscribe", params):
            if isinstance(item, Told):
                if (value := self._taken(item)) is not None:
                    yield value
            elif self._at == "latest":
                self._at = int(item["latest_event_id"])
        self._log_id, self.subscribed = self._log_id or log_id, True
        on_subscribed()
        async for told in line.notifications():
            if (value := self._taken(told)) is not None:
                yield value

    def _taken(self, told: Told) -> Event | Delta | None:
        if told.method == "agent.delta":
            return delta_of(told.params)
        if told.method != "session.event":
            return None
        event = event_of(told.params)
        if self._at != "latest" and event.event_id <= self._at:
            return None
        self._at = event.event_id
        return event


class Backoff:
    """0.1 s doubling to 2 s; `exhausted` after PATIENCE_MS without a reset."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: int | None = None
        self.next_ms = BACKOFF_MS

    @property
    def exhausted(self) -> bool:
        """Whether it has gone on for too long to wait for one answer."""
        return self._since is not None and self._clock.monotonic() - self._since >= PATIENCE_MS

    def reset(self) -> None:
        """It works again."""
        self._since, self.next_ms = None, BACKOFF_MS

    async def pause(self) -> None:
        """Wait before the next attempt."""
        if self._since is None:
            self._since = self._clock.monotonic()
        await self._clock.sleep(self.next_ms)
        self.next_ms = min(self.next_ms * 2, BACKOFF_CAP_MS)


def event_of(wire: Mapping[str, Any]) -> Event:
    """An event from its form on the wire."""
    return Event(
        event_id=int(wire["event_id"]),
        event_type=str(wire["event_type"]),
        task_id=wire.get("task_id"),
        session_id=wire.get("session_id"),
        state_from=wire.get("state_from"),
        state_to=wire.get("state_to"),
        run_id=wire.get("run_id"),
        trace_id=wire.get("trace_id"),
        payload=wire.get("payload") or {},
        created_at=int(wire["created_at"]),
    )


def delta_of(wire: Mapping[str, Any]) -> Delta:
    """A delta from its form on the wire."""
    return Delta(
        task_id=str(wire["task_id"]),
        session_id=wire.get("session_id"),
        seq=int(wire["seq"]),
        content=str(wire.get("content") or ""),
        reset=bool(wire.get("reset")),
    )


def chat_end_of(wire: Mapping[str, Any]) -> ChatEnd:
    """The answer of agent.chat.stream."""
    error = wire.get("error")
    told = error if isinstance(error, Mapping) else {"message": error, "code": wire.get("error_code")}
    return ChatEnd(
        task_id=str(wire["task_id"]),
        session_id=wire.get("session_id"),
        state=str(wire["state"]),
        result=wire.get("result"),
        error=told.get("message"),
        error_code=told.get("code"),
    )
