"""Bodies of HTTP: read up to a bound, answered in pieces, and clients that leave before the end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from goclaw.errors import TooLarge
from goclaw.wire.frames import FRAME_BYTES

T = TypeVar("T")
Write = Callable[[str], Awaitable[None]]
Produce = Callable[[Write], Awaitable[None]]
"""Writes the pieces of an answer; what goes wrong it writes too. It is cancelled when the client leaves."""


CLIENT_LEFT = 499
"""The status of what nobody reads any more."""


class _ClientLeft(Exception):
    """Nobody is there to be answered."""


async def read_body(request: Request) -> bytes:
    """The body. Raises TooLarge before more than a frame is read, and starlette's ClientDisconnect."""
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > FRAME_BYTES:
            raise TooLarge("a request has at most 4 MiB", limit=FRAME_BYTES)
        chunks.append(chunk)
    return b"".join(chunks)


class EventStream(Response):
    """A `text/event-stream` that `produce` writes, at the client's pace."""

    media_type = "text/event-stream"

    def __init__(self, produce: Produce) -> None:
        super().__init__(headers={"cache-control": "no-cache"})
        del self.headers["content-length"]
        self._produce = produce

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the head, then what is produced."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})

        async def write(piece: str) -> None:
            await send({"type": "http.response.body", "body": piece.encode(), "more_body": True})

        await unless_client_leaves(receive, self._produce(write))
        await send({"type": "http.response.body", "body": b""})


async def unless_client_leaves(receive: Receive, work: Awaitable[T]) -> T | None:
    """What `work` returns; None when the client left first, then it was cancelled. `work` must not raise."""
    result: T | None = None
    try:
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(_until_left(receive))
            result = await work
            watching.cancel()
    except* _ClientLeft:
        result = None
    return result


async def _until_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    raise _ClientLeft
