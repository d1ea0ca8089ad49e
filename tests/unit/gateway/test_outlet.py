"""The way out of one connection: at its reader's pace, in order, and cut short when nobody reads."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goclaw.core.event import Delta, Event
from goclaw.gateway import outlet as outlet_module
from goclaw.gateway.outlet import CHUNK_BYTES, Outlet, told_frame
from goclaw.gateway.pipe import Gone, text_frame
from goclaw.gateway.shapes import delta_object, event_object
from goclaw.wire.frames import notification

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
MAYBE = st.none() | TEXT
PAYLOADS = st.dictionaries(TEXT, st.none() | TEXT | st.integers() | st.lists(st.floats(allow_nan=False)), max_size=3)
EVENTS = st.builds(
    Event,
    event_id=st.integers(1, 2**62),
    event_type=TEXT,
    task_id=MAYBE,
    session_id=MAYBE,
    state_from=MAYBE,
    state_to=MAYBE,
    run_id=MAYBE,
    trace_id=MAYBE,
    payload=PAYLOADS,
    created_at=st.integers(0, 2**62),
)


class Tap:
    """A pipe that is full while it is turned off; with `drops` it turns itself off at each write."""

    def __init__(self, drops: bool = False) -> None:
        self.gone = False
        self.drops = drops
        self.written: list[bytes] = []
        self.on = asyncio.Event()
        self.on.set()
        self.held = 0

    @property
    def full(self) -> bool:
        return not self.on.is_set()

    def write(self, frames: bytes) -> None:
        self.written.append(frames)
        if self.drops:
            self.on.clear()

    async def room(self) -> None:
        await self.on.wait()


async def never() -> None:
    raise AssertionError("nobody stalls here")


def way_out(tap: Tap) -> Outlet:
    return Outlet(tap, never)  # type: ignore[arg-type]


@pytest.mark.spec("GC-PERF-207")
@given(event=EVENTS)
def test_an_event_is_the_notification_of_its_object(event: Event) -> None:
    assert told_frame(event) == text_frame(notification("session.event", event_object(event)))


@pytest.mark.spec("GC-PERF-207")
def test_a_delta_is_the_notification_of_its_object() -> None:
    delta = Delta(task_id="t", session_id=None, seq=1, content='say "hé"', reset=True)
    assert told_frame(delta) == text_frame(notification("agent.delta", delta_object(delta)))


@pytest.mark.spec("GC-PERF-205")
async def test_many_frames_are_one_write_up_to_a_bound() -> None:
    tap = Tap()
    frames = [bytes([number % 256]) * 1_000 for number in range(200)]
    await way_out(tap).stream(iter(frames))
    assert b"".join(tap.written) == b"".join(frames)
    assert len(tap.written) == 4
    assert max(map(len, tap.written)) < CHUNK_BYTES + 1_000


@pytest.mark.spec("GC-PERF-205")
async def test_no_frame_is_made_before_there_is_room_for_it_and_none_overtakes_another() -> None:
    tap = Tap(drops=True)
    way = way_out(tap)
    made: list[int] = []

    def frames() -> Iterator[bytes]:
        for number in range(3):
            made.append(number)
            yield bytes([number]) * CHUNK_BYTES

    async with asyncio.TaskGroup() as group:
        group.create_task(way.stream(frames()))
        await asyncio.sleep(0)
        group.create_task(way.send(b"behind it"))
        for turn in range(4):
            for _ in range(5):
                await asyncio.sleep(0)
            assert len(tap.written) == turn + 1
            assert len(made) == len([one for one in tap.written if one != b"behind it"])
            tap.on.set()
    assert [one[0] for one in tap.written if one != b"behind it"] == [0, 1, 2]
    assert tap.written.count(b"behind it") == 1


@pytest.mark.spec("GC-PERF-205")
async def test_a_frame_does_not_overtake_one_that_was_woken_and_has_not_run_yet() -> None:
    tap = Tap()
    tap.on.clear()
    way = way_out(tap)
    async with asyncio.TaskGroup() as group:
        group.create_task(way.send(b"first"))
        await asyncio.sleep(0)
        tap.on.set()
        await way.send(b"second")
    assert tap.written == [b"first", b"second"]


@pytest.mark.spec("GC-PERF-205")
async def test_nothing_more_is_written_or_asked_for_when_nobody_reads_any_more() -> None:
    tap = Tap()
    tap.on.clear()
    async with asyncio.TaskGroup() as group:
        group.create_task(way_out(tap).stream(iter([b"x"] * 10)))
        await asyncio.sleep(0)
        tap.gone = True
        tap.on.set()
    assert tap.written == []


@pytest.mark.spec("GC-ACP-227")
async def test_a_reader_that_takes_some_has_not_stalled_and_one_that_takes_nothing_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outlet_module, "STALL_S", 0)
    tap = Tap()
    tap.on.clear()
    tap.held = 100
    looks = 0

    class Taking(Tap):
        """It takes one byte between any two looks, a hundred times."""

        async def room(self) -> None:
            nonlocal looks
            looks += 1
            taking.held -= 1 if looks <= 100 else 0
            await asyncio.Event().wait()

    taking = Taking()
    taking.on.clear()
    taking.held = 100

    async def stalled() -> None:
        raise Gone

    with pytest.raises(Gone):
        await Outlet(taking, stalled).send(b"x")  # type: ignore[arg-type]
    assert looks == 101
    assert taking.written == []
