"""The doorbell: no gap, no repeat, one read of the table for many readers; deltas are bounded."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from goclaw import bus as bus_module
from goclaw.bus import DELTAS, PAGE, RING, Bus
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


@pytest.mark.spec("GC-ACP-220")
async def test_readers_at_different_places_each_see_everything_behind_their_cursor_once() -> None:
    table = Table(10)
    seen: dict[int, list[int]] = {0: [], 4: [], 10: []}
    async with running(table) as bus, asyncio.timeout(30), asyncio.TaskGroup() as group:
        for cursor, one in seen.items():
            group.create_task(follow(bus, cursor, 3_000, one))
        for _ in range(299):
            await asyncio.sleep(0)
            table.commit(bus, 10)
    assert seen == {cursor: list(range(cursor + 1, 3_001)) for cursor in seen}


@pytest.mark.spec("GC-ACP-220")
async def test_a_reader_ahead_of_the_bus_takes_no_news_from_one_behind_it() -> None:
    table = Table()
    async with running(table) as bus, asyncio.timeout(30):
        with bus.subscribe(lambda _: False) as slow:
            assert await bus.after(0) == []
            # Before the bus has followed, a reader comes that has read the table to its end.
            table.commit(bus)
            assert await bus.after(1) == []
            await slow.wait()
            assert [one.event_id for one in await bus.after(0)] == [1]


@pytest.mark.spec("GC-ACP-220")
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


@pytest.mark.spec("GC-ACP-221")
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


@pytest.mark.spec("GC-ACP-221")
async def test_the_ring_is_bounded_and_older_events_come_from_the_table() -> None:
    table = Table()
    async with running(table) as bus, asyncio.timeout(30):
        with bus.subscribe(lambda _: False) as reader:
            last = table.commit(bus, 3 * RING)
            cursor = 0
            while cursor < last:
                await reader.wait()
                while page := await bus.after(cursor):
                    cursor = page[-1].event_id
            table.reads.clear()
            assert (await bus.after(last - RING))[0].event_id == last - RING + 1
            assert table.reads == []
            assert (await bus.after(3))[0].event_id == 4
            assert table.reads == [3]


@pytest.mark.spec("GC-RUN-210")
async def test_settling_waits_until_every_reader_has_taken_what_there_is_and_for_none_that_left() -> None:
    table = Table()
    taken: list[int] = []

    async def read(bus: Bus) -> None:
        with bus.subscribe(lambda _: False) as reader:
            while True:
                await reader.wait()
                while page := await bus.after(taken[-1] if taken else 0):
                    await settled()
                    taken.extend(one.event_id for one in page)

    async with running(table) as bus, asyncio.timeout(30), asyncio.TaskGroup() as group:
        reading = group.create_task(read(bus))
        await asyncio.sleep(0)
        table.commit(bus, 3 * PAGE)
        await bus.settle()
        assert len(taken) == 3 * PAGE
        with bus.subscribe(lambda _: False):
            settling = group.create_task(bus.settle())
            await settled()
            assert not settling.done()
        await settling
        reading.cancel()


@pytest.mark.spec("GC-PERF-206")
async def test_who_follows_is_given_what_the_bus_has_read_and_never_reads_for_itself() -> None:
    table = Table(10)
    async with running(table) as bus, asyncio.timeout(30):
        bus.start_at(10)
        with bus.subscribe(lambda _: False) as reader:
            await settled()
            table.slow = 3
            table.commit(bus, 5)
            reads = len(table.reads)
            assert await bus.followed(10) == []
            assert len(table.reads) == reads
            await reader.wait()
            assert [one.event_id for one in await bus.followed(10)] == [11, 12, 13, 14, 15]
            assert [one.event_id for one in await bus.followed(4, 3)] == [5, 6, 7], "older ones come from the table"
            assert await bus.followed(15) == []


@pytest.mark.spec("GC-ACP-221")
async def test_who_follows_the_present_does_not_wait_for_the_past_to_be_read() -> None:
    table = Table(50 * PAGE)
    async with running(table) as bus, asyncio.timeout(30):
        with bus.subscribe(lambda _: False) as reader:
            assert await bus.followed(len(table.events)) == []
            head = table.commit(bus)
            while not (page := await bus.followed(head - 1)):
                await reader.wait()
            assert [one.event_id for one in page] == [head]
            assert len(table.reads) <= 3


@pytest.mark.spec("GC-PERF-206")
async def test_what_is_told_is_encoded_once_for_all_and_kept_in_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_module, "ENCODED_BYTES", 100)
    made: list[int] = []

    def encode(told: Event) -> bytes:
        made.append(told.event_id)
        return b"x" * 30

    bus = Bus(Table().read)
    told = [event(number) for number in range(1, 6)]
    with bus.subscribe(lambda _: False):
        for _ in range(3):
            for one in told[:3]:
                assert bus.encoded.of(one, encode) == b"x" * 30
        assert made == [1, 2, 3]
        for one in (*told, told[4]):
            bus.encoded.of(one, encode)
        assert made == [1, 2, 3, 4, 5], "the oldest made room"
        bus.encoded.of(told[0], encode)
        assert made[5:] == [1]
    bus.encoded.of(told[4], encode)
    assert made[6:] == [5], "nothing is kept when nobody reads"


@pytest.mark.spec("GC-PERF-206")
async def test_many_readers_are_woken_for_many_commits_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_module, "PER_READER_S", 60.0)
    table = Table()
    woken = 0

    async def read(bus: Bus) -> None:
        nonlocal woken
        with bus.subscribe(lambda _: False) as reader:
            while True:
                await reader.wait()
                woken += 1

    async with running(table) as bus, asyncio.timeout(30), asyncio.TaskGroup() as group:
        reading = [group.create_task(read(bus)) for _ in range(100)]
        await settled()
        woken = 0
        for _ in range(20):
            table.commit(bus)
            await settled()
        assert woken == 100, "the first commit is told at once, the others together when they have had time"
        assert [one.event_id for one in await bus.followed(0)] == [1]
        assert len(await bus.after(1)) == 19, "who asks is told what there is"
        for one in reading:
            one.cancel()


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
