"""Schedules: work that comes back, when it is planned, and what becomes of an instant that was not met.

`build` turns what a person wrote (a `Draft`) into a checked `Schedule`; `upcoming` and `judge` are the
timetable and the judgement about it. Instants are integer milliseconds since 1970 UTC. Pure: the scheduler
brings the clock.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from typing import Any

from goclaw.core import cron, intake
from goclaw.core.chat import NewMessage, Text
from goclaw.core.task import TURN_KINDS, NewTask
from goclaw.errors import BadRequest

GRACE_MS = 60_000
"""How late an occurrence may be submitted and still count as on time: a restart in between loses nothing."""
SHORTEST_MS = 1_000
LONGEST_MS = intake.MAX_MS
CATCH_UP_RUNS = 100
NAME_CHARS = 200
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_CATCH_UP = re.compile(r"catch_up\(([1-9][0-9]{0,5})\)")


@dataclass(frozen=True, slots=True)
class Cron:
    """Five fields or an @alias, read in an IANA time zone."""

    expr: str
    zone: str


@dataclass(frozen=True, slots=True)
class Every:
    """The instants `anchor` + k x `ms`, k from 0 on: elapsed time, without drift, whatever a run takes."""

    ms: int
    anchor: int


@dataclass(frozen=True, slots=True)
class At:
    """One instant."""

    instant: int


When = Cron | Every | At


class Overlap(StrEnum):
    """What to do when a run of the job has not ended."""

    SKIP = "skip"
    ALLOW = "allow"


class Outcome(StrEnum):
    """How a planned occurrence ended; each ends exactly once."""

    RAN = "ran"
    """Its task was submitted."""
    COALESCED = "coalesced"
    """Several were missed and one run stands for all of them: a later one ran."""
    SKIPPED = "skipped"
    """It was due, but was not submitted; `reason` says why (overlap, saturated, no_agent, refused)."""
    MISSED = "missed"
    """Its instant passed while nobody could submit it, and the job's policy does not make up for it."""


@dataclass(frozen=True, slots=True)
class Missed:
    """What becomes of instants that passed unmet: the newest `runs` of them run, the others end as `rest`."""

    runs: int
    rest: Outcome

    def __str__(self) -> str:
        if self.rest is Outcome.COALESCED:
            return "coalesce"
        return f"catch_up({self.runs})" if self.runs else "skip"


