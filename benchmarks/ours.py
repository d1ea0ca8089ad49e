"""goclaw as a library: a database, a queue and a pool, put together as the daemon does it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from benchmarks import books
from benchmarks.stopwatch import Stopwatch, Took
from goclaw.clock import SystemClock
from goclaw.core.agent import Agent
from goclaw.core.event import Delta
from goclaw.core.outcome import Outcome
from goclaw.core.ports import Attempt
from goclaw.core.task import NewTask, Task
from goclaw.db.database import Database
from goclaw.kernel.noop import noop_handler
from goclaw.kernel.pool import Pool
from goclaw.kernel.queue import Queue

NOOP = NewTask(kind="noop", payload={})
PREFILL = 1_000
HOUR_MS = 3_600_000
Handler = Callable[[Attempt], Awaitable[Outcome]]


@dataclass(frozen=True, slots=True)
class Kernel:
    """An open database and a queue; `pool` gives it workers."""

    database: Database
    queue: Queue
    clock: SystemClock
    agent: Agent

    def pool(self, handler: Handler) -> Pool:
        """Workers for the one lane. An error of a handler ends the measurement."""
        return Pool(
            self.queue,
            self.database,
            self.clock,
            agents=lambda: {self.agent.id: self.agent},
            handlers={"noop": handler},
            show=_unseen,
            timeout_ms=lambda: HOUR_MS,
            report=_fatal,
        )

    def renewed(self) -> Kernel:
        """The same database with a queue that no earlier pool listens to: a drained pool does not come back."""
        return Kernel(self.database, _queue(self.database, self.clock, self.agent), self.clock, self.agent)


def _unseen(_: Delta) -> None:
    """Nobody watches."""


def _fatal(task: Task, error: BaseException) -> None:
    raise books.WrongBooks(f"task {task.id} failed: {error!r}") from error


def _queue(database: Database, clock: SystemClock, agent: Agent) -> Queue:
    return Queue(
        database,
        clock,
        boot_id="bench",
        agents=lambda: {agent.id: agent},
        policy_version=lambda: "bench",
        jitter=lambda: 0.0,
    )


@asynccontextmanager
async def kernel(path: Path, workers: int, on_commit: Callable[[], None] = lambda: None) -> AsyncIterator[Kernel]:
    """The kernel on a file, with one lane of `workers`."""
    clock = SystemClock()
    agent = Agent(id="default", display_name="default", soul="", worker_count=workers, max_queue_depth=2_000_000)
    async with Database(path, clock, on_commit=on_commit) as database:
        await database.apply(books.expect_full)
        yield Kernel(database, _queue(database, clock, agent), clock, agent)


async def prefill(queue: Queue, count: int) -> None:
    """Queue `count` tasks."""
    for start in range(0, count, PREFILL):
        await queue.submit_many([NOOP] * min(PREFILL, count - start))


class Counting:
    """The noop handler; rings when `count` attempts have begun."""

    def __init__(self, clock: SystemClock, count: int) -> None:
        self._noop = noop_handler(clock)
        self._count = count
        self.begun = 0
        self.all_begun = asyncio.Event()

    async def __call__(self, attempt: Attempt) -> Outcome:
        self.begun += 1
        if self.begun == self._count:
            self.all_begun.set()
        return await self._noop(attempt)


class Watch:
    """Looks on: `begin` when the queue is full and the clock is about to start, `end` when it has been stopped."""

    async def begin(self, made: Kernel) -> None:
        """Before the first claim."""

    async def end(self, made: Kernel) -> None:
        """After the last task has succeeded, before the database is closed."""


async def work(path: Path, count: int, workers: int, watch: Watch | None = None) -> Took:
    """Seconds from the start of the pool until `count` queued tasks have durably succeeded."""
    watch = watch or Watch()
    async with kernel(path, workers) as made:
        await prefill(made.queue, count)
        handler = Counting(made.clock, count)
        pool = made.pool(handler)
        await watch.begin(made)
        stopwatch = Stopwatch()
        running = asyncio.create_task(pool.run())
        await _unless_ended(running, handler.all_begun)
        await rest(pool)
        took = stopwatch.read()
        await watch.end(made)
        await stop(running)
    return took


async def rest(pool: Pool) -> None:
    """Until the last workers have settled. The rest of one commit, so that turning is cheaper than listening."""
    while pool.running:  # noqa: ASYNC110 (nothing rings when the last one has settled)
        await asyncio.sleep(0)


async def stop(running: asyncio.Task[None]) -> None:
    """End the workers; what they raised comes here."""
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def _unless_ended(running: asyncio.Task[None], fact: asyncio.Event) -> None:
    waiting = asyncio.create_task(fact.wait())
    await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
    if not fact.is_set():
        waiting.cancel()
        await running


async def submits(path: Path, count: int, callers: int) -> Took:
    """Seconds until `callers`, each waiting for its own acknowledgement, have submitted `count` tasks."""
    async with kernel(path, 1) as made:

        async def caller(share: int) -> None:
            for _ in range(share):
                await made.queue.submit(NOOP)

        watch = Stopwatch()
        async with asyncio.TaskGroup() as group:
            for number in range(callers):
                group.create_task(caller(count // callers + (number < count % callers)))
        return watch.read()


async def pickup(path: Path, count: int, pause_s: float = 0.003) -> tuple[list[float], list[float]]:
    """Of `count` lone tasks for an idle pool: seconds from acknowledgement and from the call of submit to the
    handler."""
    async with kernel(path, 16) as made:
        noop = noop_handler(made.clock)
        begun = 0.0
        bell = asyncio.Event()

        async def handler(attempt: Attempt) -> Outcome:
            nonlocal begun
            begun = perf_counter()
            bell.set()
            return await noop(attempt)

        pool = made.pool(handler)
        running = asyncio.create_task(pool.run())
        after_ack, in_all = [], []
        for _ in range(count):
            called = perf_counter()
            await made.queue.submit(NOOP)
            acknowledged = perf_counter()
            await bell.wait()
            bell.clear()
            after_ack.append(max(begun - acknowledged, 0.0))
            in_all.append(begun - called)
            await asyncio.sleep(pause_s)
            await rest(pool)
        await stop(running)
    return after_ack, in_all
