"""One connection over a socket of paper: what is live is sent once, whatever joins and leaves meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame
from websockets.protocol import State
from websockets.uri import parse_uri

from goclaw.bus import PAGE, Bus
from goclaw.core.event import Event
from goclaw.gateway import outlet as outlet_module
from goclaw.gateway.follow import BEHIND
from goclaw.gateway.rpc import Dispatcher
from goclaw.gateway.stream import IN_FLIGHT, Connection
from goclaw.store import events


class Paper:
    """A pipe whose other end writes with `say` and reads `sent`; `gate` closed means that nothing is taken."""

    def __init__(self) -> None:
        self.gone = False
        self.paused = False
        self.sent: list[dict[str, Any]] = []
        self.held = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self._listener: Any = None

    @property
    def full(self) -> bool:
        return not self.gate.is_set()

    def listen(self, listener: Any) -> None:
        self._listener = listener

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def write(self, frames: bytes) -> None:
        self.sent += texts(frames)

    async def room(self) -> None:
        await self.gate.wait()

    async def cut(self, last: bytes, code: int, reason: str) -> None:
        self.write(last)
        self.hang_up()

    def say(self, text: str) -> None:
        self._listener.take(text)

    def hang_up(self) -> None:
        self.gone = True
        self._listener.left()

    def event_ids(self) -> list[int]:
        return [frame["params"]["event_id"] for frame in self.sent if frame.get("method") == "session.event"]


class Place:
    """A log in memory, a bus over it, and a house that has only these."""

    def __init__(self) -> None:
        self.log: list[Event] = []
        self.bus = Bus(self._read)
        database = SimpleNamespace(read=self._query)
        self.house: Any = SimpleNamespace(bus=self.bus, database=database)

    def commit(self, *sessions: str | None) -> None:
        for session_id in sessions:
            self.log.append(
                Event(
                    event_id=len(self.log) + 1,
                    event_type="task.enqueued",
                    task_id=None,
                    session_id=session_id,
                    state_from=None,
                    state_to=None,
                    run_id=None,
                    trace_id=None,
                    payload={},
                    created_at=0,
                )
            )
        self.bus.ring()

    async def _read(self, cursor: int, limit: int) -> list[Event]:
        await asyncio.sleep(0)
        return self.log[cursor : cursor + limit]

    async def _query(self, query: Any, *args: Any) -> Any:
        await asyncio.sleep(0)
        if query is events.head:
            return len(self.log)
        session_id, cursor, limit = args
        found = [event for event in self.log[cursor:] if event.session_id == session_id]
        return found[:limit], len(self.log)

    @asynccontextmanager
    async def connected(self, methods: dict[str, Any] | None = None) -> AsyncIterator[tuple[Connection, Paper]]:
        paper = Paper()
        connection = Connection(paper, self.house, Dispatcher(self.house, methods or {}))
        async with asyncio.TaskGroup() as group:
            following = group.create_task(self.bus.run())
            serving = group.create_task(connection.serve())
            await asyncio.sleep(0)
            yield connection, paper
            paper.gate.set()
            paper.hang_up()
            await serving
            following.cancel()


def texts(frames: bytes) -> list[dict[str, Any]]:
    """The messages in the bytes of whole frames, read by the library's own parser."""
    client = ClientProtocol(parse_uri("ws://paper/"), state=State.OPEN)
    client.receive_data(frames)
    return [json.loads(bytes(frame.data)) for frame in client.events_received() if isinstance(frame, Frame)]


