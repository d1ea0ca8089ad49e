"""A WebSocket connection: requests answered concurrently, in bounds; what it follows stands in `follow`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from goclaw.errors import Saturated
from goclaw.gateway.follow import Following
from goclaw.gateway.house import House
from goclaw.gateway.outlet import Outlet
from goclaw.gateway.pipe import Gone, Pipe, text_frame
from goclaw.gateway.rpc import Dispatcher, Subscribed

IN_FLIGHT = 256
"""Requests of one connection that are worked on at once; no more is read before one is answered."""
WAITING = 1_000
"""Requests of one connection that wait, for tasks or for a replay; they take no place of the others."""


class Connection:
    """One client on `/ws`. Thousands are idle, so that what only some need is made when they need it."""

    __slots__ = (
        "_dispatcher",
        "_ended",
        "_following",
        "_group",
        "_house",
        "_in_flight",
        "_outlet",
        "_paused",
        "_pipe",
        "_pumping",
        "_waiting",
        "greeted",
    )

    def __init__(self, pipe: Pipe, house: House, dispatcher: Dispatcher) -> None:
        self._pipe = pipe
        self._house = house
        self._dispatcher = dispatcher
        self._outlet = Outlet(pipe, self._stalled)
        self._group = asyncio.TaskGroup()
        self._ended = asyncio.get_running_loop().create_future()
        self._in_flight = 0
        self._paused = False
        self._waiting: set[asyncio.Task[Any]] | None = None
        self._following: Following | None = None
        self._pumping: asyncio.Task[None] | None = None
        self.greeted = False

    async def serve(self) -> None:
        """Until the client leaves or is cut off. What it had asked for is then still carried out; waits are cut."""
        try:
            async with self._group:
                self._pipe.listen(self)
                await self._ended
                self._cut_waits()
        finally:
            if self._following is not None:
                self._following.close()

    def take(self, message: str | bytes) -> None:
        """A message has come: answer it beside the others, unless too many are worked on; then it is the last one."""
        if self._ended.done():
            return
        self._group.create_task(self._answer(message))
        self._in_flight += 1
        if self._in_flight >= IN_FLIGHT and not self._paused:
            self._paused = True
            self._pipe.pause()

    def left(self) -> None:
        """The client is gone."""
        if not self._ended.done():
            self._ended.set_result(None)

    async def replay(self, session_id: str, cursor: int) -> tuple[Subscribed, int]:
        """Send what lies behind the cursor; see `Following`."""
        return await self._follow().replay(session_id, cursor)

    async def join(self, subscribed: Subscribed) -> None:
        """Go live from where a replay ended; see `Following`."""
        await self._follow().join(subscribed)

    def leave(self, session_id: str) -> bool:
        """End a subscription; False when there was none."""
        return self._following is not None and self._following.leave(session_id)

    def stream_deltas(self, task_id: str) -> None:
        """Pass on the deltas of a task until `end_deltas`."""
        self._follow().stream_deltas(task_id)

    async def end_deltas(self, task_id: str) -> None:
        """Send what is still waiting, then pass on no more."""
        await self._follow().end_deltas(task_id)

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """For a block that may last: it takes no place of other requests, and is cut when the client leaves.

        Raises Saturated when too many last already.
        """
        request = asyncio.current_task()
        if self._waiting is None:
            self._waiting = set()
        if len(self._waiting) >= WAITING:
            raise Saturated(f"{WAITING} requests of this connection wait already", limit=WAITING)
        if request is None or self._ended.done():
            raise Gone
        self._waiting.add(request)
        self._freed()
        try:
            yield
        finally:
            self._waiting.discard(request)
            self._in_flight += 1

    async def _answer(self, message: str | bytes) -> None:
        try:
            answer, then = await self._dispatcher.answer(message, self)
            if answer is not None:
                await self._outlet.send(text_frame(answer))
            if then is not None:
                await then()
        except Gone:
            # Nobody is there to be answered; `left` was told too and ends the connection.
            return
        finally:
            self._freed()

    def _freed(self) -> None:
        self._in_flight -= 1
        if self._paused and self._in_flight < IN_FLIGHT:
            self._paused = False
            self._pipe.resume()

    def _follow(self) -> Following:
        if self._following is None:
            self._following = Following(self._house, self._outlet)
            if not self._ended.done():
                self._pumping = self._group.create_task(self._following.run())
        return self._following

    def _cut_waits(self) -> None:
        if self._following is not None:
            self._following.close()
        if self._pumping is not None:
            self._pumping.cancel()
        for waiting in self._waiting or ():
            waiting.cancel()

    async def _stalled(self) -> None:
        if self._following is not None:
            await self._following.check_stall(self._pipe)
