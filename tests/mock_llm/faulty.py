"""A loopback server that misbehaves exactly as it is told: for the faults a well-made mock cannot produce."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

END = "end"
"""The body ends as HTTP says it should; whether the answer in it is whole is another matter."""
CUT = "cut"
"""The connection is gone in the middle of the body."""
HANG = "hang"
"""Nothing more comes, until the server is closed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One response: status, headers, the pieces of the body, and what happens after the last of them."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Sequence[str | bytes] = ()
    then: Literal["end", "cut", "hang"] = "end"


def error(status: int, message: str, *, type_: str = "error", headers: Mapping[str, str] | None = None) -> Answer:
    """A refusal in the shape both APIs share."""
    body = json.dumps({"type": "error", "error": {"type": type_, "message": message}})
    return Answer(status, {"content-type": "application/json", **(headers or {})}, (body,))


def sse(*events: Mapping[str, Any] | str, then: Literal["end", "cut", "hang"] = "end") -> Answer:
    """A stream of events; a mapping is sent as JSON under its own `type`, text as the bare data."""
    pieces = []
    for event in events:
        name = f"event: {event['type']}\n" if isinstance(event, Mapping) and "type" in event else ""
        data = event if isinstance(event, str) else json.dumps(event)
        pieces.append(f"{name}data: {data}\n\n")
    return Answer(200, {"content-type": "text/event-stream"}, pieces, then)


@dataclass(slots=True)
class FaultyServer:
    """The running server and what it was asked: (path, headers in lower case, JSON body) of each request."""

    answers: list[Answer]
    url: str = ""
    requests: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a client hung up on an answer that hangs."""
    extra: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            self.requests.append((head[0].split(" ")[1], headers, json.loads(body) if body else None))
            if not self.answers:
                self.extra += 1
                return
            chunked = not head[0].endswith("HTTP/1.0")
            await self._answer(self.answers.pop(0), reader, writer, chunked=chunked)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(
        self, answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, chunked: bool
    ) -> None:
        framing = {"transfer-encoding": "chunked"} if chunked else {}
        headers = {"connection": "close", **framing, **answer.headers}
        lines = [
            f"HTTP/1.1 {answer.status} Whatever",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        for piece in answer.body:
            data = piece if isinstance(piece, bytes) else piece.encode()
            writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n" if chunked else data)
            await writer.drain()
        if answer.then == HANG:
            await self._hang(reader)
        elif answer.then == END and chunked:
            writer.write(b"0\r\n\r\n")
        await writer.drain()

    async def _hang(self, reader: asyncio.StreamReader) -> None:
        async with asyncio.TaskGroup() as group:
            hung_up = group.create_task(reader.read())
            closed = group.create_task(self.closing.wait())
            done, pending = await asyncio.wait((hung_up, closed), return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
        if hung_up in done:
            self.left.set()


@asynccontextmanager
async def faulty(*answers: Answer) -> AsyncIterator[FaultyServer]:
    """A server that gives these answers in turn. Leaving it fails if some are left, or more were asked."""
    script = FaultyServer(list(answers))
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    script.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield script
        assert not script.answers, f"{len(script.answers)} answers were never asked for"
        assert not script.extra, f"{script.extra} requests more than there were answers"
    finally:
        script.closing.set()
        server.close()
        await server.wait_closed()