async def until(condition: Callable[[], bool]) -> None:
    """Give way to the others until it holds."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 (what it waits for has no event of its own)
            await asyncio.sleep(0)


async def subscribe(connection: Connection, session_id: str, cursor: int) -> int:
    subscribed, sent = await connection.replay(session_id, cursor)
    await connection.join(subscribed)
    return sent


@pytest.mark.spec("GC-ACP-224")
async def test_a_session_joined_beside_another_is_not_told_twice_what_its_replay_told() -> None:
    place = Place()
    async with place.connected() as (connection, paper):
        await subscribe(connection, "a", 0)
        # The pump is behind: it waits for a slow reader while the other session goes on.
        paper.gate.clear()
        place.commit("a")
        await asyncio.sleep(0)
        place.commit("b", "b", "a", "b")
        paper.gate.set()
        assert await subscribe(connection, "b", 0) == 3
        place.commit("b", "a")
        await until(lambda: {6, 7} <= set(paper.event_ids()))
        assert sorted(paper.event_ids()) == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.spec("GC-ACP-224")
async def test_a_page_on_its_way_when_everything_is_left_and_joined_again_is_not_told_twice() -> None:
    place = Place()
    async with place.connected() as (connection, paper):
        await subscribe(connection, "*", 0)
        paper.gate.clear()
        place.commit(*["a"] * 50)
        for _ in range(20):
            await asyncio.sleep(0)
        connection.leave("*")
        joining = asyncio.ensure_future(subscribe(connection, "*", 50))
        for _ in range(20):
            await asyncio.sleep(0)
        paper.gate.set()
        await joining
        place.commit("a")
        await until(lambda: 51 in paper.event_ids())
        assert len(paper.event_ids()) == len(set(paper.event_ids()))


@pytest.mark.spec("GC-ACP-222")
async def test_a_replay_of_many_pages_is_complete_and_goes_on_live() -> None:
    place = Place()
    place.commit(*["a", "b"] * (2 * PAGE))
    async with place.connected() as (connection, paper):
        assert await subscribe(connection, "a", 0) == 2 * PAGE
        place.commit("b", "a")
        await until(lambda: 4 * PAGE + 2 in paper.event_ids())
        assert paper.event_ids() == [*range(1, 4 * PAGE, 2), 4 * PAGE + 2]


@pytest.mark.spec("GC-ACP-224")
async def test_joining_a_live_session_again_leaves_no_gap() -> None:
    place = Place()
    async with place.connected() as (connection, paper):
        await subscribe(connection, "a", 0)
        paper.gate.clear()
        place.commit("a", "a")
        await asyncio.sleep(0)
        again, _ = await connection.replay("a", len(place.log))
        paper.gate.set()
        await connection.join(again)
        await until(lambda: len(paper.event_ids()) == 2)
        assert paper.event_ids() == [1, 2]


@pytest.mark.spec("GC-ACP-310")
async def test_a_session_left_and_subscribed_again_while_it_catches_up_is_told_by_the_second_alone() -> None:
    place = Place()
    async with place.connected() as (connection, paper):
        await subscribe(connection, "b", 0)
        first, _ = await connection.replay("a", 0)
        place.commit(*["a"] * 5, "b")
        await until(lambda: 6 in paper.event_ids())
        paper.gate.clear()
        catching_up = asyncio.ensure_future(connection.join(first))
        for _ in range(20):
            await asyncio.sleep(0)
        assert connection.leave("a")
        again = asyncio.ensure_future(subscribe(connection, "a", 0))
        for _ in range(20):
            await asyncio.sleep(0)
        paper.gate.set()
        await asyncio.gather(catching_up, again)
        place.commit("a")
        await until(lambda: 7 in paper.event_ids())
        assert sorted(paper.event_ids()) == [1, 2, 3, 4, 5, 6, 7]
        assert connection.leave("a")
        assert not connection.leave("a")


@pytest.mark.spec("GC-ACP-310")
async def test_an_unsubscription_before_the_subscription_is_live_ends_it() -> None:
    place = Place()
    async with place.connected() as (connection, paper):
        await subscribe(connection, "b", 0)
        place.commit("a")
        subscribed, _ = await connection.replay("a", 0)
        assert connection.leave("a")
        await connection.join(subscribed)
        place.commit("a", "b")
        await until(lambda: 3 in paper.event_ids())
        assert paper.event_ids() == [1, 3]
        assert not connection.leave("a")


@pytest.mark.spec("GC-ACP-224")
async def test_a_session_joined_while_all_are_live_is_not_told_again_what_went_out_live_meanwhile() -> None:
    place = Place()
    async with place.connected() as (connection, paper):
        await subscribe(connection, "*", 0)
        subscribed, _ = await connection.replay("a", 0)
        place.commit("a", "a")
        await until(lambda: 2 in paper.event_ids())
        await connection.join(subscribed)
        place.commit("a")
        await until(lambda: 3 in paper.event_ids())
        assert paper.event_ids() == [1, 2, 3]


@pytest.mark.spec("GC-ACP-311")
async def test_no_more_is_read_while_too_many_requests_are_worked_on_and_one_that_waits_takes_no_place() -> None:
    place = Place()
    release = asyncio.Event()
    begun: list[str] = []

    class Scripted:
        async def answer(self, text: str, peer: Connection) -> tuple[None, None]:
            begun.append(text)
            if text == "wait":
                async with peer.waiting():
                    await release.wait()
            else:
                await release.wait()
            return None, None

    paper = Paper()
    connection = Connection(paper, place.house, Scripted())  # type: ignore[arg-type]
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(connection.serve())
        await asyncio.sleep(0)
        for _ in range(IN_FLIGHT - 1):
            paper.say("work")
        for _ in range(50):
            paper.say("wait")
            await until(lambda: len(begun) > 0 and begun[-1] == "wait")
            await until(lambda: not paper.paused)
            begun.append("")
        paper.say("work")
        assert paper.paused
        await until(lambda: begun[-1] == "work")
        assert paper.paused
        release.set()
        await until(lambda: not paper.paused)
        paper.hang_up()
        await serving


@pytest.mark.spec("GC-ACP-227")
async def test_a_reader_cut_off_is_told_the_position_behind_which_it_resumes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlet_module, "STALL_S", 0)
    place = Place()
    async with place.connected() as (connection, paper):
        await subscribe(connection, "*", 0)
        place.commit(*["a"] * 10)
        await until(lambda: 10 in paper.event_ids())
        paper.gate.clear()
        place.commit(*["a"] * (BEHIND + 1))
        await until(lambda: paper.gone)
        last = paper.sent[-1]
        assert last["method"] == "system.backpressure"
        assert (last["params"]["cursor"], last["params"]["latest_event_id"]) == (10, BEHIND + 11)
        assert paper.event_ids() == list(range(1, 11))


@pytest.mark.spec("GC-ACP-232")
async def test_a_wait_is_cut_when_the_client_leaves_and_other_work_is_finished() -> None:
    place = Place()
    ended: list[str] = []
    release = asyncio.Event()

    async def wait(connection: Connection) -> None:
        try:
            async with connection.waiting():
                await asyncio.Event().wait()
        finally:
            ended.append("wait")

    class Scripted:
        async def answer(self, text: str, peer: Connection) -> tuple[None, None]:
            if text == "wait":
                await wait(peer)
            await release.wait()
            ended.append("work")
            return None, None

    paper = Paper()
    connection = Connection(paper, place.house, Scripted())  # type: ignore[arg-type]
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(connection.serve())
        await asyncio.sleep(0)
        for text in ("wait", "work"):
            paper.say(text)
        for _ in range(10):
            await asyncio.sleep(0)
        paper.hang_up()
        await until(lambda: ended == ["wait"])
        assert not serving.done()
        release.set()
        await serving
    assert ended == ["wait", "work"]


@pytest.mark.timeout(10)
async def test_news_for_a_reader_that_has_just_gone_holds_up_nobody() -> None:
    place = Place()
    async with place.connected() as (connection, paper):
        await subscribe(connection, "*", 0)
        paper.gone = True  # and the connection has not been told yet
        place.commit("a", "a")
        async with asyncio.timeout(5):
            for _ in range(50):
                await asyncio.sleep(0)
        assert paper.event_ids() == []
