"""What happened (`Event`, durable and numbered) and what is being said (`Delta`, which may be lost)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One row of the event log. Ids rise and are never reused; the order of ids is the order of commits."""

    event_id: int
    event_type: str
    task_id: str | None
    session_id: str | None
    state_from: str | None
    state_to: str | None
    run_id: str | None
    trace_id: str | None
    payload: Mapping[str, Any]
    created_at: int


class NewEvent(NamedTuple):
    """An event about to be appended, in the store's own integer keys."""

    type: str
    task_key: int | None = None
    session_key: int | None = None
    state_from: str | None = None
    state_to: str | None = None
    token: int | None = None
    payload: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """A piece of an answer while it is written. Not stored; the final message is an event.

    `reset` says that what was streamed before is void (another provider starts over).
    """

    task_id: str
    session_id: str | None
    seq: int
    content: str
    reset: bool = False
