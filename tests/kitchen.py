"""A database, a queue and a pool on a fake clock, for tests that run real workers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from goclaw.core.agent import Agent
from goclaw.core.event import Delta, Event
from goclaw.core.ports import Handler
from goclaw.core.task import TERMINAL, NewTask, Task
from goclaw.db import Database
from goclaw.kernel.pool import Pool
from goclaw.kernel.queue import Queue
from goclaw.store import events
from tests.fakes_clock import FakeClock

PATIENCE_S = 30
"""How long a test waits, in real time, for something that must come at once."""


def agent(name: str, workers: int = 4, depth: int = 10_000) -> Agent:
    return Agent(id=name, display_name=name, soul="", worker_count=workers, max_queue_depth=depth)


class Kitchen:
    """Everything a worker needs. `handlers` may be changed until the pool is started."""

    def __init__(
        self,
        path: Path,
        handlers: Mapping[str, Handler],
        *agents: Agent,
        queue: type[Queue] = Queue,
        clock: FakeClock | None = None,
    ) -> None:
        self.clock = clock or FakeClock()
        self.agents = {one.id: one for one in agents or (agent("default"), agent("other"))}
        self.reported: list[BaseException] = []
        self.deltas: list[Delta] = []
        self.timeout_ms = 3_600_000
        self.database = Database(path, self.clock, on_commit=self._committed)
        self.queue = queue(
            self.database,
            self.clock,
            boot_id="boot-1",
            agents=lambda: self.agents,
            policy_version=lambda: "policy-1",
            jitter=lambda: 0.0,
        )
        self.pool = Pool(
            self.queue,
            self.database,
            self.clock,
            agents=lambda: self.agents,
            handlers=handlers,
            show=self.deltas.append,
            timeout_ms=lambda: self.timeout_ms,
            report=lambda _, error: self.reported.append(error),
        )
        self._bell = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    def _committed(self) -> None:
        self._bell.set()

    async def __aenter__(self) -> Self:
        await self.database.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.stop()
        finally:
            await self.database.__aexit__(kind, error, trace)

    def start(self) -> None:
        """Let the workers work."""
        self._running = asyncio.ensure_future(self.pool.run())

    async def stop(self) -> None:
        """End the workers, as a cancelled daemon would; what they raised comes here."""
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    async def submit(self, new: NewTask) -> Task:
        return (await self.queue.submit(new)).task

    async def get(self, task_id: str) -> Task:
        return await self.queue.get(task_id)

    async def until(self, task_id: str, *states: str, holds: Callable[[Task], bool] = lambda _: True) -> Task:
        """The task as soon as a commit has put it into one of these states."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                self._bell.clear()
                task = await self.queue.get(task_id)
                if task.state in states and holds(task):
                    return task
                assert self._running is None or not self._running.done(), "the pool has ended"
                await self._bell.wait()

    async def turns(self, fact: Callable[[], bool]) -> None:
        """Give way to the other tasks until it is so; for facts that no commit tells of."""
        async with asyncio.timeout(PATIENCE_S):
            while not fact():  # noqa: ASYNC110 (nothing rings for a sleeper or a worker that has gone)
                await asyncio.sleep(0)

    async def finished(self, task_id: str) -> Task:
        return await self.until(task_id, *TERMINAL)

    async def story(self, task_id: str) -> list[str]:
        return [event.event_type for event in await self.events(task_id)]

    async def events(self, task_id: str) -> list[Event]:
        return await self.database.read(events.read_task, task_id, 0)


class Held:
    """A handler that holds its tasks until it is told to let go, and notes what it saw."""

    def __init__(self, outcome: Any) -> None:
        self._outcome = outcome
        self._arrived = asyncio.Event()
        self.go = asyncio.Event()
        self.inside: list[str] = []
        self.most = 0
        self.seen: list[Task] = []
        self.canceled: list[str] = []

    async def __call__(self, attempt: Any) -> Any:
        task: Task = attempt.task
        self.seen.append(task)
        self.inside.append(task.id)
        self.most = max(self.most, len(self.inside))
        self._arrived.set()
        try:
            await self.go.wait()
            return self._outcome
        except asyncio.CancelledError:
            self.canceled.append(task.id)
            raise
        finally:
            self.inside.remove(task.id)

    async def arrived(self, count: int) -> None:
        """Return when `count` attempts have begun in all."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.seen) < count:
                self._arrived.clear()
                await self._arrived.wait()
