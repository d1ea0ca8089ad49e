"""What happened (`Event`, durable and numbered) and what is being said (`Delta`, which may be lost)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from goclaw.core.canonical import canonical_json


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


class Said(NamedTuple):
    """The payload of an event, already as canonical JSON with its SHA-256: for what many events say alike."""

    text: str
    digest: bytes


@lru_cache(maxsize=1_024)
def said(**fields: str | int | None) -> Said | None:
    """A payload of a few plain fields; those that are None are left out, and without any there is none."""
    given = {name: value for name, value in fields.items() if value is not None}
    if not given:
        return None
    text = canonical_json(given)
    return Said(text, hashlib.sha256(text.encode()).digest())


class NewEvent(NamedTuple):
    """An event about to be appended, in the store's own integer keys."""

    type: str
    task_key: int | None = None
    session_key: int | None = None
    state_from: str | None = None
    state_to: str | None = None
    token: int | None = None
    payload: Mapping[str, Any] | Said | None = None


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
