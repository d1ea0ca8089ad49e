"""Waiting for the end of tasks: many waiters, one reader of the event log."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from goclaw.bus import Bus
from goclaw.core.task import TERMINAL, Task
from goclaw.db.database import Database
from goclaw.errors import NotFound, ShuttingDown, WaitTimeout
from goclaw.store import events, tasks


class Waiters:
    """Resolves waits when a task's last event is read. `run` lives as long as the gateway."""

    def __init__(self, bus: Bus, database: Database) -> None:
        self._bus = bus
        self._database = database
        self._waiting: defaultdict[str, set[asyncio.Future[None]]] = defaultdict(set)
        self._bell = asyncio.Event()
        self._closed = False

    async def run(self) -> None:
        """Follow the log while somebody waits. Runs until cancelled."""
        while True:
            await self._bell.wait()
            self._bell.clear()
            with self._bus.subscribe(lambda _: False) as reader:
                cursor = await self._database.read(events.head)
                # What ended before the cursor is found by each waiter's own look at the row.
                self._look_again()
                while self._waiting:
                    await reader.wait()
                    while page := await self._bus.followed(cursor):
                        cursor = page[-1].event_id
                        for event in page:
                            if event.state_to in TERMINAL and event.task_id in self._waiting:
                                self._wake(event.task_id)

    def close(self) -> None:
        """The daemon stops: who waits is told so, in the next round of the loop, and who comes later at once."""
        self._closed = True
        self._look_again()

    async def wait(self, task_id: str, timeout_ms: int | None) -> Task:
        """The task once it is terminal. Raises NotFound, ShuttingDown, or WaitTimeout when the time is over."""
        try:
            async with asyncio.timeout(None if timeout_ms is None else timeout_ms / 1000):
                while True:
                    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    self._waiting[task_id].add(future)
                    self._bell.set()
                    try:
                        stored = await self._database.read(tasks.by_id, task_id)
                        if stored is None:
                            raise NotFound(f"there is no task {task_id}", task_id=task_id)
                        if stored.task.state in TERMINAL:
                            return stored.task
                        if not self._closed:
                            await future
                        if self._closed:
                            raise ShuttingDown("the daemon stops; the task goes on after the restart")
                    finally:
                        self._forget(task_id, future)
        except TimeoutError:
            raise WaitTimeout(f"task {task_id} has not ended within {timeout_ms} ms", task_id=task_id) from None

    def _wake(self, task_id: str | None) -> None:
        for future in self._waiting.get(task_id or "", ()):
            if not future.done():
                future.set_result(None)

    def _look_again(self) -> None:
        for task_id in list(self._waiting):
            self._wake(task_id)

    def _forget(self, task_id: str, future: asyncio.Future[None]) -> None:
        waiting = self._waiting[task_id]
        waiting.discard(future)
        if not waiting:
            del self._waiting[task_id]
