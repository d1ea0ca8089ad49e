"""Frames on their way out: encoded, and written at the reader's own pace."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from json.encoder import encode_basestring

from goclaw.core.event import Delta, Event
from goclaw.gateway.pipe import Pipe, text_frame
from goclaw.gateway.shapes import delta_object
from goclaw.wire.frames import dump, notification

CHUNK_BYTES = 64 * 1024
"""How much is written at once; a single frame may be larger."""
STALL_S = 5.0


def event_frame(event: Event) -> bytes:
    """An event as it goes on the wire.

    The same text as of `shapes.event_object` in a notification, written out because it is made a thousand times for one
    replay: a third of the time.
    """
    payload = dump(event.payload) if event.payload else "{}"
    return text_frame(
        f'{{"jsonrpc":"2.0","method":"session.event","params":{{"event_id":{event.event_id}'
        f',"task_id":{_text(event.task_id)},"session_id":{_text(event.session_id)}'
        f',"event_type":{_text(event.event_type)},"state_from":{_text(event.state_from)}'
        f',"state_to":{_text(event.state_to)},"run_id":{_text(event.run_id)},"trace_id":{_text(event.trace_id)}'
        f',"payload":{payload},"created_at":{event.created_at}}}}}'
    )


def _text(value: str | None) -> str:
    return "null" if value is None else encode_basestring(value)


def told_frame(told: Event | Delta) -> bytes:
    """Either of them: what the bus encodes once for all readers."""
    return event_frame(told) if isinstance(told, Event) else delta_frame(told)


def delta_frame(delta: Delta) -> bytes:
    """A delta as it goes on the wire."""
    return text_frame(notification("agent.delta", delta_object(delta)))


class Outlet:
    """One connection's way out. `stalled` is asked whenever its reader has taken nothing for five seconds; it may raise
    Gone, which goes to whoever waits. Nothing is written when nobody reads any more."""

    __slots__ = ("_pipe", "_stalled", "_turn")

    def __init__(self, pipe: Pipe, stalled: Callable[[], Awaitable[None]]) -> None:
        self._pipe = pipe
        self._stalled = stalled
        self._turn = asyncio.Lock()

    @property
    def gone(self) -> bool:
        """Whether nobody reads any more: what is streamed is not even asked for."""
        return self._pipe.gone

    async def send(self, frame: bytes) -> None:
        """Write a frame behind those that wait already, when there is room."""
        await self.stream(iter((frame,)))

    async def stream(self, frames: Iterator[bytes]) -> None:
        """Write frames, many at once, each asked for only when there is room for it.

        What `frames` decides while it is asked holds for what is written: nobody else runs in between. It waits for
        room also when there will be nothing to write.
        """
        more = True
        while more and not self._pipe.gone:
            if self._turn.locked() or self._pipe.full:
                async with self._turn:
                    await self._room()
                    more = self._write(frames)
            else:
                more = self._write(frames)

    def _write(self, frames: Iterator[bytes]) -> bool:
        """Write as much as is worth a write; whether there may be more."""
        chunk: list[bytes] = []
        size = 0
        for frame in frames:
            chunk.append(frame)
            size += len(frame)
            if size >= CHUNK_BYTES:
                break
        if chunk and not self._pipe.gone:
            self._pipe.write(b"".join(chunk))
        return size >= CHUNK_BYTES

    async def _room(self) -> None:
        while self._pipe.full and not self._pipe.gone:
            held = self._pipe.held
            try:
                async with asyncio.timeout(STALL_S):
                    await self._pipe.room()
            except TimeoutError:
                if self._pipe.held >= held:
                    await self._stalled()
