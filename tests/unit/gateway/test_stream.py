"""One connection over a socket of paper: what is live is sent once, whatever joins and leaves meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.websockets import WebSocketState

from goclaw.bus import PAGE, Bus
from goclaw.core.event import Event
from goclaw.gateway.rpc import Dispatcher
from goclaw.gateway.stream import Connection
from goclaw.store import events


class Paper:
    """A socket whose other end writes into `inbox` and reads `sent`; `gate` closed means that nothing is taken."""

    def __init__(self) -> None:
        self.client_state = WebSocketState.CONNECTED
        self.inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: list[dict[str, Any]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def receive(self) -> dict[str, Any]:
        message = await self.inbox.get()
        if message["type"] == "websocket.disconnect":
            self.client_state = WebSocketState.DISCONNECTED
        return message

    async def send_text(self, text: str) -> None:
        await self.gate.wait()
        self.sent.append(json.loads(text))

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
        connection = Connection(paper, self.house, Dispatcher(self.house, methods or {}))  # type: ignore[arg-type]
        async with asyncio.TaskGroup() as group:
            following = group.create_task(self.bus.run())
            serving = group.create_task(connection.serve())
            await asyncio.sleep(0)
            yield connection, paper
            paper.gate.set()
            paper.inbox.put_nowait({"type": "websocket.disconnect"})
            await serving
            following.cancel()


async def until(condition: Callable[[], bool]) -> None:
    """Give way to the others until it holds."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 (what it waits for has no event of its own)
            await asyncio.sleep(0)


async def subscribe(connection: Connection, session_id: str, cursor: int) -> int:
    reached, sent = await connection.replay(session_id, cursor)
    await connection.join(session_id, reached)
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
        reached, _ = (len(place.log), 0)
        paper.gate.set()
        await connection.join("a", reached)
        await until(lambda: len(paper.event_ids()) == 2)
        assert paper.event_ids() == [1, 2]


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
        for text in ("wait", "work"):
            paper.inbox.put_nowait({"type": "websocket.receive", "text": text})
        for _ in range(10):
            await asyncio.sleep(0)
        paper.inbox.put_nowait({"type": "websocket.disconnect"})
        await until(lambda: ended == ["wait"])
        assert not serving.done()
        release.set()
        await serving
    assert ended == ["wait", "work"]
