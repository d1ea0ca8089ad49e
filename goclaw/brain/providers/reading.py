"""What holds for every wire: a call ends in time, arguments are strict JSON, text is Unicode, answers are
bounded.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, Never, TypeVar

from goclaw.core.chat import Block, StopReason, ToolCall
from goclaw.core.ports import Clock
from goclaw.errors import ProviderUnavailable

T = TypeVar("T")

REPLY_LIMIT = 8 * 1024 * 1024
"""Characters of one answer, tool arguments and thinking included."""
CALLS_LIMIT = 128
"""Tool calls of one answer."""


class Deadline:
    """The end of one call, counted from its construction. Raises TimeoutError.

    An asynchronous generator must not yield inside `asyncio.timeout` (the time-out would strike its
    consumer), so each wait has a time-out of its own.
    """

    def __init__(self, clock: Clock, ms: int) -> None:
        self._clock = clock
        self._end = clock.monotonic() + ms

    async def wait(self, call: Callable[[], Awaitable[T]]) -> T:
        """The result of `call()`, if it comes in time."""
        left = self._end - self._clock.monotonic()
        if left <= 0:
            raise TimeoutError
        async with asyncio.timeout(left / 1000):
            return await call()

    async def each(self, stream: AsyncIterator[T]) -> AsyncIterator[T]:
        """The items of `stream`, as long as each comes in time."""
        while True:
            try:
                item = await self.wait(stream.__anext__)
            except StopAsyncIteration:
                return
            yield item


class Meter:
    """Counts what was received of one answer."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._size = 0

    def count(self, piece: str) -> str:
        """`piece` itself. Raises ProviderUnavailable when the answer has grown beyond `REPLY_LIMIT`."""
        self._size += len(piece)
        if self._size > REPLY_LIMIT:
            raise ProviderUnavailable(f"{self._provider} sent more than {REPLY_LIMIT} characters in one answer")
        return piece

    def calls(self, number: int) -> None:
        """Raises ProviderUnavailable when there are more than `CALLS_LIMIT` tool calls."""
        if number > CALLS_LIMIT:
            raise ProviderUnavailable(f"{self._provider} asked for more than {CALLS_LIMIT} tools in one answer")


def parse_json(text: str) -> Any:
    """`text` as JSON. Raises ValueError, also for NaN and infinities, which are not JSON, and for absurd
    nesting.
    """
    try:
        value = json.loads(text, parse_constant=_not_json)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return json.loads(whole(json.dumps(value, ensure_ascii=False))) if "\\u" in text else value


def read_call(id_: str, name: str, text: str, *, stop: StopReason, provider: str) -> ToolCall | None:
    """The tool call whose arguments arrived as `text` (none at all is an empty object).

    None where it must not run: the model refused, or had no tokens left to finish it. Otherwise a call whose
    arguments are not one JSON object is never guessed at: ProviderUnavailable, so that the request is made
    again.
    """
    if stop == "refusal" or (stop == "max_tokens" and not text.strip()):
        return None
    try:
        arguments = parse_json(text) if text.strip() else {}
    except ValueError:
        arguments = None
    if isinstance(arguments, dict) and name:
        return ToolCall(id_, name, arguments)
    if stop == "max_tokens":
        return None
    message = f"{provider} sent malformed tool arguments for {name or 'a tool without a name'}"
    raise ProviderUnavailable(message, provider=provider, kind="malformed_arguments")


def settled_stop(stop: StopReason, blocks: Iterable[Block]) -> StopReason:
    """The stop reason that agrees with the answer; some servers say "stop" with calls, or "tool_calls"
    without.
    """
    if stop not in {"end_turn", "tool_use"}:
        return stop
    return "tool_use" if any(isinstance(block, ToolCall) for block in blocks) else "end_turn"


def whole(text: str) -> str:
    """`text` with halves of surrogate pairs joined, and lone halves replaced: what can be stored as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _not_json(name: str) -> Never:
    raise ValueError(f"{name} is not JSON")
