"""OpenAI's chat completions on the wire, as the many servers that imitate it speak it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from goclaw.brain.providers.reading import Meter, read_call, settled_stop, whole
from goclaw.brain.providers.rendering import paired
from goclaw.core.canonical import canonical_json
from goclaw.core.chat import Block, ChatRequest, Message, Opaque, Reply, StopReason, Text, ToolResult, Usage
from goclaw.errors import ProviderUnavailable

_STOP: dict[str, StopReason] = {
    "stop": "end_turn",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "length": "max_tokens",
    "content_filter": "refusal",
}
_REASONING = ("reasoning_content", "reasoning")
"""Where the imitators put thinking; OpenAI itself shows none here."""


def parameters(request: ChatRequest, *, provider: str, model: str, limit: tuple[str, int] | None) -> dict[str, Any]:
    """The arguments of `chat.completions.create`. The same request gives the same arguments, byte for byte.

    `limit` is the name this server knows for the bound of an answer, and the bound.
    """
    wire: dict[str, Any] = {
        "model": model,
        "messages": list(_messages(request, provider, model)),
        "stream_options": {"include_usage": True},
    }
    if limit is not None:
        wire[limit[0]] = limit[1]
    if request.tools:
        wire["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": dict(tool.parameters),
                },
            }
            for tool in request.tools
        ]
    if request.temperature is not None:
        wire["temperature"] = request.temperature
    if request.top_p is not None:
        wire["top_p"] = request.top_p
    if request.stop:
        wire["stop"] = list(request.stop)
    return wire


def _messages(request: ChatRequest, provider: str, model: str) -> Iterator[dict[str, Any]]:
    if request.system.strip():
        yield {"role": "system", "content": request.system}
    for message in paired(request.messages):
        match message.role:
            case "assistant":
                yield from _assistant(message, provider, model)
            case "tool":
                yield from (_result(block) for block in message.blocks if isinstance(block, ToolResult))
                if message.text:
                    yield {"role": "user", "content": message.text}
            case "user" | "system":
                yield {"role": message.role, "content": message.text}


def _assistant(message: Message, provider: str, model: str) -> Iterator[dict[str, Any]]:
    wire: dict[str, Any] = {"role": "assistant", "content": message.text or None}
    for block in message.blocks:
        if isinstance(block, Opaque) and block.provider == provider and block.data.get("model") == model:
            wire.update(block.data["fields"])
    if message.calls:
        wire["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": canonical_json(call.arguments)},
            }
            for call in message.calls
        ]
    if message.text or message.calls:
        yield wire


def _result(block: ToolResult) -> dict[str, Any]:
    """There is no field for a failure here, so the text says it."""
    text = f"Error: {block.text}" if block.is_error else block.text
    return {"role": "tool", "tool_call_id": block.call_id, "content": text}


@dataclass(slots=True)
class _Draft:
    """One tool call while it arrives."""

    id: str | None
    name: str = ""
    arguments: list[str] = field(default_factory=list)


class Assembly:
    """Collects the chunks of one stream. Not shared between streams."""

    def __init__(self, provider: str, model: str) -> None:
        self._provider = provider
        self._model = model
        self._served = model
        self._meter = Meter(provider)
        self._text: list[str] = []
        self._reasoning: dict[str, list[str]] = {}
        self._drafts: list[_Draft] = []
        self._at: dict[int, _Draft] = {}
        self._finish: str | None = None
        self._refused = False
        self._usage = Usage(calls=1)

    def feed(self, chunk: Any) -> str:
        """Take in one chunk of the SDK; the text it adds to the answer, if any."""
        self._served = chunk.model or self._served
        if chunk.usage is not None:
            self._usage = _usage(chunk.usage)
        if not chunk.choices:
            return ""
        choice = chunk.choices[0]
        self._finish = choice.finish_reason or self._finish
        return self._extend(choice.delta) if choice.delta is not None else ""

    def reply(self) -> Reply:
        """The whole answer. Raises ProviderUnavailable when the stream ended before it was one."""
        if self._finish is None or self._finish == "error":
            raise ProviderUnavailable(f"{self._provider} ended its stream before the answer was whole")
        stop = "refusal" if self._refused else _STOP.get(self._finish, "end_turn")
        blocks = tuple(self._blocks(stop))
        return Reply(
            blocks=blocks,
            stop_reason=settled_stop(stop, blocks),
            usage=self._usage,
            provider=self._provider,
            model=self._served,
        )

    def _extend(self, delta: Any) -> str:
        for name in _REASONING:
            thought = getattr(delta, name, None)
            if isinstance(thought, str) and thought:
                self._reasoning.setdefault(name, []).append(self._meter.count(thought))
        for call in delta.tool_calls or ():
            self._extend_call(call)
        refusal = getattr(delta, "refusal", None)
        self._refused = self._refused or bool(refusal)
        text = self._meter.count((delta.content or "") + (refusal or ""))
        self._text.append(text)
        return whole(text)

    def _extend_call(self, call: Any) -> None:
        draft = self._draft(call.index, call.id)
        if call.function is not None:
            draft.name = draft.name or call.function.name or ""
            draft.arguments.append(self._meter.count(call.function.arguments or ""))

    def _draft(self, index: int | None, id_: str | None) -> _Draft:
        """The call a delta belongs to. Some servers number every call 0, or none: there a new id is a new
        call.
        """
        known = self._at.get(index) if index is not None else (self._drafts[-1] if self._drafts else None)
        if known is not None and (not id_ or id_ == known.id):
            return known
        draft = _Draft(id_)
        self._drafts.append(draft)
        self._meter.calls(len(self._drafts))
        if index is not None:
            self._at[index] = draft
        return draft

    def _blocks(self, stop: StopReason) -> Iterable[Block]:
        if self._reasoning:
            fields = {name: whole("".join(pieces)) for name, pieces in self._reasoning.items()}
            yield Opaque(self._provider, {"model": self._model, "fields": fields})
        text = "".join(self._text)
        if text:
            yield Text(whole(text))
        for number, draft in enumerate(self._drafts, start=1):
            arguments = "".join(draft.arguments)
            call = read_call(f"call_{number}", draft.name, arguments, stop=stop, provider=self._provider)
            if call is not None:
                yield call


def _usage(counts: Any) -> Usage:
    """OpenAI counts cached tokens among the prompt's; ours are disjoint, as Anthropic's."""
    details = counts.prompt_tokens_details
    read = getattr(details, "cached_tokens", None) or 0
    written = getattr(details, "cache_write_tokens", None) or 0
    return Usage(
        input=max(0, (counts.prompt_tokens or 0) - read - written),
        output=counts.completion_tokens or 0,
        cache_read=read,
        cache_write=written,
        calls=1,
    )
