"""A WebSocket client as thin as it can be made, so that the bench measures the daemon and not itself."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Mapping
from typing import Any

Take = Callable[[bytes], None]
_UPGRADE = (
    "GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Authorization: Bearer {token}\r\n\r\n"
)


def masked(payload: bytes) -> bytes:
    """A text frame of a client. The mask is all zeros: allowed, and free for both ends to make."""
    size = len(payload)
    if size < 126:
        head = bytes((0x81, 0x80 | size))
    elif size < 65_536:
        head = b"\x81\xfe" + size.to_bytes(2, "big")
    else:
        head = b"\x81\xff" + size.to_bytes(8, "big")
    return head + b"\0\0\0\0" + payload


def request(number: int, method: str, params: Mapping[str, Any]) -> bytes:
    """One request as it goes on the wire."""
    return masked(json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode())


class Wire(asyncio.Protocol):
    """One connection. Every frame is given to `take`; the code of a close is kept in `closed`."""

    def __init__(self, take: Take) -> None:
        self.take = take
        self.transport: asyncio.Transport
        self.upgraded = asyncio.get_running_loop().create_future()
        self.ended = asyncio.get_running_loop().create_future()
        self.closed: int | None = None
        self._rest = b""
        self._open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, _: Exception | None) -> None:
        if not self.upgraded.done():
            self.upgraded.set_exception(ConnectionError("closed before the upgrade"))
        if not self.ended.done():
            self.ended.set_result(self.closed)

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        at = 0 if self._open else self._upgrade(data)
        if at < 0:
            self._rest = data
            return
        self._rest = data[self._frames(data, at) :]

    def _upgrade(self, data: bytes) -> int:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return -1
        if b" 101 " not in data[:20]:
            self.upgraded.set_exception(ConnectionError(data[:200].decode("latin-1")))
            self.transport.abort()
            return len(data)
        self._open = True
        self.upgraded.set_result(None)
        return end + 4

    def _frames(self, data: bytes, at: int) -> int:
        end, take = len(data), self.take
        while end - at >= 2:
            size, head = data[at + 1], 2
            if size == 126:
                size, head = int.from_bytes(data[at + 2 : at + 4], "big"), 4
            elif size == 127:
                size, head = int.from_bytes(data[at + 2 : at + 10], "big"), 10
            if end - at < head + size:
                break
            if data[at] == 0x88:
                self.closed = int.from_bytes(data[at + 2 : at + 4], "big")
            else:
                take(data[at + head : at + head + size])
            at += head + size
        return at


async def connect(url: str, token: str, take: Take, receive_bytes: int | None = None) -> Wire:
    """An upgraded connection."""
    address = url.removeprefix("http://")
    host, _, port = address.rpartition(":")
    loop = asyncio.get_running_loop()
    if receive_bytes is None:
        _, wire = await loop.create_connection(lambda: Wire(take), host, int(port))
    else:
        narrow = socket.socket()
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        narrow.setblocking(False)
        await loop.sock_connect(narrow, (host, int(port)))
        _, wire = await loop.create_connection(lambda: Wire(take), sock=narrow)
    wire.transport.write(_UPGRADE.format(host=address, token=token).encode())
    await wire.upgraded
    return wire


async def hang_up(*wires: Wire) -> None:
    """Drop connections, and return when they are gone."""
    for wire in wires:
        wire.transport.abort()
    await asyncio.gather(*(wire.ended for wire in wires))


class Caller:
    """Requests one after the other on a connection; frames that answer nothing go to `told`."""

    def __init__(self, told: Take | None = None) -> None:
        self._told = told
        self._numbers = 0
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self.wire: Wire

    async def open(self, url: str, token: str, receive_bytes: int | None = None) -> Caller:
        self.wire = await connect(url, token, self._take, receive_bytes)
        await self.ask("system.hello", version="1.0")
        return self

    def say(self, method: str, **params: Any) -> asyncio.Future[Any]:
        self._numbers += 1
        answer = asyncio.get_running_loop().create_future()
        self._answers[self._numbers] = answer
        self.wire.transport.write(request(self._numbers, method, params))
        return answer

    async def ask(self, method: str, **params: Any) -> Any:
        return await self.say(method, **params)

    def _take(self, frame: bytes) -> None:
        if self._told is not None and frame.startswith(b'{"jsonrpc":"2.0","method"'):
            self._told(frame)
            return
        answer = json.loads(frame)
        waiting = self._answers.pop(answer.get("id"), None)
        if waiting is not None:
            if "error" in answer:
                waiting.set_exception(RuntimeError(str(answer["error"])))
            else:
                waiting.set_result(answer["result"])
