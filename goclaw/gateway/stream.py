"""A WebSocket connection: requests answered concurrently, events streamed by cursor at the reader's own pace.

Replay and live read the same log by cursor, so there is no gap to close. A reader that stalls moves nobody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from goclaw.bus import PAGE, Subscription
from goclaw.core.event import Delta, Event
from goclaw.errors import Saturated
from goclaw.gateway.house import House
from goclaw.gateway.rpc import Dispatcher
from goclaw.gateway.server import LAST_WORD
from goclaw.gateway.shapes import delta_object, event_object
from goclaw.log import get_logger
from goclaw.store import events
from goclaw.wire.frames import CLOSE_BACKPRESSURE, notification

IN_FLIGHT = 256
"""Requests of one connection that are worked on at once; the next frame is read when one is answered."""
WAITING = 1_000
"""Requests of one connection that wait, for tasks or for a replay; they take no place of the others."""
STALL_S = 5.0
BEHIND = 1_024
ALL = "*"


class Connection:
    """One client on `/ws`."""

    def __init__(self, socket: WebSocket, house: House, dispatcher: Dispatcher) -> None:
        self._socket = socket
        self._house = house
        self._dispatcher = dispatcher
        self._sending = asyncio.Lock()
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self._waiting: set[asyncio.Task[Any]] = set()
        # What is live, each from behind the position that its replay has reached.
        self._sessions: dict[str, int] = {}
        self._streaming: set[str] = set()
        self._wanted: set[str] = set()
        self._cursor = 0
        self._caught_up = False
        self._reader: Subscription | None = None
        self._group: asyncio.TaskGroup | None = None
        self._stack = ExitStack()
        self.greeted = False

    async def serve(self) -> None:
        """Until the client leaves or is cut off. What it had asked for is then still carried out; waits are cut."""
        with ExitStack() as self._stack:
            async with asyncio.TaskGroup() as requests:
                try:
                    async with asyncio.TaskGroup() as self._group:
                        await self._receive(requests)
                except* WebSocketDisconnect:
                    self._sessions.clear()
                self._group = None
                for waiting in self._waiting:
                    waiting.cancel()

    async def notify(self, method: str, params: Mapping[str, Any]) -> None:
        """Send a notification."""
        await self._send(notification(method, params))

    async def replay(self, session_id: str, cursor: int) -> tuple[int, int]:
        """Send what lies behind the cursor, to the end of the log; the position reached, and how many were sent."""
        self._wanted.add(session_id)
        sent, more = 0, True
        while more:
            page, cursor, more = await self._page(session_id, cursor)
            for event in page:
                await self._send_event(event)
            sent += len(page)
        return cursor, sent

    async def join(self, session_id: str, cursor: int) -> None:
        """Go live from a position that `replay` reached, without a gap and without a repeat."""
        self._follow()
        if not self._sessions:
            # Nothing is live yet: the pump starts where the replay ended.
            self._cursor = max(self._cursor, cursor)
        while cursor < self._cursor:
            target = self._cursor
            page, reached, _ = await self._page(session_id, cursor)
            for event in page:
                if event.event_id <= target and session_id in self._wanted:
                    await self._send_event(event)
            cursor = min(reached, target)
        if session_id not in self._wanted:
            # It was unsubscribed while it was still catching up.
            return
        self._sessions[session_id] = min(cursor, self._sessions.get(session_id, cursor))
        self._caught_up = True
        if self._reader is not None:
            self._reader.wake()

    def leave(self, session_id: str) -> bool:
        """End a subscription; False when there was none."""
        known = session_id in self._wanted
        self._wanted.discard(session_id)
        self._sessions.pop(session_id, None)
        return known

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """For a block that may last: it takes no place of other requests, and is cut when the client leaves.

        Raises Saturated when too many last already.
        """
        request = asyncio.current_task()
        if len(self._waiting) >= WAITING:
            raise Saturated(f"{WAITING} requests of this connection wait already", limit=WAITING)
        if request is None or self._group is None:
            raise WebSocketDisconnect
        self._waiting.add(request)
        self._slots.release()
        try:
            yield
        finally:
            self._waiting.discard(request)
            await self._slots.acquire()

    def stream_deltas(self, task_id: str) -> None:
        """Pass on the deltas of a task until `end_deltas`."""
        self._follow()
        self._streaming.add(task_id)

    async def end_deltas(self, task_id: str) -> None:
        """Send what is still waiting, then pass on no more."""
        await self._send_deltas()
        self._streaming.discard(task_id)

    async def _receive(self, requests: asyncio.TaskGroup) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1005))
            await self._slots.acquire()
            requests.create_task(self._answer(message.get("text") or message.get("bytes") or ""))

    async def _answer(self, text: str | bytes) -> None:
        try:
            answer, then = await self._dispatcher.answer(text, self)
            if answer is not None:
                await self._send(answer)
            if then is not None:
                await then()
        except WebSocketDisconnect:
            # Nobody is there to be answered; `_receive` hears of it too and ends the connection.
            return
        finally:
            self._slots.release()

    def _follow(self) -> None:
        if self._reader is None and self._group is not None:
            self._reader = self._stack.enter_context(self._house.bus.subscribe(self._wants))
            self._group.create_task(self._pump(self._reader))

    async def _pump(self, reader: Subscription) -> None:
        while True:
            await reader.wait()
            await self._send_deltas()
            await self._send_news()

    async def _send_news(self) -> None:
        while self._sessions:
            page = await self._house.bus.after(self._cursor)
            if not page:
                self._caught_up = True
                return
            for event in page:
                self._cursor = event.event_id
                if self._is_live(event):
                    await self._send_event(event)

    def _is_live(self, event: Event) -> bool:
        names = (ALL,) if event.session_id is None else (ALL, event.session_id)
        return any(self._sessions.get(name, event.event_id) < event.event_id for name in names)

    async def _send_deltas(self) -> None:
        while self._reader is not None and self._reader.deltas:
            await self.notify("agent.delta", delta_object(self._reader.deltas.popleft()))

    async def _send_event(self, event: Event) -> None:
        await self._send(notification("session.event", event_object(event)))

    async def _send(self, text: str) -> None:
        async with self._sending:
            while self._socket.client_state is WebSocketState.CONNECTED:
                try:
                    async with asyncio.timeout(STALL_S):
                        # It waits for room, then writes at once: a wait that is cut short has written nothing.
                        await self._socket.send_text(text)
                    return
                except TimeoutError:
                    await self._check_stall()

    async def _check_stall(self) -> None:
        """No frame was taken for five seconds: cut a live reader off when it is far behind; it resumes by cursor."""
        head = await self._house.database.read(events.head)
        if self._caught_up and self._sessions and head - self._cursor > BEHIND:
            told = {"cursor": self._cursor, "latest_event_id": head, "reason": "the reader takes no frames"}
            last = notification("system.backpressure", told)
            await self._socket.send({"type": "websocket.send", "text": last, LAST_WORD: True})
            closing = {"type": "websocket.close", "code": CLOSE_BACKPRESSURE, "reason": "backpressure"}
            await self._socket.send({**closing, LAST_WORD: True})
            get_logger("gateway").warning("reader cut off", **told)
            raise WebSocketDisconnect(CLOSE_BACKPRESSURE)

    async def _page(self, session_id: str, cursor: int) -> tuple[list[Event], int, bool]:
        """Matching events behind a cursor, the position they reach, and whether there are more."""
        if session_id == ALL:
            page = await self._house.bus.after(cursor)
            return page, page[-1].event_id if page else cursor, len(page) == PAGE
        page, head = await self._house.database.read(events.read_session_to_head, session_id, cursor, PAGE)
        more = len(page) == PAGE
        return page, page[-1].event_id if more else max(cursor, head), more

    def _wants(self, delta: Delta) -> bool:
        wide = ALL in self._sessions or delta.session_id in self._sessions
        return wide or delta.task_id in self._streaming
