"""Stand-ins for the ports, for the tests of whoever uses them. Each fails rather than guess."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from goclaw.core.chat import Block, ChatRequest, Chunk, Reply, Text, TextChunk, ToolCall, Usage

Step = Reply | Exception | Sequence[Chunk | Exception]
"""What one call of a scripted provider gives: a reply (its text is streamed first), an error, or these very
chunks.
"""


def says(text: str, *, provider: str = "scripted") -> Reply:
    """A final answer."""
    usage = Usage(input=10, output=5, calls=1)
    return Reply(blocks=(Text(text),), stop_reason="end_turn", usage=usage, provider=provider, model="script")


def calls(*wanted: tuple[str, Mapping[str, Any]], text: str = "", provider: str = "scripted") -> Reply:
    """An answer that asks for these tools, in this order."""
    blocks: list[Block] = [Text(text)] if text else []
    blocks += [ToolCall(f"call_{n}", name, arguments) for n, (name, arguments) in enumerate(wanted, start=1)]
    usage = Usage(input=10, output=5, calls=1)
    return Reply(blocks=tuple(blocks), stop_reason="tool_use", usage=usage, provider=provider, model="script")


class ScriptedProvider:
    """A provider that follows a script: one step a call, in order.

    A call beyond the script fails at once; `finish` (or leaving `with`) fails when a step was not used or a
    call came too much. `requests` holds what was asked. With a `gate`, every call waits for it before its
    first chunk; `waiting` is set while one does.
    """

    def __init__(self, steps: Sequence[Step], *, name: str = "scripted", gate: asyncio.Event | None = None) -> None:
        self._steps = list(steps)
        self._name = name
        self._gate = gate
        self._extra = 0
        self.waiting = asyncio.Event()
        self.requests: list[ChatRequest] = []

    @property
    def name(self) -> str:
        return self._name

    async def stream(self, request: ChatRequest) -> AsyncIterator[Chunk]:
        self.requests.append(request)
        if not self._steps:
            self._extra += 1
            raise AssertionError(f"the script of {self._name} is over, but call {len(self.requests)} came")
        step = self._steps.pop(0)
        if self._gate is not None:
            self.waiting.set()
            await self._gate.wait()
        for chunk in _chunks(step):
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk

    async def aclose(self) -> None:
        """Nothing is held."""

    def finish(self) -> None:
        """Fails unless the script was followed exactly."""
        assert not self._extra, f"{self._extra} calls of {self._name} more than its script has steps"
        assert not self._steps, f"{len(self._steps)} steps of {self._name} were not used"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.finish()


def _chunks(step: Step) -> Sequence[Chunk | Exception]:
    if isinstance(step, Exception):
        return (step,)
    if isinstance(step, Reply):
        text = "".join(block.text for block in step.blocks if isinstance(block, Text))
        return (TextChunk(text), step) if text else (step,)
    return step


class FakeClock:
    """Time stands still until it is moved. `sleep` moves it: nobody waits, and the order of sleepers is
    theirs.
    """

    def __init__(self, wall: int = 1_800_000_000_000, monotonic: int = 1_000_000) -> None:
        self._wall = wall
        self._monotonic = monotonic

    def wall(self) -> int:
        return self._wall

    def monotonic(self) -> int:
        return self._monotonic

    def advance(self, ms: int) -> None:
        """Let time pass."""
        self._wall += ms
        self._monotonic += ms

    def step_wall(self, ms: int) -> None:
        """Somebody sets the wall clock; monotonic time does not notice."""
        self._wall += ms

    async def sleep(self, ms: float) -> None:
        self.advance(int(ms))
        await asyncio.sleep(0)
