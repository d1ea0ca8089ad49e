"""The socket of one WebSocket connection, as the connection sees it; `server` makes one of what uvicorn accepts.

Frames go out as the bytes they are on the wire, so that what many readers are told is made once. Nothing here waits
but for room.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from websockets.frames import Frame, Opcode

PIPE = "goclaw.pipe"
"""Where an ASGI scope keeps it, among its extensions."""


class Gone(Exception):
    """Nobody is at the other end any more."""


def pipe_of(scope: Mapping[str, Any]) -> Pipe:
    """The pipe of a WebSocket's ASGI scope, on this server."""
    pipe: Pipe = scope["extensions"][PIPE]
    return pipe


class Listener(Protocol):
    """Who is told what comes in."""

    def take(self, message: str | bytes) -> None:
        """One message, in the order in which they came. Returns at once."""
        ...

    def left(self) -> None:
        """The other end is gone, or was cut off. May be told more than once."""
        ...


class Pipe(Protocol):
    """Both directions of a socket."""

    @property
    def gone(self) -> bool:
        """Whether what is written is lost."""
        ...

    @property
    def full(self) -> bool:
        """Whether a write would only grow what waits in memory."""
        ...

    @property
    def held(self) -> int:
        """Bytes that were written and not yet taken by the system."""
        ...

    def listen(self, listener: Listener) -> None:
        """Hand over what came and what comes, from now on."""
        ...

    def pause(self) -> None:
        """Hand over nothing until `resume`; what the other end sends then waits there."""
        ...

    def resume(self) -> None:
        """Hand over again."""
        ...

    def write(self, frames: bytes) -> None:
        """Write whole frames, room or not."""
        ...

    async def room(self) -> None:
        """Return when there is room, or nobody left to write to."""
        ...

    async def cut(self, last: bytes, code: int, reason: str) -> None:
        """Write a last frame, close, and drop what is not taken of both."""
        ...


def text_frame(text: str) -> bytes:
    """A whole text frame of a server: the same bytes for every reader, because nothing is compressed or masked."""
    return Frame(Opcode.TEXT, text.encode()).serialize(mask=False)
