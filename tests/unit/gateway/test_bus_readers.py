"""The doorbell: nobody misses what is in the log, whoever else reads and from wherever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from goclaw.bus import DELTAS, PAGE, RING, Bus
from goclaw.core.event import Delta, Event


def event(number: int) -> Event:
    return Event(
        event_id=number,
        event_type="task.enqueued",
        task_id=None,
        session_id=None,
        state_from=None,
        state_to=None,
        run_id=None,
        trace_id=None,
        payload={},
        created_at=0,
    )


class Log:
    """An event log in memory that counts how it is read."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.reads = 0
        self.bus = Bus(self.read)

    def commit(self, count: int = 1) -> None:
        self.events += [event(len(self.events) + number + 1) for number in range(count)]
        self.bus.ring()

    async def read(self, cursor: int, limit: int) -> list[Event]:
        self.reads += 1
        found = self.events[cursor : cursor + limit]
        await asyncio.sleep(0)
        return found

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Bus]:
        async with asyncio.TaskGroup() as group:
            following = group.create_task(self.bus.run())
            yield self.bus
            following.cancel()


async def ids_until(bus: Bus, cursor: int, last: int) -> list[int]:
    """What a live reader sees from a cursor to an id."""
    seen: list[int] = []
    with bus.subscribe(lambda _: False) as reader:
        while not seen or seen[-1] < last:
            async with asyncio.timeout(5):
                await reader.wait()
            while page := await bus.after(cursor):
                seen += [one.event_id for one in page]
                cursor = seen[-1]
    return seen


@pytest.mark.spec("GC-ACP-220")
async def test_readers_at_different_places_each_see_everything_behind_their_cursor_once() -> None:
    log = Log()
    log.commit(10)
    async with log.running() as bus, asyncio.TaskGroup() as group:
        readers = [group.create_task(ids_until(bus, cursor, 3_000)) for cursor in (0, 4, 10)]
        for _ in range(299):
            await asyncio.sleep(0)
            log.commit(10)
    assert [reader.result() for reader in readers] == [list(range(start, 3_001)) for start in (1, 5, 11)]


@pytest.mark.spec("GC-ACP-220")
async def test_a_reader_ahead_of_the_bus_takes_no_news_from_one_behind_it() -> None:
    log = Log()
    async with log.running() as bus:
        with bus.subscribe(lambda _: False) as slow:
            assert await bus.after(0) == []
            # Before the bus has followed, a reader comes that has read the table to its end.
            log.commit()
            assert await bus.after(1) == []
            async with asyncio.timeout(5):
                await slow.wait()
            assert [one.event_id for one in await bus.after(0)] == [1]


@pytest.mark.spec("GC-ACP-220")
async def test_many_readers_of_the_same_news_cost_one_read_of_the_table() -> None:
    log = Log()
    async with log.running() as bus, asyncio.TaskGroup() as group:
        for _ in range(50):
            group.create_task(ids_until(bus, 0, 200))
        await asyncio.sleep(0.01)
        before = log.reads
        for _ in range(200):
            log.commit()
    assert log.reads - before < 100


@pytest.mark.spec("GC-ACP-221")
async def test_the_first_reader_after_a_long_silence_does_not_pay_for_it() -> None:
    log = Log()
    async with log.running() as bus:
        log.commit(50 * PAGE)
        await asyncio.sleep(0)
        assert await ids_until(bus, 50 * PAGE - 3, 50 * PAGE) == [50 * PAGE - 2, 50 * PAGE - 1, 50 * PAGE]
        assert log.reads < 5


@pytest.mark.spec("GC-ACP-221")
async def test_the_ring_is_bounded_and_older_events_come_from_the_table() -> None:
    log = Log()
    async with log.running() as bus:
        with bus.subscribe(lambda _: False) as reader:
            log.commit(RING + 10)
            cursor = 0
            while cursor < RING + 10:
                async with asyncio.timeout(5):
                    await reader.wait()
                while page := await bus.after(cursor):
                    cursor = page[-1].event_id
            before = log.reads
            assert (await bus.after(RING))[0].event_id == RING + 1
            assert log.reads == before
            assert (await bus.after(3))[0].event_id == 4
            assert log.reads == before + 1


async def test_deltas_go_to_those_who_want_them_and_the_oldest_is_dropped_when_full() -> None:
    log = Log()
    with (
        log.bus.subscribe(lambda delta: delta.task_id == "t") as wanting,
        log.bus.subscribe(lambda _: False) as other,
    ):
        for number in range(DELTAS + 2):
            log.bus.show(Delta(task_id="t", session_id=None, seq=number, content="x"))
        log.bus.show(Delta(task_id="u", session_id=None, seq=1, content="y"))
        await wanting.wait()
        assert [delta.seq for delta in wanting.deltas] == list(range(2, DELTAS + 2))
        assert not other.deltas


@pytest.mark.spec("GC-RUN-210")
async def test_settling_waits_until_every_reader_has_taken_what_there_is_and_for_none_that_left() -> None:
    log = Log()
    taken: list[int] = []

    async def read(bus: Bus) -> None:
        with bus.subscribe(lambda _: False) as reader:
            while True:
                await reader.wait()
                while page := await bus.after(taken[-1] if taken else 0):
                    await asyncio.sleep(0.01)
                    taken.extend(one.event_id for one in page)

    async with log.running() as bus, asyncio.TaskGroup() as group:
        reading = group.create_task(read(bus))
        await asyncio.sleep(0)
        log.commit(3 * PAGE)
        await bus.settle()
        assert len(taken) == 3 * PAGE
        with bus.subscribe(lambda _: False):
            settling = group.create_task(bus.settle())
            await asyncio.sleep(0.01)
            assert not settling.done()
        await settling
        reading.cancel()
