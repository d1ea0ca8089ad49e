"""uvicorn's WebSocket as a pipe: no queue, no pause of the socket for each message, nothing kept of the handshake."""

from __future__ import annotations

from collections import deque
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from goclaw.gateway.pipe import PIPE, Listener

LAST_WORD_S = 30.0
"""For the end of a connection that is cut off; what its reader has not taken by then is dropped."""


class SocketProtocol(WebSocketsSansIOProtocol):
    """As uvicorn's until somebody listens at the pipe; then messages go there."""

    pipe: SocketPipe

    def handle_connect(self, event: Any) -> None:
        """As uvicorn's; the scope carries the pipe."""
        super().handle_connect(event)
        if not self.handshake_complete:
            self.pipe = SocketPipe(self)
            extensions: dict[str, Any] = self.scope["extensions"]
            extensions[PIPE] = self.pipe

    def send_receive_event_to_app(self) -> None:
        """As uvicorn's before somebody listens, behind a close, and for text that is not UTF-8 (close 1007)."""
        if self.close_sent or not self.pipe.listening:
            super().send_receive_event_to_app()
            return
        data = b"".join(self.frames)
        try:
            message = data.decode() if self.curr_msg_data_type == "text" else data
        except UnicodeDecodeError:
            super().send_receive_event_to_app()
            return
        self.frames = []
        self.pipe.deliver(message)


class SocketPipe:
    """A WebSocket of uvicorn as a pipe; `pipe.Pipe` says what each part promises."""

    __slots__ = ("_inbox", "_listener", "_paused", "_protocol")

    def __init__(self, protocol: SocketProtocol) -> None:
        self._protocol = protocol
        self._listener: Listener | None = None
        self._inbox: deque[str | bytes] | None = None
        self._paused = False

    @property
    def listening(self) -> bool:
        """Whether messages go to a listener."""
        return self._listener is not None

    @property
    def gone(self) -> bool:
        """Whether what is written is lost."""
        protocol = self._protocol
        return protocol.disconnected or protocol.close_sent or protocol.transport.is_closing()

    @property
    def full(self) -> bool:
        """Whether a write would only grow what waits in memory."""
        return not self._protocol.writable.is_set()

    @property
    def held(self) -> int:
        """Bytes that were written and not yet taken by the system."""
        return self._protocol.transport.get_write_buffer_size()

    def listen(self, listener: Listener) -> None:
        """Hand over what came and what comes, from now on."""
        protocol, self._listener = self._protocol, listener
        # Thousands of these are idle: what only the handshake needed is let go of.
        protocol.scope["headers"] = []
        del protocol.request, protocol.response
        queue, protocol.queue = protocol.queue, _Ends(listener)  # type: ignore[assignment]
        while not queue.empty():
            message: Any = queue.get_nowait()
            if message["type"] == "websocket.receive":
                text = message.get("text")
                self.deliver(message["bytes"] if text is None else text)
            else:
                listener.left()
        if protocol.read_paused:
            protocol.read_paused = False
            if not self._paused:
                protocol.transport.resume_reading()

    def deliver(self, message: str | bytes) -> None:
        """Hand a message over, or keep it while paused: never more than one read of the socket holds."""
        if self._paused or self._listener is None:
            self._inbox = self._inbox or deque()
            self._inbox.append(message)
        else:
            self._listener.take(message)

    def pause(self) -> None:
        """Hand over nothing until `resume`; what the other end sends then waits there."""
        if not self._paused:
            self._paused = True
            self._protocol.transport.pause_reading()

    def resume(self) -> None:
        """Hand over again."""
        self._paused = False
        while self._inbox and not self._paused and self._listener is not None:
            self._listener.take(self._inbox.popleft())
        if not self._paused:
            self._inbox = None
            self._protocol.transport.resume_reading()

    def write(self, frames: bytes) -> None:
        """Write whole frames, room or not."""
        self._protocol.transport.write(frames)

    async def room(self) -> None:
        """Return when there is room, or nobody left to write to."""
        await self._protocol.writable.wait()

    async def cut(self, last: bytes, code: int, reason: str) -> None:
        """Write a last frame, close, and drop what is not taken of both."""
        protocol = self._protocol
        protocol.transport.write(last)
        # A reader that takes nothing is still told why: the frames wait behind the full buffer.
        protocol.writable.set()
        protocol.loop.call_later(LAST_WORD_S, protocol.transport.abort)
        await protocol.send({"type": "websocket.close", "code": code, "reason": reason})
        # Only the reply to the close is still of interest.
        self._inbox = None
        protocol.transport.resume_reading()


class _Ends:
    """In the place of uvicorn's queue once somebody listens: only the end of the connection is told there."""

    __slots__ = ("_listener",)

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def put_nowait(self, _: Any) -> None:
        self._listener.left()
