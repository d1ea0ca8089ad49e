"""Waiting for the end of tasks: nobody is forgotten, and nobody waits for a daemon that stops."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from goclaw.bus import Bus
from goclaw.core.event import Event
from goclaw.core.task import TaskState
from goclaw.errors import NotFound, ShuttingDown, WaitTimeout
from goclaw.gateway.waiting import Waiters
from goclaw.store import events
from tests.scratch import running


class Place:
    """Tasks and their log in memory."""

    def __init__(self, *task_ids: str) -> None:
        self.rows = {task_id: running(id=task_id) for task_id in task_ids}
        self.log: list[Event] = []
        self.bus = Bus(self._after)
        database: Any = SimpleNamespace(read=self._read)
        self.waiters = Waiters(self.bus, database)

    def end(self, task_id: str) -> None:
        self.rows[task_id] = running(id=task_id, state=TaskState.SUCCEEDED)
        self.log.append(
            Event(
                event_id=len(self.log) + 1,
                event_type="task.succeeded",
                task_id=task_id,
                session_id=None,
                state_from="RUNNING",
                state_to="SUCCEEDED",
                run_id=None,
                trace_id=None,
                payload={},
                created_at=0,
            )
        )
        self.bus.ring()

    async def _after(self, cursor: int, limit: int) -> list[Event]:
        await asyncio.sleep(0)
        return self.log[cursor : cursor + limit]

    async def _read(self, query: Any, *args: Any) -> Any:
        await asyncio.sleep(0)
        if query is events.head:
            return len(self.log)
        task = self.rows.get(args[0])
        return None if task is None else SimpleNamespace(task=task)


@pytest.mark.spec("GC-ACP-230")
async def test_everybody_who_waits_is_told_whenever_the_task_ends() -> None:
    names = [f"t{number}" for number in range(100)]
    place = Place(*names)
    async with asyncio.TaskGroup() as group, asyncio.timeout(10):
        following = [group.create_task(place.bus.run()), group.create_task(place.waiters.run())]
        waits = []
        for number, name in enumerate(names):
            waits += [group.create_task(place.waiters.wait(name, None)) for _ in range(3)]
            for _ in range(number % 7):
                await asyncio.sleep(0)
            place.end(name)
        ended = [(await wait).id for wait in waits]
        for task in following:
            task.cancel()
    assert ended == [name for name in names for _ in range(3)]


@pytest.mark.spec("GC-ACP-230")
async def test_what_does_not_exist_and_what_takes_too_long_are_told_apart() -> None:
    place = Place("t")
    with pytest.raises(NotFound):
        await place.waiters.wait("other", None)
    with pytest.raises(WaitTimeout):
        await place.waiters.wait("t", 1)


@pytest.mark.spec("GC-RUN-210")
@pytest.mark.parametrize("rounds", range(5))
async def test_when_the_daemon_stops_who_waits_is_told_and_what_has_ended_is_still_shown(rounds: int) -> None:
    place = Place("t", "done")
    place.end("done")
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(_refusal(place, "t"))
        for _ in range(rounds):
            await asyncio.sleep(0)
        place.waiters.close()
        async with asyncio.timeout(5):
            assert await waiting
    assert await _refusal(place, "t")
    assert (await place.waiters.wait("done", None)).id == "done"


async def _refusal(place: Place, task_id: str) -> bool:
    try:
        await place.waiters.wait(task_id, None)
    except ShuttingDown:
        return True
    return False
