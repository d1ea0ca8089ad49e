"""The doorbell: no gap, no repeat, one read of the table for many readers; deltas are bounded."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from goclaw import bus as bus_module
from goclaw.bus import DELTAS, PAGE, Bus
from goclaw.core.event import Delta, Event


def event(number: int) -> Event:
    return Event(
        event_id=number,
        event_type="task.progress",
        task_id=None,
        session_id=None,
        state_from=None,
        state_to=None,
        run_id=None,
        trace_id=None,
        payload={},
        created_at=0,
    )


def delta(number: int) -> Delta:
    return Delta(task_id="t", session_id=None, seq=number, content="x")


class Table:
    """The log: grows by commits, is read slowly, and notes from where it is read."""

    def __init__(self, count: int = 0) -> None:
        self.events = [event(n) for n in range(1, count + 1)]
        self.reads: list[int] = []
        self.slow = 0

    async def read(self, cursor: int, limit: int) -> list[Event]:
        self.reads.append(cursor)
        page = self.events[cursor : cursor + limit]  # as of the start of the read
        for _ in range(self.slow):
            await asyncio.sleep(0)
        return page

    def commit(self, bus: Bus, count: int = 1) -> int:
        self.events += [event(len(self.events) + n) for n in range(1, count + 1)]
        bus.ring()
        return len(self.events)


@asynccontextmanager
async def running(table: Table) -> AsyncIterator[Bus]:
    bus = Bus(table.read)
    following = asyncio.ensure_future(bus.run())
    try:
        yield bus
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following


async def settled() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def follow(bus: Bus, cursor: int, upto: int, seen: list[int], pause: random.Random | None = None) -> None:
    """A reader as the gateway's are: read to the end, wait, read on."""
    with bus.subscribe(lambda _: False) as reader:
        while cursor < upto:
            while page := await bus.after(cursor):
                seen += [one.event_id for one in page]
                cursor = page[-1].event_id
                for _ in range(pause.randrange(4) if pause else 0):
                    await asyncio.sleep(0)
            if cursor < upto:
                await reader.wait()


@pytest.mark.spec("GC-PER-106")
async def test_ring_and_table_tell_the_same_from_every_cursor() -> None:
    table = Table(40)
    async with running(table) as bus:
        bus.start_at(20)
        with bus.subscribe(lambda _: False):
            table.commit(bus, 10)
            await settled()
            for cursor in range(51):
                for limit in (1, 3, 100):
                    assert await bus.after(cursor, limit) == await table.read(cursor, limit)
            table.reads.clear()
            assert len(await bus.after(20)) == 30
            assert table.reads == [], "the ring reaches back that far"
            await bus.after(19)
            assert table.reads == [19], "and no further"


@pytest.mark.spec("GC-PER-106")
@pytest.mark.parametrize("seed", range(30))
async def test_no_reader_meets_a_gap_or_a_repeat(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_module, "PAGE", 7)
    monkeypatch.setattr(bus_module, "RING", 20)
    chance = random.Random(seed)  # noqa: S311 (a test wants the same dice again)
    table = Table(chance.randrange(60))
    table.slow = chance.randrange(4)
    total = len(table.events) + 300

    async def reader(bus: Bus) -> None:
        for _ in range(chance.randrange(30)):
            await asyncio.sleep(0)
        start = chance.choice([0, len(table.events), chance.randrange(len(table.events) + 1)])
        seen: list[int] = []
        await follow(bus, start, total, seen, chance)
        assert seen == list(range(start + 1, total + 1))

    async def author(bus: Bus) -> None:
        while len(table.events) < total:
            table.commit(bus, min(chance.randrange(1, 12), total - len(table.events)))
            for _ in range(chance.randrange(6)):
                await asyncio.sleep(0)

    async with running(table) as bus, asyncio.timeout(30):
        await asyncio.gather(author(bus), *(reader(bus) for _ in range(6)))


