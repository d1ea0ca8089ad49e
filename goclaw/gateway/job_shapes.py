"""Schedules on the wire: jobs, occurrences, coming instants."""

from __future__ import annotations

from typing import Any

from goclaw.core.cron import local
from goclaw.core.schedule import At, Cron, Every, Job, Occurrence


def job_object(job: Job) -> dict[str, Any]:
    """A job as the wire shows it. `kind` is cron, every or at; the task's own kind stands in `task`."""
    schedule, task = job.schedule, job.schedule.task
    return {
        "id": schedule.id,
        "name": schedule.name,
        **_describe_when(job),
        "task": {
            "kind": task.kind,
            "payload": dict(task.payload),
            "agent_id": task.agent_id,
            "session_id": task.session_id,
            "priority": task.priority,
            "max_attempts": task.max_attempts,
            "deadline_ms": task.deadline_ms,
        },
        "enabled": schedule.enabled,
        "missed": str(schedule.missed),
        "overlap": str(schedule.overlap),
        "next_at": job.next_at,
        "last_at": job.last_at,
        "source": job.source,
        "created_at": job.created_at,
        "updated_at": job.updated_at,
    }


def occurrence_object(one: Occurrence) -> dict[str, Any]:
    """An occurrence as the wire shows it; `reason` and `task_id` only where there is one."""
    shown: dict[str, Any] = {"job_id": one.job_id, "planned_at": one.planned_at, "outcome": str(one.outcome)}
    shown |= {name: value for name in ("reason", "task_id") if (value := getattr(one, name)) is not None}
    return shown | {"first": one.first, "last": one.last, "count": one.count}


def instant_object(job: Job, instant: int) -> dict[str, Any]:
    """A coming run as the wire shows it: the instant, and the same as local and as UTC time in ISO 8601."""
    when = job.schedule.when
    zone = when.zone if isinstance(when, Cron) else "UTC"
    return {"at": instant, "local": local(instant, zone), "utc": local(instant, "UTC"), "zone": zone}


def _describe_when(job: Job) -> dict[str, Any]:
    match job.schedule.when:
        case Cron(expr, zone):
            return {"kind": "cron", "cron": expr, "zone": zone}
        case Every(ms, anchor):
            return {"kind": "every", "every_ms": ms, "anchor": anchor}
        case At(instant):
            return {"kind": "at", "at": instant}
