"""The transactions that define schedules: add, remove, enable, disable, follow config.yaml. Plain functions.

Whatever changes a job's timetable first records what the old one had planned and nobody met, so that every
planned instant ends with an outcome; then the new timetable begins at the present instant.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from goclaw.core.canonical import canonical_json
from goclaw.core.schedule import (
    At,
    Draft,
    Every,
    Job,
    Occurrence,
    Outcome,
    Schedule,
    build,
    next_after,
    planned,
)
from goclaw.db import Connection
from goclaw.errors import BadRequest, Conflict, NotFound, Saturated
from goclaw.kernel.firing import record, stop, tell
from goclaw.store import schedules

MOST_JOBS = 10_000
CONFIG = "config"
API = "api"


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What a new config.yaml changed: ids of schedules."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]


def find(conn: Connection, job_id: str) -> Job:
    """The job. Raises NotFound."""
    job = schedules.find(conn, job_id)
    if job is None:
        raise NotFound(f"there is no schedule {job_id!r}", id=job_id)
    return job


def add(conn: Connection, draft: Draft, job_id: str, agents: Collection[str], now: int) -> Job:
    """Store a job. Raises BadRequest (an `at` in the past included), Conflict, NotFound (agent) or
    Saturated."""
    if schedules.count(conn) >= MOST_JOBS:
        raise Saturated(f"there are {MOST_JOBS} schedules, the most there may be; remove one first")
    if schedules.find(conn, job_id) is not None:
        raise Conflict(f"there is a schedule {job_id!r} already", id=job_id)
    schedule = build(draft, job_id, now)
    if isinstance(schedule.when, At) and schedule.when.instant <= now:
        raise BadRequest("at lies in the past; give an instant that is still to come", field="at")
    agent_id = schedule.task.agent_id
    if agent_id is not None and agent_id not in agents:
        known = ", ".join(sorted(agents))
        raise NotFound(f"there is no agent {agent_id!r}; agents are {known}", agent_id=agent_id)
    return _begin(conn, schedule, None, now)


def remove(conn: Connection, job_id: str, now: int) -> Job:
    """Remove a job; its history stays. Raises NotFound, or Conflict for one that config.yaml defines."""
    job = find(conn, job_id)
    if job.source == CONFIG:
        raise Conflict(f"{job_id} is defined in config.yaml; remove it there, or disable it", id=job_id)
    _drop(conn, job, now)
    return job


def set_enabled(conn: Connection, job_id: str, enabled: bool, now: int) -> Job:
    """Let a job fire, from now on, or not. Raises NotFound.

    For a job of config.yaml this holds until the file itself says something else about `enabled`.
    """
    job = find(conn, job_id)
    if job.schedule.enabled == enabled:
        return job
    changed = _redefine(conn, job, replace(job.schedule, enabled=enabled), (job.source, job.declared), now)
    tell(conn, job_id, "cron.enabled" if enabled else "cron.disabled", {}, now)
    return changed


def reconcile(conn: Connection, drafts: Sequence[Draft], now: int) -> Reconciled:
    """Make the jobs of config.yaml those of `drafts`, or raise BadRequest (data: schedule) and change
    nothing.

    A job that stays keeps its watermark, one whose timetable changes starts it now, and one that is gone is
    removed. An `at` that is past is recorded as missed unless it has ended before. A job made by `cron.add`
    under the same id becomes the file's.
    """
    added, changed = [], []
    wanted: set[str] = set()
    for draft in drafts:
        job_id = draft.id or ""
        if job_id in wanted:
            raise BadRequest(f"two schedules have the id {job_id!r}", field="id", schedule=job_id)
        wanted.add(job_id)
        known = schedules.find(conn, job_id)
        schedule = _read(draft, job_id, known, now)
        if known is None:
            _begin(conn, schedule, draft.enabled, now)
            added.append(job_id)
        elif _follow(conn, known, schedule, draft.enabled, now):
            changed.append(job_id)
    gone = [job_id for job_id in schedules.of_source(conn, CONFIG) if job_id not in wanted]
    for job_id in gone:
        _drop(conn, find(conn, job_id), now)
    return Reconciled(tuple(added), tuple(changed), tuple(gone))


def replan(conn: Connection, after: str, limit: int, now: int) -> str | None:
    """Plan up to `limit` jobs behind `after` anew from their watermarks: the time zone data may have changed
    since.

    Returns the id to go on from, None at the end.
    """
    page = schedules.page(conn, limit, after)
    for job in page:
        try:
            next_at = next_after(job.schedule, job.watermark)
        except BadRequest as error:
            stop(conn, job, error, now)
            continue
        if next_at != job.next_at:
            schedules.advance(conn, job.schedule.id, job.watermark, next_at, None)
    return page[-1].schedule.id if len(page) == limit else None


def _read(draft: Draft, job_id: str, known: Job | None, now: int) -> Schedule:
    before = None if known is None else known.schedule.when
    if isinstance(before, Every) and draft.anchor is None and draft.every_ms == before.ms:
        draft = replace(draft, anchor=before.anchor)
    try:
        return build(draft, job_id, now)
    except BadRequest as error:
        raise BadRequest(f"schedule {job_id}: {error.message}", **{**error.data, "schedule": job_id}) from None


def _begin(conn: Connection, schedule: Schedule, declared: bool | None, now: int) -> Job:
    watermark = _start(conn, schedule, now)
    job = Job(
        schedule=schedule,
        source=API if declared is None else CONFIG,
        declared=declared,
        watermark=watermark,
        next_at=next_after(schedule, watermark),
        last_at=None,
        created_at=now,
        updated_at=now,
    )
    schedules.insert(conn, job)
    tell(conn, schedule.id, "cron.added", {"source": job.source, "next_at": job.next_at}, now)
    return job


def _follow(conn: Connection, known: Job, schedule: Schedule, declared: bool, now: int) -> bool:
    """Take over what the file says; False when it says nothing new."""
    if known.declared == declared:
        # A person has enabled or disabled the job since: the file speaks about it again when it changes.
        schedule = replace(schedule, enabled=known.schedule.enabled)
    if known.source == CONFIG and known.declared == declared and _same(schedule, known.schedule):
        return False
    job = _redefine(conn, known, schedule, (CONFIG, declared), now)
    tell(conn, schedule.id, "cron.changed", {"enabled": schedule.enabled, "next_at": job.next_at}, now)
    return True


def _redefine(conn: Connection, known: Job, schedule: Schedule, origin: tuple[str, bool | None], now: int) -> Job:
    watermark = known.watermark
    if schedule.when != known.schedule.when or schedule.enabled != known.schedule.enabled:
        _give_up(conn, known, "changed" if schedule.enabled else "disabled", now)
        watermark = max(watermark, _start(conn, schedule, now))
    source, declared = origin
    job = replace(
        known,
        schedule=schedule,
        source=source,
        declared=declared,
        watermark=watermark,
        next_at=next_after(schedule, watermark),
        updated_at=now,
    )
    schedules.update(conn, job)
    return job


def _drop(conn: Connection, job: Job, now: int) -> None:
    _give_up(conn, job, "removed", now)
    schedules.delete(conn, job.schedule.id)
    tell(conn, job.schedule.id, "cron.removed", {"source": job.source}, now)


def _start(conn: Connection, schedule: Schedule, now: int) -> int:
    """The watermark a timetable begins at: now, or behind what this id has ended already (the clock was set
    back)."""
    if isinstance(schedule.when, At) and schedule.when.instant <= now and schedule.enabled:
        record(conn, _missed(schedule.id, schedule.when.instant, schedule.when.instant, 1, "past"), now)
    newest = schedules.newest(conn, schedule.id)
    return now if newest is None else max(now, newest)


def _give_up(conn: Connection, job: Job, reason: str, now: int) -> None:
    """Record what was planned and not met before the job's timetable ended."""
    if job.next_at is not None and job.next_at <= now:
        span = planned(job.schedule.when, job.watermark, now, 1)
        if span is not None:
            record(conn, _missed(job.schedule.id, span.first, span.newest[-1], span.count, reason), now)


def _missed(job_id: str, first: int, last: int, count: int, reason: str) -> Occurrence:
    return Occurrence(
        job_id=job_id,
        planned_at=first,
        outcome=Outcome.MISSED,
        reason=reason,
        first=first,
        last=last,
        count=count,
    )


def _same(one: Schedule, other: Schedule) -> bool:
    """Equal but for the spelling of the payload's containers."""
    level = replace(one, task=replace(one.task, payload=other.task.payload))
    return level == other and canonical_json(one.task.payload) == canonical_json(other.task.payload)
