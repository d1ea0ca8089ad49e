"""Anthropic's Messages API on the wire: our request as its parameters, its stream of events as our reply.
Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from goclaw.brain.providers.reading import Meter, read_call, settled_stop, whole
from goclaw.brain.providers.rendering import paired, system_note
from goclaw.core.chat import (
    Block,
    ChatRequest,
    Message,
    Opaque,
    Reply,
    StopReason,
    Text,
    ToolCall,
    ToolResult,
    Usage,
)
from goclaw.errors import ProviderUnavailable

_STOP: dict[str, StopReason] = {
    "end_turn": "end_turn",
    "tool_use": "tool_use",
    "max_tokens": "max_tokens",
    "model_context_window_exceeded": "max_tokens",
    "stop_sequence": "stop_sequence",
    "refusal": "refusal",
}
_CACHED = {"type": "ephemeral"}


def parameters(request: ChatRequest, *, provider: str, model: str, max_tokens: int) -> dict[str, Any]:
    """The arguments of `messages.create`. The same request gives the same arguments, byte for byte.

    Two cache marks: after the system prompt (which covers the tools before it) and at the end of the
    conversation, so that the next round of a turn reads what this one wrote.
    """
    wire: dict[str, Any] = {
        "model": model,
        "max_tokens": request.max_tokens or max_tokens,
        "messages": _marked(_merged(_message(message, provider, model) for message in paired(request.messages))),
    }
    if request.system.strip():
        wire["system"] = [{"type": "text", "text": request.system, "cache_control": _CACHED}]
    if request.tools:
        wire["tools"] = [
            {"name": tool.name, "description": tool.description, "input_schema": dict(tool.parameters)}
            for tool in request.tools
        ]
    if request.temperature is not None:
        wire["temperature"] = request.temperature
    if request.top_p is not None:
        wire["top_p"] = request.top_p
    if request.stop:
        wire["stop_sequences"] = list(request.stop)
    return wire


def _message(message: Message, provider: str, model: str) -> tuple[str, list[dict[str, Any]]]:
    role = "assistant" if message.role == "assistant" else "user"
    blocks = [_block(block, message, provider, model) for block in message.blocks]
    return role, [block for block in blocks if block is not None]


def _block(block: Block, message: Message, provider: str, model: str) -> dict[str, Any] | None:
    match block:
        case Text(text=text):
            # The API refuses blank text, and there is nothing in it to lose.
            shown = system_note(text) if message.role == "system" else text
            return {"type": "text", "text": shown} if text.strip() else None
        case Opaque(provider=origin, data=data):
            own = origin == provider and data.get("model") == model
            return dict(data["block"]) if own else None
        case ToolCall(id=id_, name=name, arguments=arguments):
            return {"type": "tool_use", "id": id_, "name": name, "input": dict(arguments)}
        case ToolResult(call_id=id_, text=text, is_error=is_error):
            return {"type": "tool_result", "tool_use_id": id_, "content": text, "is_error": is_error}


def _merged(messages: Iterable[tuple[str, list[dict[str, Any]]]]) -> list[dict[str, Any]]:
    """Roles must alternate: what follows in the same role joins the message before; an empty one vanishes."""
    merged: list[dict[str, Any]] = []
    for role, blocks in messages:
        if not blocks:
            continue
        if merged and merged[-1]["role"] == role:
            merged[-1]["content"].extend(blocks)
        else:
            merged.append({"role": role, "content": blocks})
    return merged


def _marked(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if messages and messages[-1]["role"] == "user":
        messages[-1]["content"][-1]["cache_control"] = _CACHED
    return messages


@dataclass(slots=True)
class _Draft:
    """One block while it arrives; `start` is what its first event said of it."""

    kind: str
    start: dict[str, Any]
    text: list[str] = field(default_factory=list)
    signature: str = ""


class Assembly:
    """Collects the events of one stream. Not shared between streams."""

    def __init__(self, provider: str, model: str) -> None:
        self._provider = provider
        self._model = model
        self._served = model
        self._meter = Meter(provider)
        self._drafts: dict[int, _Draft] = {}
        self._counts: dict[str, int] = {}
        self._stop: str | None = None
        self._complete = False

    def feed(self, event: Any) -> str:
        """Take in one event of the SDK; the text it adds to the answer, if any."""
        match event.type:
            case "message_start":
                self._served = event.message.model or self._model
                self._count(event.message.usage)
            case "content_block_start":
                return self._open(event.index, event.content_block.to_dict())
            case "content_block_delta":
                return self._extend(self._drafts[event.index], event.delta)
            case "message_delta":
                self._stop = event.delta.stop_reason or self._stop
                self._count(event.usage)
            case "message_stop":
                self._complete = True
        return ""

    def reply(self) -> Reply:
        """The whole answer. Raises ProviderUnavailable when the stream ended before it was one."""
        if not self._complete or self._stop is None:
            raise ProviderUnavailable(f"{self._provider} ended its stream before the answer was whole")
        stop = _STOP.get(self._stop, "end_turn")
        blocks = tuple(self._blocks(stop))
        return Reply(
            blocks=blocks,
            stop_reason=settled_stop(stop, blocks),
            usage=self._usage(),
            provider=self._provider,
            model=self._served,
        )

    def _open(self, index: int, start: dict[str, Any]) -> str:
        self._drafts[index] = draft = _Draft(start["type"], start)
        self._meter.calls(len(self._drafts))
        text = start.get("text") or ""
        if draft.kind == "text" and text:
            draft.text.append(self._meter.count(text))
            return whole(text)
        return ""

    def _extend(self, draft: _Draft, delta: Any) -> str:
        match delta.type:
            case "text_delta":
                draft.text.append(self._meter.count(delta.text))
                return whole(delta.text)
            case "input_json_delta":
                draft.text.append(self._meter.count(delta.partial_json))
            case "thinking_delta":
                draft.text.append(self._meter.count(delta.thinking))
            case "signature_delta":
                draft.signature = self._meter.count(delta.signature)
        return ""

    def _blocks(self, stop: StopReason) -> Iterable[Block]:
        calls = 0
        for _, draft in sorted(self._drafts.items()):
            text = "".join(draft.text)
            if draft.kind == "text" and text:
                yield Text(whole(text))
            elif draft.kind == "thinking":
                block = {"type": "thinking", "thinking": whole(text), "signature": draft.signature}
                yield Opaque(self._provider, {"model": self._model, "block": block})
            elif draft.kind == "redacted_thinking":
                yield Opaque(self._provider, {"model": self._model, "block": draft.start})
            elif draft.kind == "tool_use":
                calls += 1
                call = self._call(draft, text, f"call_{calls}", stop)
                if call is not None:
                    yield call

    def _call(self, draft: _Draft, text: str, id_: str, stop: StopReason) -> ToolCall | None:
        given = draft.start.get("input")  # whole at once from servers that do not stream arguments
        if not text and given:
            text = json.dumps(given)
        return read_call(id_, draft.start.get("name") or "", text, stop=stop, provider=self._provider)

    def _count(self, usage: Any) -> None:
        """Counts are cumulative; a later event corrects an earlier one and may leave some out."""
        for name in (
            "input_tokens",
            "output_tokens",
            "cache_read_input_tokens",
            "cache_creation_input_tokens",
        ):
            value = getattr(usage, name, None)
            if isinstance(value, int):
                self._counts[name] = value

    def _usage(self) -> Usage:
        return Usage(
            input=self._counts.get("input_tokens", 0),
            output=self._counts.get("output_tokens", 0),
            cache_read=self._counts.get("cache_read_input_tokens", 0),
            cache_write=self._counts.get("cache_creation_input_tokens", 0),
            calls=1,
        )
