"""A schedule as configured, and what must be true of one whatever else the file says."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from goclaw.config.kinds import NAME, Place, any_json, choice, flag, integer, key, text
from goclaw.config.moments import cron, duration, instant
from goclaw.core.intake import SERVED_KINDS
from goclaw.core.schedule import Draft, build
from goclaw.errors import RequestError

SESSION = r"[A-Za-z0-9._:-]{1,128}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleEntry:
    """Work that comes back. Exactly one of `cron`, `every_ms` and `at` is set. Times are milliseconds."""

    id: str = field(metadata=key(text("schedule id", NAME), "Its name; unique among the schedules.", required=True))
    name: str | None = field(
        default=None, metadata=key(text("a name", limit=200), "The name shown to people.", shown_default="its id")
    )
    cron: str | None = field(default=None, metadata=key(cron(), "When, as a cron expression in `zone`."))
    every_ms: int | None = field(default=None, metadata={**key(duration(), "When, as an interval."), "name": "every"})
    at: int | None = field(default=None, metadata=key(instant(), "When, as one instant."))
    zone: str = field(
        default="UTC",
        metadata=key(text("IANA time zone", r"[A-Za-z0-9_+/-]{1,64}"), "The zone that `cron` is read in."),
    )
    kind: str = field(default="chat", metadata=key(choice(*sorted(SERVED_KINDS)), "The kind of the task."))
    payload: Mapping[str, Any] = field(
        default_factory=dict, metadata=key(any_json("the payload of the task"), "The payload of the task.")
    )
    agent_id: str | None = field(
        default=None,
        metadata=key(
            text("agent id", NAME), "The agent that does it.", shown_default="that of the session, else `default`"
        ),
    )
    session_id: str | None = field(
        default=None,
        metadata=key(text("session id", SESSION), "The session it belongs to; empty starts a new one."),
    )
    enabled: bool = field(default=True, metadata=key(flag(), "Whether it fires."))
    missed: str = field(
        default="coalesce",
        metadata=key(
            text("skip, coalesce or catch_up(N)", r"skip|coalesce|catch_up\([1-9][0-9]{0,3}\)"),
            "What becomes of occurrences missed while goclaw was not running: none runs, one runs for all, "
            "or the last N run.",
        ),
    )
    overlap: str = field(
        default="skip",
        metadata=key(choice("skip", "allow"), "Whether one may start while the one before is unfinished."),
    )
    priority: int = field(default=0, metadata=key(integer(-10, 10), "The priority of its tasks."))
    max_attempts: int = field(default=3, metadata=key(integer(1, 100), "Attempts of each task."))

    def draft(self) -> Draft:
        """What the scheduler is to be told."""
        return Draft(**{one.name: getattr(self, one.name) for one in dataclasses.fields(self)})


def verify_schedule(entry: ScheduleEntry, place: Place) -> None:
    """Report what is wrong between the keys of one schedule, in the words of the scheduler that is to follow it."""
    if sum(one is not None for one in (entry.cron, entry.every_ms, entry.at)) != 1:
        place.report(place.path, f"({entry.id}) needs exactly one of cron, every and at")
        return
    try:
        build(entry.draft(), entry.id, now=0)
    except RequestError as error:
        place.report(place.path, f"({entry.id}) {error.message}")
