"""Schedule rows and the rows of their occurrences."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from goclaw.core.canonical import canonical_json
from goclaw.core.schedule import (
    At,
    Cron,
    Every,
    Job,
    Occurrence,
    Outcome,
    Overlap,
    Schedule,
    Template,
    When,
    read_missed,
)
from goclaw.db.queries import load_queries
from goclaw.store.sessions import NEWEST

_SQL = load_queries("schedules")


def insert(conn: sqlite3.Connection, job: Job) -> None:
    """Store a job whose id is free."""
    conn.execute(_SQL.insert, _row(job))


def update(conn: sqlite3.Connection, job: Job) -> bool:
    """Write a job's definition and standing (all but `last_at`); False when that would move its watermark
    back."""
    return conn.execute(_SQL.update, _row(job)).rowcount == 1


def advance(conn: sqlite3.Connection, job_id: str, watermark: int, next_at: int | None, last_at: int | None) -> bool:
    """Move the watermark; False when that would move it back. `last_at` None leaves it."""
    given = {"id": job_id, "watermark": watermark, "next_at": next_at, "last_at": last_at}
    return conn.execute(_SQL.advance, given).rowcount == 1


def touch(conn: sqlite3.Connection, job_id: str, last_at: int) -> None:
    """Note a run outside of the plan."""
    conn.execute(_SQL.touch, {"id": job_id, "last_at": last_at})


def delete(conn: sqlite3.Connection, job_id: str) -> bool:
    """Remove a job, not its history; False when there was none."""
    return conn.execute(_SQL.delete, {"id": job_id}).rowcount == 1


def find(conn: sqlite3.Connection, job_id: str) -> Job | None:
    """The job, or None."""
    row = conn.execute(_SQL.by_id, {"id": job_id}).fetchone()
    return None if row is None else _job(row)


def page(conn: sqlite3.Connection, limit: int, after: str | None) -> list[Job]:
    """Up to `limit` jobs in the order of their ids, behind `after`."""
    return [_job(row) for row in conn.execute(_SQL.page, {"limit": limit, "after": after or ""})]


def of_source(conn: sqlite3.Connection, source: str) -> list[str]:
    """Ids of the jobs from `config` or `api`."""
    return [str(row[0]) for row in conn.execute(_SQL.of_source, {"source": source})]


def count(conn: sqlite3.Connection) -> int:
    """How many jobs there are."""
    return int(conn.execute(_SQL.count).fetchone()[0])


def due(conn: sqlite3.Connection, now: int, limit: int) -> list[Job]:
    """Up to `limit` jobs whose instant has come, the earliest first."""
    return [_job(row) for row in conn.execute(_SQL.due, {"now": now, "limit": limit}).fetchall()]


def next_wake(conn: sqlite3.Connection) -> int | None:
    """The earliest instant that any job waits for."""
    row = conn.execute(_SQL.next_wake).fetchone()
    return None if row is None else int(row[0])


def record(conn: sqlite3.Connection, one: Occurrence, now: int) -> bool:
    """Store how an instant ended; False when that was recorded before, and then nothing changes."""
    given = {
        "job_id": one.job_id,
        "planned_at": one.planned_at,
        "outcome": one.outcome,
        "reason": one.reason,
        "task_id": one.task_id,
        "first": one.first,
        "last": one.last,
        "count": one.count,
        "open": one.outcome is Outcome.RAN,
        "now": now,
    }
    return conn.execute(_SQL.record, given).rowcount == 1


def recorded(conn: sqlite3.Connection, job_id: str, planned_at: int) -> bool:
    """Whether a row begins at this instant."""
    return conn.execute(_SQL.recorded, {"job_id": job_id, "planned_at": planned_at}).fetchone() is not None


def newest(conn: sqlite3.Connection, job_id: str) -> int | None:
    """The last instant of the job's newest row, also when the job itself is gone."""
    row = conn.execute(_SQL.newest, {"job_id": job_id}).fetchone()
    return None if row is None else int(row[0])


def unfinished(conn: sqlite3.Connection, job_id: str) -> str | None:
    """The task of the newest run that has not ended. A run that ended and was redriven is not looked at
    again."""
    conn.execute(_SQL.close_ended, {"job_id": job_id})
    row = conn.execute(_SQL.unfinished, {"job_id": job_id}).fetchone()
    return None if row is None else str(row[0])


def history(conn: sqlite3.Connection, job_id: str, limit: int, before: int | None) -> list[Occurrence]:
    """Up to `limit` occurrences, newest first, planned before `before`."""
    given = {"job_id": job_id, "limit": limit, "before": NEWEST if before is None else before}
    return [
        Occurrence(**{**dict(row), "outcome": Outcome(row["outcome"])}) for row in conn.execute(_SQL.history, given)
    ]


def _row(job: Job) -> dict[str, Any]:
    schedule, task = job.schedule, job.schedule.task
    return {
        "id": schedule.id,
        "name": schedule.name,
        "source": job.source,
        **_when_columns(schedule.when),
        "task_kind": task.kind,
        "payload_json": canonical_json(task.payload),
        "agent_id": task.agent_id,
        "session_id": task.session_id,
        "priority": task.priority,
        "max_attempts": task.max_attempts,
        "deadline_ms": task.deadline_ms,
        "enabled": schedule.enabled,
        "declared": job.declared,
        "missed": str(schedule.missed),
        "overlap": schedule.overlap,
        "watermark": job.watermark,
        "next_at": job.next_at,
        "last_at": job.last_at,
        "created_at": job.created_at,
        "updated_at": job.updated_at,
    }


def _when_columns(when: When) -> dict[str, Any]:
    columns: dict[str, Any] = dict.fromkeys(("cron", "zone", "every_ms", "anchor", "at"))
    match when:
        case Cron(expr, zone):
            return columns | {"kind": "cron", "cron": expr, "zone": zone}
        case Every(ms, anchor):
            return columns | {"kind": "every", "every_ms": ms, "anchor": anchor}
        case At(instant):
            return columns | {"kind": "at", "at": instant}


def _when(row: sqlite3.Row) -> When:
    if row["kind"] == "cron":
        return Cron(row["cron"], row["zone"])
    return Every(row["every_ms"], row["anchor"]) if row["kind"] == "every" else At(row["at"])


def _job(row: sqlite3.Row) -> Job:
    return Job(
        schedule=Schedule(
            id=row["id"],
            name=row["name"],
            when=_when(row),
            task=Template(
                kind=row["task_kind"],
                payload=json.loads(row["payload_json"]),
                agent_id=row["agent_id"],
                session_id=row["session_id"],
                priority=row["priority"],
                max_attempts=row["max_attempts"],
                deadline_ms=row["deadline_ms"],
            ),
            enabled=bool(row["enabled"]),
            missed=read_missed(row["missed"]),
            overlap=Overlap(row["overlap"]),
        ),
        source=row["source"],
        declared=None if row["declared"] is None else bool(row["declared"]),
        watermark=row["watermark"],
        next_at=row["next_at"],
        last_at=row["last_at"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
