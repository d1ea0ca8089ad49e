"""The pipe over uvicorn's WebSocket: what came before it listened is not lost, and a pause holds everything back."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from goclaw.gateway.websocket import SocketPipe


class Transport:
    """Notes what a transport is told."""

    def __init__(self) -> None:
        self.reading = True
        self.written: list[bytes] = []

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 7


class Heard:
    """A listener that may pause the pipe at a message."""

    def __init__(self, pipe: SocketPipe, pause_at: tuple[str | bytes, ...] = ()) -> None:
        self.pipe = pipe
        self.pause_at = pause_at
        self.messages: list[str | bytes] = []
        self.ends = 0

    def take(self, message: str | bytes) -> None:
        self.messages.append(message)
        if message in self.pause_at:
            self.pipe.pause()

    def left(self) -> None:
        self.ends += 1


def half_open(*messages: dict[str, Any]) -> tuple[SocketPipe, Any]:
    """A pipe whose connection was accepted, with what uvicorn has queued meanwhile."""
    queue: asyncio.Queue[Any] = asyncio.Queue()
    for message in messages:
        queue.put_nowait(message)
    protocol = SimpleNamespace(
        transport=Transport(),
        queue=queue,
        scope={"headers": [(b"authorization", b"Bearer x")]},
        request=object(),
        response=object(),
        read_paused=bool(messages),
        disconnected=False,
        close_sent=False,
        writable=asyncio.Event(),
    )
    return SocketPipe(protocol), protocol  # type: ignore[arg-type]


def text(value: str) -> dict[str, Any]:
    return {"type": "websocket.receive", "text": value}


@pytest.mark.spec("GC-PERF-205")
async def test_what_came_with_the_handshake_is_handed_over_first_and_the_socket_is_read_on() -> None:
    pipe, protocol = half_open(text("a"), {"type": "websocket.receive", "bytes": b"b", "text": None}, text(""))
    protocol.transport.reading = False
    heard = Heard(pipe)
    pipe.listen(heard)
    pipe.deliver("c")
    assert heard.messages == ["a", b"b", "", "c"]
    assert protocol.transport.reading
    assert protocol.scope["headers"] == [], "no token is kept for as long as the connection lives"
    assert not hasattr(protocol, "request")


@pytest.mark.spec("GC-ACP-311")
async def test_a_paused_pipe_keeps_what_was_read_and_reads_no_more() -> None:
    pipe, protocol = half_open()
    heard = Heard(pipe, pause_at=("a", "c"))
    pipe.listen(heard)
    for message in ("a", "b", "c", "d"):
        pipe.deliver(message)
    assert heard.messages == ["a"]
    assert not protocol.transport.reading
    pipe.resume()
    assert heard.messages == ["a", "b", "c"], "the listener has paused it again"
    assert not protocol.transport.reading
    pipe.resume()
    pipe.deliver("e")
    assert heard.messages == ["a", "b", "c", "d", "e"]
    assert protocol.transport.reading


@pytest.mark.spec("GC-PERF-205")
async def test_the_end_is_told_whether_it_comes_before_or_after_somebody_listens() -> None:
    early, _ = half_open({"type": "websocket.disconnect", "code": 1001})
    heard = Heard(early)
    early.listen(heard)
    assert heard.ends == 1
    late, protocol = half_open()
    heard = Heard(late)
    late.listen(heard)
    assert heard.ends == 0
    protocol.queue.put_nowait({"type": "websocket.disconnect", "code": 1001})
    assert heard.ends == 1


@pytest.mark.spec("GC-PERF-205")
async def test_there_is_room_when_uvicorn_says_so() -> None:
    pipe, protocol = half_open()
    assert pipe.full
    assert pipe.held == 7
    waiting = asyncio.ensure_future(pipe.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    protocol.writable.set()
    await waiting
    assert not pipe.full
    assert not pipe.gone
    protocol.close_sent = True
    assert pipe.gone
