"""The transactions that fire schedules: plain functions that run on the writer thread.

What a planned instant came to, its task, the job's watermark and the event that tells of it are one commit,
so a crash at any point leaves an instant either wholly ahead or wholly behind. Jobs refuse by value: one that
cannot fire does not hold up the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from goclaw.core.event import NewEvent
from goclaw.core.schedule import (
    Job,
    Judgement,
    Occurrence,
    Outcome,
    Overlap,
    judge,
    next_after,
    occurrence_task,
    upcoming,
)
from goclaw.db import Connection
from goclaw.errors import BadRequest, Conflict, NotFound, RequestError, Saturated
from goclaw.kernel import submission
from goclaw.kernel.submission import Submitted
from goclaw.store import events, schedules

BATCH = 50
"""Jobs fired in one transaction: some tens of milliseconds of the writer's time."""
_TOLD = {
    Outcome.RAN: "cron.fired",
    Outcome.SKIPPED: "cron.skipped",
    Outcome.MISSED: "cron.missed",
    Outcome.COALESCED: "cron.coalesced",
}


@dataclass(frozen=True, slots=True)
class Desk:
    """What a firing needs: the known agents with their longest queues, fresh task ids, the instant."""

    bounds: Mapping[str, int]
    fresh_id: Callable[[], str]
    now: int


@dataclass(frozen=True, slots=True)
class Round:
    """What one transaction did: the tasks it stored, and the next instant that any job waits for."""

    submitted: tuple[Submitted, ...]
    next_wake: int | None


def fire_due(conn: Connection, desk: Desk) -> Round:
    """Fire the jobs whose instant has come, at most `BATCH` of them, the earliest first."""
    submitted: list[Submitted] = []
    for job in schedules.due(conn, desk.now, BATCH):
        try:
            judged = judge(job.schedule, job.watermark, desk.now)
            next_at = next_after(job.schedule, job.watermark if judged is None else judged.watermark)
        except BadRequest as error:
            stop(conn, job, error, desk.now)
            continue
        if judged is None:
            # The rules of its zone have changed since `next_at` was planned.
            schedules.advance(conn, job.schedule.id, job.watermark, next_at, None)
        else:
            submitted += _fire(conn, job, judged, next_at, desk)
    return Round(tuple(submitted), schedules.next_wake(conn))


def run_now(conn: Connection, job_id: str, desk: Desk) -> Submitted:
    """Submit a run outside of the plan; the watermark stays. Raises NotFound (schedule or agent), Saturated,
    or Conflict when an earlier run has not ended and the job does not allow an overlap."""
    job = schedules.find(conn, job_id)
    if job is None:
        raise NotFound(f"there is no schedule {job_id!r}", id=job_id)
    busy = _busy(conn, job)
    if busy is not None:
        raise Conflict(f"a run of {job_id} has not ended yet", task_id=busy)
    at = _free_instant(conn, job, desk.now)
    done = submission.submit(conn, occurrence_task(job.schedule, at), desk.fresh_id(), desk.bounds, desk.now)
    run = Occurrence(
        job_id=job_id,
        planned_at=at,
        outcome=Outcome.RAN,
        reason="manual",
        task_id=done.task.id,
        first=at,
        last=at,
    )
    record(conn, run, desk.now, session_id=done.task.session_id)
    schedules.touch(conn, job_id, at)
    return done


def record(conn: Connection, one: Occurrence, now: int, **told: Any) -> None:
    """Store how an instant ended and tell it, unless it had ended before."""
    if not schedules.record(conn, one, now):
        return
    payload = {"planned_at": one.planned_at, "reason": one.reason, "task_id": one.task_id, **told}
    if one.outcome in (Outcome.MISSED, Outcome.COALESCED):
        payload |= {"first": one.first, "last": one.last, "count": one.count}
    tell(conn, one.job_id, _TOLD[one.outcome], payload, now)


def stop(conn: Connection, job: Job, error: BadRequest, now: int) -> None:
    """Disable a job that can no longer be planned (its zone is gone from the time zone data), visibly."""
    disabled = replace(job, schedule=replace(job.schedule, enabled=False), next_at=None, updated_at=now)
    schedules.update(conn, disabled)
    tell(conn, job.schedule.id, "cron.disabled", {"reason": error.message}, now)


def tell(conn: Connection, job_id: str, kind: str, payload: Mapping[str, Any], now: int) -> None:
    """Append an event about a job. It names its task in the payload only: a task's own log is the same for
    all."""
    given = {name: value for name, value in payload.items() if value is not None}
    events.append(conn, [NewEvent(type=kind, payload={"job_id": job_id, **given})], now)


def _fire(conn: Connection, job: Job, judged: Judgement, next_at: int | None, desk: Desk) -> list[Submitted]:
    busy = _busy(conn, job) if judged.runs else None
    submitted: list[Submitted] = []
    ran: list[Occurrence] = []
    for planned_at in judged.runs:
        on_time = planned_at == judged.watermark and not judged.late
        one, done = _run(conn, job, planned_at, busy, desk)
        if done is None:
            continue
        record(
            conn,
            replace(one, reason=None if on_time else "caught_up"),
            desk.now,
            session_id=done.task.session_id,
        )
        ran.append(one)
        if not done.known:
            submitted.append(done)
    if judged.rest is not None:
        stands_for = ran[0].task_id if ran and judged.rest.outcome is Outcome.COALESCED else None
        record(conn, replace(judged.rest, task_id=stands_for), desk.now)
    last_at = ran[-1].planned_at if ran else None
    schedules.advance(conn, job.schedule.id, judged.watermark, next_at, last_at)
    return submitted


def _run(
    conn: Connection, job: Job, planned_at: int, busy: str | None, desk: Desk
) -> tuple[Occurrence, Submitted | None]:
    """Submit one occurrence; or record why not."""
    job_id = job.schedule.id
    one = Occurrence(job_id=job_id, planned_at=planned_at, outcome=Outcome.SKIPPED, first=planned_at, last=planned_at)
    told: dict[str, Any] = {}
    if schedules.recorded(conn, job_id, planned_at):
        return one, None
    if busy is not None:
        reason, told = "overlap", {"unfinished": busy}
    else:
        try:
            new = occurrence_task(job.schedule, planned_at)
            done = submission.submit(conn, new, desk.fresh_id(), desk.bounds, desk.now)
            return replace(one, outcome=Outcome.RAN, task_id=done.task.id), done
        except Saturated:
            reason = "saturated"
        except NotFound as error:
            reason, told = "no_agent", {"error": error.message}
        except RequestError as error:
            reason, told = "refused", {"error_code": error.code, "error": error.message}
    record(conn, replace(one, reason=reason), desk.now, **told)
    return one, None


def _busy(conn: Connection, job: Job) -> str | None:
    """The run that forbids another one. The runs of one catch-up do not forbid each other."""
    return schedules.unfinished(conn, job.schedule.id) if job.schedule.overlap is Overlap.SKIP else None


def _free_instant(conn: Connection, job: Job, now: int) -> int:
    """The first millisecond from now on that is neither planned nor used."""
    while schedules.recorded(conn, job.schedule.id, now) or upcoming(job.schedule.when, now - 1, 1) == [now]:
        now += 1
    return now
