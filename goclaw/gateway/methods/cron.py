"""`cron.*`: schedules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from goclaw.core.schedule import Draft, Job, Occurrence
from goclaw.errors import BadRequest
from goclaw.gateway.house import SubmittedTask
from goclaw.gateway.job_shapes import instant_object, job_object, occurrence_object
from goclaw.gateway.methods.task import submitted
from goclaw.gateway.rpc import Call, Method
from goclaw.wire.params import CronAdd, CronHistory, CronId, CronList, CronNext

MAX_PAGE = 500


class Schedules(Protocol):
    """The scheduler as this namespace needs it."""

    async def add(self, draft: Draft) -> Job:
        """Store a job."""
        ...

    async def remove(self, job_id: str) -> Job:
        """Remove a job."""
        ...

    async def enable(self, job_id: str) -> Job:
        """Let it fire."""
        ...

    async def disable(self, job_id: str) -> Job:
        """Let it not fire."""
        ...

    async def run_now(self, job_id: str) -> SubmittedTask:
        """Submit a run outside of the plan."""
        ...

    async def get(self, job_id: str) -> Job:
        """One job."""
        ...

    async def list(self, limit: int = 500, after: str | None = None) -> Sequence[Job]:
        """Jobs by id."""
        ...

    async def next(self, job_id: str, limit: int = 5) -> Sequence[int]:
        """Coming instants."""
        ...

    async def history(self, job_id: str, limit: int = 50, before: int | None = None) -> Sequence[Occurrence]:
        """What became of past ones."""
        ...


def cron_methods(schedules: Schedules) -> tuple[Method, ...]:
    """The table of `cron.*`."""

    async def list_(_: Call, params: CronList) -> dict[str, Any]:
        jobs = await schedules.list(_bounded(params.limit) + 1, params.cursor)
        page: dict[str, Any] = {"schedules": [job_object(job) for job in jobs[: params.limit]]}
        if len(jobs) > params.limit:
            page["next_cursor"] = jobs[params.limit - 1].schedule.id
        return page

    async def add(_: Call, params: CronAdd) -> dict[str, Any]:
        return {"schedule": job_object(await schedules.add(Draft(**vars(params))))}

    async def remove(_: Call, params: CronId) -> dict[str, Any]:
        await schedules.remove(params.id)
        return {"removed": True, "id": params.id}

    async def enable(_: Call, params: CronId) -> dict[str, Any]:
        return {"schedule": job_object(await schedules.enable(params.id))}

    async def disable(_: Call, params: CronId) -> dict[str, Any]:
        return {"schedule": job_object(await schedules.disable(params.id))}

    async def run(_: Call, params: CronId) -> dict[str, Any]:
        return submitted(await schedules.run_now(params.id))

    async def next_(_: Call, params: CronNext) -> dict[str, Any]:
        instants = await schedules.next(params.id, _bounded(params.limit))
        job = await schedules.get(params.id)
        return {"next": [instant_object(job, instant) for instant in instants]}

    async def history(_: Call, params: CronHistory) -> dict[str, Any]:
        found = await schedules.history(params.id, _bounded(params.limit), params.before)
        return {"occurrences": [occurrence_object(one) for one in found]}

    return (
        Method("cron.list", CronList, "acp.read", list_),
        Method("cron.add", CronAdd, "tools.cron", add),
        Method("cron.remove", CronId, "tools.cron", remove),
        Method("cron.enable", CronId, "tools.cron", enable),
        Method("cron.disable", CronId, "tools.cron", disable),
        Method("cron.run", CronId, "tools.cron", run),
        Method("cron.next", CronNext, "acp.read", next_),
        Method("cron.history", CronHistory, "acp.read", history),
    )


def _bounded(limit: int) -> int:
    if not 1 <= limit <= MAX_PAGE:
        raise BadRequest(f"limit is from 1 to {MAX_PAGE}", field="limit")
    return limit


__all__ = ["Schedules", "cron_methods"]
