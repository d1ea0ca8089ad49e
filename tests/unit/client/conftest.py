"""A daemon made of a script: it speaks the true frames and does what the test says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from goclaw.client import Target

TOKEN = "a-token"


class FakeClock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 1_000_000
        self.slept: list[float] = []

    def wall(self) -> int:
        return self.now

    def monotonic(self) -> int:
        return self.now

    async def sleep(self, ms: float) -> None:
        self.slept.append(ms)
        self.now += int(ms)
        await asyncio.sleep(0)


class Peer:
    """One connection as the fake daemon sees it."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket

    async def notify(self, method: str, params: dict[str, Any]) -> None:
        await self.socket.send(json.dumps({"jsonrpc": "2.0", "method": method, "params": params}))

    async def event(self, number: int, kind: str = "task.progress") -> None:
        await self.notify(
            "session.event",
            {
                "event_id": number,
                "event_type": kind,
                "task_id": "t",
                "session_id": None,
                "state_from": None,
                "state_to": None,
                "run_id": None,
                "trace_id": None,
                "payload": {"n": number},
                "created_at": 5,
            },
        )

    async def delta(self, content: str, seq: int = 0) -> None:
        await self.notify("agent.delta", {"task_id": "t", "session_id": "s", "seq": seq, "content": content})

    async def drop(self) -> None:
        self.socket.transport.abort()


class Refusal(Exception):
    """An error answer."""

    def __init__(self, code: int, message: str, /, **data: Any) -> None:
        super().__init__(message)
        self.wire = {"code": code, "message": message, "data": data}


Answer = Callable[[Peer, dict[str, Any]], Awaitable[Any]]


class FakeDaemon:
    """`methods` answer; every request is kept in `asked`."""

    def __init__(self) -> None:
        self.methods: dict[str, Answer] = {"system.hello": self._hello}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.connections = 0
        self.log_id = "log-1"
        self.url = ""

    def target(self) -> Target:
        return Target(self.url, TOKEN)

    def on(self, method: str, answer: Answer) -> None:
        self.methods[method] = answer

    def params_of(self, method: str) -> list[dict[str, Any]]:
        return [params for name, params in self.asked if name == method]

    @asynccontextmanager
    async def run(self, port: int = 0) -> AsyncIterator[Server]:
        async with serve(self._serve, "127.0.0.1", port, process_request=_door, compression=None) as server:
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield server

    async def _hello(self, peer: Peer, params: dict[str, Any]) -> dict[str, Any]:
        return {
            "protocol": "acp",
            "version": "1.0",
            "boot_id": "b",
            "log_id": self.log_id,
            "server": "goclaw/x",
        }

    async def _serve(self, socket: ServerConnection) -> None:
        self.connections += 1
        peer = Peer(socket)
        async with asyncio.TaskGroup() as group:
            async for frame in socket:
                request = json.loads(frame)
                self.asked.append((request["method"], request["params"]))
                group.create_task(self._answer(peer, request))

    async def _answer(self, peer: Peer, request: dict[str, Any]) -> None:
        answer: dict[str, Any] = {"jsonrpc": "2.0", "id": request["id"]}
        try:
            answer["result"] = await self.methods[request["method"]](peer, request["params"])
        except Refusal as refusal:
            answer["error"] = refusal.wire
        except KeyError:
            answer["error"] = {
                "code": -32601,
                "message": "unknown method",
                "data": {"code": "METHOD_NOT_FOUND"},
            }
        await peer.socket.send(json.dumps(answer))


def _door(socket: ServerConnection, request: Request) -> Response | None:
    if request.headers.get("Authorization") == f"Bearer {TOKEN}":
        return None
    return Response(401, "Unauthorized", Headers({"Content-Length": "0"}), b"")


@pytest.fixture
async def daemon() -> AsyncIterator[FakeDaemon]:
    fake = FakeDaemon()
    async with fake.run():
        yield fake


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()