SKIP = Missed(0, Outcome.MISSED)
COALESCE = Missed(1, Outcome.COALESCED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """The task of each run.

    Without `session_id` a turn gets a fresh session per run and other kinds have none; without `agent_id` the
    agent of the session does it, else the default agent.
    """

    kind: str
    payload: Mapping[str, Any]
    agent_id: str | None
    session_id: str | None
    priority: int
    max_attempts: int
    deadline_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A checked definition."""

    id: str
    name: str
    when: When
    task: Template
    enabled: bool
    missed: Missed
    overlap: Overlap


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A schedule as somebody wrote it, nothing checked. Exactly one of `cron`, `every_ms` and `at` is wanted.

    `anchor` is the first instant of `every_ms`; without it the job counts from when it was defined.
    """

    id: str | None = None
    name: str | None = None
    cron: str | None = None
    zone: str = "UTC"
    every_ms: int | None = None
    anchor: int | None = None
    at: int | None = None
    kind: str = "chat"
    payload: Mapping[str, Any] = field(default_factory=dict)
    agent_id: str | None = None
    session_id: str | None = None
    priority: int = 0
    max_attempts: int = 3
    deadline_ms: int | None = None
    enabled: bool = True
    missed: str = "coalesce"
    overlap: str = "skip"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A schedule and where it stands. Nothing at or before `watermark` is ever submitted (again).

    `next_at` is the next planned instant, None for a job that is disabled or over; `last_at` the planned
    instant of the newest run. `declared` is what config.yaml last said about `enabled`, None for a job made
    by `cron.add`.
    """

    schedule: Schedule
    source: str
    declared: bool | None
    watermark: int
    next_at: int | None
    last_at: int | None
    created_at: int
    updated_at: int


@dataclass(frozen=True, slots=True)
class Span:
    """Planned instants in one piece: the first, how many, and the newest few of them, ascending."""

    first: int
    count: int
    newest: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """How one planned instant ended, or a run of missed or coalesced ones: then `planned_at` is the first of
    them."""

    job_id: str
    planned_at: int
    outcome: Outcome
    reason: str | None = None
    task_id: str | None = None
    first: int
    last: int
    count: int = 1


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is to be done now: submit `runs`, record `rest` (if any) and move the watermark."""

    runs: tuple[int, ...]
    late: bool
    rest: Occurrence | None
    watermark: int


def build(draft: Draft, job_id: str, now: int) -> Schedule:
    """Check a draft. Raises BadRequest or TooLarge that names the field and says what would be right.

    An `at` in the past passes: whether it may be is for the caller to say.
    """
    if not _ID.fullmatch(job_id):
        raise BadRequest("id has 1 to 64 characters of A-Z a-z 0-9 . _ - and begins with a letter or digit", field="id")
    name = job_id if draft.name is None else draft.name.strip()
    if not 1 <= len(name) <= NAME_CHARS or not name.isprintable():
        raise BadRequest(f"name has 1 to {NAME_CHARS} printable characters", field="name")
    if draft.overlap not in set(Overlap):
        raise BadRequest("overlap is skip or allow", field="overlap")
    schedule = Schedule(
        id=job_id,
        name=name,
        when=_when(draft, now),
        task=Template(
            kind=draft.kind,
            payload=draft.payload,
            agent_id=draft.agent_id,
            session_id=draft.session_id,
            priority=draft.priority,
            max_attempts=draft.max_attempts,
            deadline_ms=draft.deadline_ms,
        ),
        enabled=draft.enabled,
        missed=read_missed(draft.missed),
        overlap=Overlap(draft.overlap),
    )
    intake.check(occurrence_task(schedule, now))
    return schedule


def read_missed(text: str) -> Missed:
    """`skip`, `coalesce` or `catch_up(N)`. Raises BadRequest."""
    if text == "skip":
        return SKIP
    if text == "coalesce":
        return COALESCE
    found = _CATCH_UP.fullmatch(text)
    if found is None or int(found.group(1)) > CATCH_UP_RUNS:
        raise BadRequest(f"missed is skip, coalesce or catch_up(N) with N from 1 to {CATCH_UP_RUNS}", field="missed")
    return Missed(int(found.group(1)), Outcome.MISSED)


def upcoming(when: When, after: int, limit: int) -> list[int]:
    """The next planned instants above `after`, ascending, at most `limit`; fewer when there are no more."""
    match when:
        case At(instant):
            return [instant][:limit] if instant > after else []
        case Every(ms, anchor):
            first = anchor + max(0, (after - anchor) // ms + 1) * ms
            return [first + k * ms for k in range(limit)]
        case Cron(expr, zone):
            return list(islice((one for day in cron.days(expr, zone, after) for one in day), limit))


def next_after(schedule: Schedule, instant: int) -> int | None:
    """The first planned instant above `instant`; None when the job is disabled or over."""
    found = upcoming(schedule.when, instant, 1) if schedule.enabled else []
    return found[0] if found else None


def planned(when: When, after: int, until: int, keep: int) -> Span | None:
    """What was planned in (after, until], with the newest `keep` instants; None when nothing was."""
    match when:
        case At(instant):
            return Span(instant, 1, (instant,)[:keep]) if after < instant <= until else None
        case Every(ms, anchor):
            first = anchor + max(0, (after - anchor) // ms + 1) * ms
            if first > until:
                return None
            count = (until - first) // ms + 1
            return Span(first, count, tuple(first + k * ms for k in range(max(0, count - keep), count)))
        case Cron(expr, zone):
            span: Span | None = None
            for day in cron.days(expr, zone, after, until):
                newest = ((span.newest if span else ()) + tuple(day[-keep:]))[-keep:]
                span = Span(span.first if span else day[0], (span.count if span else 0) + len(day), newest)
            return span


def judge(schedule: Schedule, watermark: int, now: int) -> Judgement | None:
    """Decide about everything planned since the watermark; None when nothing is due.

    The newest due instant is on time when it is at most `GRACE_MS` old: it runs whatever the policy says. All
    others were missed, and the job's policy decides about them.
    """
    span = planned(schedule.when, watermark, now, schedule.missed.runs + 2)
    if span is None:
        return None
    newest = span.newest[-1]
    late = now - newest > GRACE_MS
    runs = min(span.count, schedule.missed.runs if late else max(1, schedule.missed.runs))
    rest = None
    if span.count > runs:
        rest = Occurrence(
            job_id=schedule.id,
            planned_at=span.first,
            outcome=schedule.missed.rest,
            reason="late",
            first=span.first,
            last=span.newest[-runs - 1],
            count=span.count - runs,
        )
    return Judgement(span.newest[len(span.newest) - runs :], late, rest, newest)


def occurrence_task(schedule: Schedule, planned_at: int) -> NewTask:
    """The task of one occurrence. Its idempotency key is the occurrence: it can be stored once only."""
    task = schedule.task
    session_id = task.session_id
    if session_id is None and task.kind in TURN_KINDS:
        session_id = f"cron:{schedule.id}:{planned_at}"
    content = task.payload.get("content") if task.kind == "chat" else None
    return NewTask(
        kind=task.kind,
        payload=task.payload,
        agent_id=task.agent_id,
        session_id=session_id,
        idempotency_key=f"cron:{schedule.id}:{planned_at}",
        priority=task.priority,
        max_attempts=task.max_attempts,
        deadline_ms=task.deadline_ms,
        messages=(NewMessage(role="user", blocks=(Text(content),)),) if isinstance(content, str) else (),
    )


def _when(draft: Draft, now: int) -> When:
    given = [name for name in ("cron", "every_ms", "at") if getattr(draft, name) is not None]
    if len(given) != 1:
        raise BadRequest(
            f"a schedule has exactly one of cron, every_ms and at, not {' and '.join(given) or 'none'}",
            field="cron",
        )
    cron.zone_of(draft.zone)
    if draft.cron is not None:
        when = Cron(" ".join(draft.cron.split()), draft.zone)
        if not upcoming(when, now, 1):
            raise BadRequest(f"cron {when.expr!r} names a date that never comes", field="cron")
        return when
    if draft.every_ms is not None:
        if not SHORTEST_MS <= draft.every_ms <= LONGEST_MS:
            raise BadRequest(f"every_ms is from {SHORTEST_MS} to {LONGEST_MS} milliseconds", field="every_ms")
        return Every(draft.every_ms, now if draft.anchor is None else _instant(draft.anchor, "anchor"))
    assert draft.at is not None  # noqa: S101 (it is the one that is given)
    return At(_instant(draft.at, "at"))


def _instant(value: int, name: str) -> int:
    if not 0 <= value < 10**14:
        raise BadRequest(f"{name} is an instant in milliseconds since 1970 UTC", field=name)
    return value
