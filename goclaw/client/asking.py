"""`Client`: asks one thing, follows the event log, or runs one turn and shows it while it is written."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Any, Literal, Self

from websockets.exceptions import ConnectionClosed

from goclaw import __version__
from goclaw.client.connection import Calls, Line, Told, closed, dial
from goclaw.client.stream import Backoff, ChatEnd, Cursor, Link, chat_end_of, delta_of
from goclaw.client.target import Find
from goclaw.clock import SystemClock, new_id
from goclaw.core.event import Delta, Event
from goclaw.core.ports import Clock
from goclaw.errors import RpcError, Unreachable

PROTOCOL_VERSION = "1.0"
WAIT_SLICE_MS = 60_000
TIMEOUT = 5040


class Client:
    """Asks one daemon. Use it as an async context manager, opened and closed in the same asyncio task.

    Connects when it is first asked something, and again when the connection is gone. Every stream has a
    connection of its own: whoever stops reading one holds up nothing else, and the daemon's back-pressure
    meets the reader it is meant for. Raises Unreachable, NotAuthorized and RpcError, and nothing else.
    """

    def __init__(self, find: Find, clock: Clock | None = None, name: str = "goclaw-cli") -> None:
        self._find = find
        self._clock: Clock = clock or SystemClock()
        self._name = f"{name}/{__version__}"
        self._group = asyncio.TaskGroup()
        self._opening = asyncio.Lock()
        self._calls: Calls | None = None
        self._greeting: Mapping[str, Any] = {}

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            if self._calls is not None:
                await self._calls.connection.close()
        finally:
            await self._group.__aexit__(None, None, None)

    async def hello(self) -> Mapping[str, Any]:
        """What the daemon says of itself to this connection: server, boot_id, log_id, features."""
        await self._connected()
        return self._greeting

    async def call(self, method: str, params: Mapping[str, Any] | None = None) -> Any:
        """The result; params that are None are left out. Calls may run at the same time.

        A connection lost before the answer is Unreachable, and then nobody knows whether the call took
        effect: repeat it only where that is harmless or an idempotency key is in it.
        """
        calls = await self._connected()
        return await calls.ask(method, _given(params or {}))

    async def wait(self, task_id: str, timeout_ms: int | None = None) -> Mapping[str, Any]:
        """The task when it is terminal. Outlasts a restart of the daemon. RpcError 5040 in the end."""
        until = None if timeout_ms is None else self._clock.monotonic() + timeout_ms
        backoff = Backoff(self._clock)
        while True:
            left = WAIT_SLICE_MS if until is None else until - self._clock.monotonic()
            params = {"task_id": task_id, "timeout_ms": max(1, min(WAIT_SLICE_MS, left))}
            try:
                task: Mapping[str, Any] = await self.call("task.wait", params)
                return task
            except RpcError as error:
                if error.rpc_code != TIMEOUT or (until is not None and left <= WAIT_SLICE_MS):
                    raise
                backoff.reset()
            except Unreachable:
                if backoff.exhausted or left <= 0:
                    raise
                await backoff.pause()

    async def subscribe(
        self,
        session_id: str = "*",
        from_event_id: int | Literal["latest"] = 0,
        log_id: str | None = None,
        on_link: Callable[[Link], None] | None = None,
    ) -> AsyncGenerator[Event | Delta]:
        """Every event after the cursor, in order, without gap or repeat, for as long as the consumer likes;
        deltas come in between and may be lost. Close it with `contextlib.aclosing`.

        The first connection must succeed; later ones are tried again, 0.1 s doubling to 2 s, by the cursor of
        the last event handed over. `on_link` is told when it is subscribed and when the connection is lost.
        RpcError 4100 says that the log was cut or replaced behind the cursor; its data has `resume_from`.
        """
        tell = on_link or _nobody
        cursor, backoff = Cursor(session_id, from_event_id, log_id), Backoff(self._clock)

        def subscribed() -> None:
            backoff.reset()
            tell(Link(True))

        while True:
            try:
                async with self._line() as (line, greeting):
                    async for item in cursor.follow(line, str(greeting.get("log_id") or ""), subscribed):
                        yield item
            except Unreachable as error:
                if not cursor.subscribed:
                    raise
                tell(Link(False, error.message, backoff.next_ms))
                await backoff.pause()

    async def chat_stream(self, params: Mapping[str, Any]) -> AsyncGenerator[Delta | ChatEnd]:
        """One turn (params as agent.chat): its deltas while they are written, then a ChatEnd.

        Sends an idempotency key of its own where none is given, so that a turn whose connection was lost is
        taken up again and never begun twice. Deltas may be missing then; ChatEnd has the whole answer.
        """
        asked = {"idempotency_key": f"chat-{new_id(self._clock)}", **_given(params)}
        backoff, begun = Backoff(self._clock), False
        while True:
            try:
                async with self._line() as (line, _):
                    begun = True
                    async for item in line.streamed("agent.chat.stream", asked):
                        if not isinstance(item, Told):
                            yield chat_end_of(item)
                            return
                        if item.method == "agent.delta":
                            yield delta_of(item.params)
            except Unreachable:
                if not begun or backoff.exhausted:
                    raise
                await backoff.pause()

    async def _connected(self) -> Calls:
        async with self._opening:
            if self._calls is None or self._calls.lost:
                connection = await dial(self._find(), self._name)
                calls = self._calls = Calls(connection)
                self._group.create_task(calls.read())
                try:
                    self._greeting = await calls.ask("system.hello", self._hello())
                except RpcError:
                    calls.lost = True
                    await connection.close()
                    raise
            return self._calls

    @contextlib.asynccontextmanager
    async def _line(self) -> AsyncIterator[tuple[Line, Mapping[str, Any]]]:
        connection = await dial(self._find(), self._name)
        try:
            line = Line(connection)
            yield line, await line.answer("system.hello", self._hello())
        except ConnectionClosed as error:
            raise Unreachable(closed(error)) from None
        finally:
            await connection.close()

    def _hello(self) -> dict[str, Any]:
        return {"version": PROTOCOL_VERSION, "client": self._name}


def _given(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}


def _nobody(_: Link) -> None:
    """Nobody wants to know."""
