"""Streamed answers of the OpenAI dialect: of a turn, and of a provider passed through."""

from __future__ import annotations

from collections.abc import AsyncIterator

from goclaw.bus import Subscription
from goclaw.core.chat import Chunk, TextChunk
from goclaw.errors import ProviderUnavailable
from goclaw.gateway.bodies import Write
from goclaw.gateway.openai_wire import ChatCompletion, Chunks, finish_reason, usage_object

DONE = "data: [DONE]\n\n"
NO_ANSWER = "the provider's stream ended without an answer"


class ShownText:
    """What a client was shown of an answer: deltas as far as none is missing, the rest when the answer is known."""

    def __init__(self, chunks: Chunks, write: Write) -> None:
        self._chunks = chunks
        self._write = write
        self._text = ""
        self._seq = 0
        self._whole = True

    async def pass_on(self, reader: Subscription) -> None:
        """Show the deltas that wait, unless one before them was lost or they start over."""
        while reader.deltas:
            delta = reader.deltas.popleft()
            self._seq += 1
            self._whole = self._whole and delta.seq == self._seq and not delta.reset
            if self._whole and delta.content:
                self._text += delta.content
                await self._write(self._chunks.delta({"content": delta.content}))

    async def complete(self, answer: str) -> None:
        """Show what is missing of the answer."""
        if self._whole and self._text.endswith(answer):
            return
        missing = answer.removeprefix(self._text)
        apart = "\n\n" if self._text and missing == answer else ""
        await self._write(self._chunks.delta({"content": apart + missing}))


async def pass_deltas(reader: Subscription, shown: ShownText) -> None:
    """Show deltas as they come, until cancelled."""
    while True:
        await reader.wait()
        await shown.pass_on(reader)


async def stream_raw(
    wanted: ChatCompletion, first: Chunk, rest: AsyncIterator[Chunk], chunks: Chunks, write: Write
) -> None:
    """A provider's own stream. Raises ProviderError."""
    await write(chunks.delta({"role": "assistant", "content": ""}))
    chunk: Chunk | None = first
    while isinstance(chunk, TextChunk):
        if chunk.text:
            await write(chunks.delta({"content": chunk.text}))
        chunk = await anext(rest, None)
    if chunk is None:
        raise ProviderUnavailable(NO_ANSWER)
    for frame in chunks.calls(chunk.blocks):
        await write(frame)
    await write(chunks.delta({}, finish_reason(chunk)))
    if wanted.include_usage:
        await write(chunks.usage(usage_object(chunk.usage.as_json())))
    await write(DONE)