async def test_many_readers_of_the_same_news_cost_one_read() -> None:
    table = Table(100)
    table.slow = 3
    async with running(table) as bus, asyncio.timeout(30):
        bus.start_at(100)
        seen: list[list[int]] = [[] for _ in range(40)]
        readers = [asyncio.ensure_future(follow(bus, 100, 150, one)) for one in seen]
        await settled()
        table.reads.clear()
        for _ in range(10):
            table.commit(bus, 5)
            await settled()
        await asyncio.gather(*readers)
        assert all(one == list(range(101, 151)) for one in seen)
        assert len(table.reads) <= 20, "not one for each reader"


@pytest.mark.spec("GC-PER-107")
async def test_what_was_acknowledged_before_the_call_is_in_the_answer() -> None:
    table = Table(10)
    table.slow = 5
    async with running(table) as bus:
        with bus.subscribe(lambda _: False):
            await settled()
            head = table.commit(bus, 3)
            assert [one.event_id for one in await bus.after(10)] == [11, 12, 13]
            table.commit(bus)
            # The bus is in the middle of reading this; a second reader asks at once.
            await asyncio.sleep(0)
            assert [one.event_id for one in await bus.after(head)] == [14]


@pytest.mark.spec("GC-PER-107")
async def test_what_was_committed_while_nobody_listened_is_found_by_the_next_reader() -> None:
    table = Table(10)
    async with running(table) as bus:
        with bus.subscribe(lambda _: False):
            table.commit(bus, 10)
            await settled()
        table.commit(bus, 10)
        seen, cursor = [], 5
        while page := await bus.after(cursor):  # before it subscribes: a replay
            seen += [one.event_id for one in page]
            cursor = page[-1].event_id
        assert seen == list(range(6, 31))


async def test_a_reader_of_the_present_does_not_wait_for_the_past_to_be_read() -> None:
    table = Table(5 * PAGE)
    async with running(table) as bus:
        with bus.subscribe(lambda _: False) as reader:
            assert await bus.after(len(table.events)) == []
            table.reads.clear()
            head = table.commit(bus)
            async with asyncio.timeout(30):
                while not (page := await bus.after(head - 1)):
                    await reader.wait()
            assert [one.event_id for one in page] == [head]
            assert len(table.reads) <= 2


async def test_a_silent_bus_reads_nothing() -> None:
    table = Table(10)
    async with running(table) as bus:
        await settled()
        for _ in range(5):
            table.commit(bus)
            await settled()
        assert table.reads == []


async def test_a_read_that_fails_is_made_again() -> None:
    table = Table(3)
    broken = [False, True]

    async def read(cursor: int, limit: int) -> list[Event]:
        if broken.pop():
            raise OSError("gone for a moment")
        return await table.read(cursor, limit)

    bus = Bus(read)
    with pytest.raises(OSError, match="gone"):
        await bus.after(0)
    assert [one.event_id for one in await bus.after(0)] == [1, 2, 3]


@pytest.mark.spec("GC-PER-108")
async def test_a_slow_reader_loses_the_oldest_deltas_and_the_bus_does_not_grow() -> None:
    bus = Bus(Table().read)
    with bus.subscribe(lambda _: True) as slow, bus.subscribe(lambda one: one.seq % 2 == 0) as picky:
        for number in range(DELTAS + 500):
            bus.show(delta(number))
        assert [one.seq for one in slow.deltas] == list(range(500, DELTAS + 500))
        assert all(one.seq % 2 == 0 for one in picky.deltas)
        await slow.wait()
    bus.show(delta(0))
    assert slow.deltas[0].seq == 500, "who has left gets no more"


async def test_a_wait_ends_once_for_each_ring() -> None:
    bus = Bus(Table().read)
    with bus.subscribe(lambda _: False) as reader:
        reader.wake()
        reader.wake()
        await reader.wait()
        waiting = asyncio.ensure_future(reader.wait())
        await asyncio.sleep(0)
        assert not waiting.done()
        bus.show(delta(1))
        await asyncio.sleep(0)
        assert not waiting.done(), "it does not want deltas"
        reader.wake()
        await waiting
