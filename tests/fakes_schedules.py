"""What the tests of schedules share: a database, a queue and a scheduler with a clock that is moved by hand."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from goclaw.core.agent import Agent
from goclaw.core.event import Event
from goclaw.core.outcome import Succeeded
from goclaw.core.schedule import Draft, Job
from goclaw.db import Database
from goclaw.kernel import jobs
from goclaw.kernel.firing import Desk
from goclaw.kernel.queue import Queue
from goclaw.kernel.scheduler import (
    Scheduler,
)
from goclaw.store import events, schedules
from goclaw.store.tasks import TaskFilter
from tests.fakes_clock import START, FakeClock

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR


class House:
    """A database, a queue and a scheduler on it, with a clock that is moved by hand."""

    def __init__(self, database: Database, clock: FakeClock) -> None:
        self.agents = {"default": Agent(id="default", display_name="Default", soul="")}
        self.database = database
        self.clock = clock
        self.rung: list[str] = []
        self.queue = Queue(
            database,
            clock,
            boot_id="boot",
            agents=lambda: self.agents,
            policy_version=lambda: "v1",
            jitter=lambda: 0.0,
        )
        self.queue.listen(lambda ready: self.rung.extend(ready), lambda: None)
        self.scheduler = Scheduler(database, self.queue, clock, agents=lambda: self.agents)

    async def add(self, job_id: str = "job", **fields: Any) -> Job:
        given: dict[str, Any] = {"kind": "noop", "every_ms": HOUR} | fields
        return await self.scheduler.add(Draft(id=job_id, **given))

    async def declare(self, *drafts: Draft) -> jobs.Reconciled:
        return await self.scheduler.reconcile(drafts)

    async def fire(self) -> None:
        """What the scheduler does between two sleeps."""
        await self.scheduler.fire_due()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """The scheduler runs."""
        async with asyncio.TaskGroup() as group:
            worker = group.create_task(self.scheduler.run())
            try:
                yield
            finally:
                worker.cancel()

    async def history(self, job_id: str = "job") -> list[tuple[str, int, int, str | None]]:
        """(outcome, minutes after the start, count, reason), oldest first."""
        found = await self.database.read(schedules.history, job_id, 1_000, None)
        return [(str(one.outcome), (one.planned_at - START) // MINUTE, one.count, one.reason) for one in found[::-1]]

    async def tasks(self) -> int:
        return len(await self.queue.page(TaskFilter(), 10_000, None))

    async def told(self, prefix: str = "cron.") -> list[Event]:
        log = await self.database.read(events.read_after, 0)
        return [event for event in log if event.event_type.startswith(prefix)]

    async def finish_all(self) -> None:
        """Every queued task is claimed and done."""
        for claimed in await self.queue.claim("default", 1_000):
            await self.queue.finish(claimed.stored, Succeeded())

    async def tamper(self, change: Callable[[sqlite3.Connection], object]) -> None:
        await self.database.write(change)

    def desk(self) -> Desk:
        ids = iter(range(10**6))
        return Desk({"default": 1_000}, lambda: f"task-{next(ids)}", self.clock.wall())


@asynccontextmanager
async def reopened(path: Path, clock: FakeClock) -> AsyncIterator[House]:
    async with Database(path, clock) as database:
        yield House(database, clock)


async def raises(kind: type[Exception], what: Awaitable[object]) -> Any:
    with pytest.raises(kind) as caught:
        await what
    return caught.value
