"""The OpenAI chat dialect: requests read into our values, answers and errors in its shapes.

Source: the OpenAI chat-completions reference as the official SDKs send and read it (November 2026). Unknown fields are
accepted and ignored, as clients expect.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from goclaw.core.agent import DEFAULT_AGENT
from goclaw.core.chat import Block, Message, Reply, StopReason, Text, ToolCall, ToolResult, ToolSpec
from goclaw.errors import BadRequest, GoclawError
from goclaw.wire.frames import dump, read_json

HOUSE_MODEL = "goclaw"
RAW_MODEL = "goclaw/raw"
FINISH: Mapping[StopReason, str] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
STATUS = {
    "INVALID_PARAMS": 400,
    "PARSE_ERROR": 400,
    "INVALID_REQUEST": 400,
    "PROVIDER_REFUSED": 400,
    "CONTEXT_OVERFLOW": 400,
    "POLICY_DENIED": 403,
    "NOT_FOUND": 404,
    "MODEL_NOT_FOUND": 404,
    "CONFLICT": 409,
    "TOO_LARGE": 413,
    "SATURATED": 429,
    "RATE_LIMITED": 429,
    "SHUTTING_DOWN": 503,
    "STORE_FULL": 503,
    "PROVIDER_UNAVAILABLE": 503,
    "NO_PROVIDER": 503,
    "PROVIDER_AUTH": 503,
    "TIMEOUT": 504,
}
_ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system", "tool": "tool"}


class ModelNotFound(GoclawError):
    """There is no such model here."""

    code = "MODEL_NOT_FOUND"


class TurnFailed(GoclawError):
    """The turn did not succeed; `error_code` in its data is the task's own word for it."""

    code = "TURN_FAILED"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatCompletion:
    """A request as we understand it. `raw` asks for one provider call without agent, tools or task of ours."""

    model: str
    agent_id: str
    raw: bool
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...]
    stream: bool
    include_usage: bool
    session_id: str | None
    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    stop: tuple[str, ...]


def read_request(body: bytes, session_header: str | None) -> ChatCompletion:
    """Parse a request body. Raises BadRequest naming the field, ParseFailed, InvalidFrame or ModelNotFound."""
    data = read_json(body)
    if not isinstance(data, dict):
        raise BadRequest("the body is a JSON object")
    model = data.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest("model is required", field="model")
    options = data.get("stream_options") or {}
    tools = tuple(_tool(tool) for tool in _list(data.get("tools"), "tools"))
    return ChatCompletion(
        model=model,
        agent_id=agent_of(model),
        raw=model == RAW_MODEL or bool(tools),
        messages=_messages(data.get("messages")),
        tools=tools,
        stream=bool(data.get("stream")),
        include_usage=isinstance(options, dict) and bool(options.get("include_usage")),
        session_id=_session(data, session_header),
        max_tokens=_number(data, "max_completion_tokens", int) or _number(data, "max_tokens", int),
        temperature=_number(data, "temperature", float),
        top_p=_number(data, "top_p", float),
        stop=_stop(data.get("stop")),
    )


def agent_of(model: str) -> str:
    """The agent behind a model name: `goclaw`, `goclaw/AGENT` or `agent:AGENT`. Raises ModelNotFound."""
    if model in (HOUSE_MODEL, RAW_MODEL):
        return DEFAULT_AGENT
    for prefix in ("goclaw/", "agent:"):
        if model.startswith(prefix) and len(model) > len(prefix):
            return model[len(prefix) :]
    raise ModelNotFound(f"the model {model!r} does not exist; ask /v1/models", model=model)


def error_body(error: GoclawError) -> tuple[int, dict[str, Any]]:
    """Status and body of an error."""
    word = str(error.data.get("error_code") or error.code)
    status = STATUS.get(word, 500)
    kind = {400: "invalid_request_error", 404: "invalid_request_error", 429: "rate_limit_error"}.get(
        status, "api_error"
    )
    code = "model_not_found" if isinstance(error, ModelNotFound) else word.lower()
    return status, {"error": {"message": error.message, "type": kind, "param": error.data.get("field"), "code": code}}


def completion(
    completion_id: str, created: int, model: str, blocks: tuple[Block, ...], rest: Mapping[str, Any]
) -> dict[str, Any]:
    """A whole answer; `rest` has finish_reason and usage."""
    calls = [_call(block, None) for block in blocks if isinstance(block, ToolCall)]
    text = "".join(block.text for block in blocks if isinstance(block, Text))
    message: dict[str, Any] = {"role": "assistant", "content": text or (None if calls else "")}
    if calls:
        message["tool_calls"] = calls
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": rest["finish_reason"]}
    return {
        "id": completion_id,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [choice],
        "usage": rest["usage"],
    }


class Chunks:
    """The frames of one streamed answer."""

    def __init__(self, completion_id: str, created: int, model: str) -> None:
        self._head = {"id": completion_id, "object": "chat.completion.chunk", "created": created, "model": model}

    def delta(self, delta: Mapping[str, Any], finish: str | None = None) -> str:
        """One chunk of the only choice."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _frame({**self._head, "choices": [choice]})

    def calls(self, blocks: tuple[Block, ...]) -> list[str]:
        """The tool calls, each whole in one chunk."""
        calls = [block for block in blocks if isinstance(block, ToolCall)]
        return [self.delta({"tool_calls": [_call(call, index)]}) for index, call in enumerate(calls)]

    def usage(self, usage: Mapping[str, int]) -> str:
        """The last chunk, when it was asked for: no choice, only usage."""
        return _frame({**self._head, "choices": [], "usage": usage})


def usage_object(usage: Mapping[str, Any] | None) -> dict[str, Any]:
    """Our counts in the dialect's words. Input includes what the provider's cache served."""
    counts = usage or {}
    cached = int(counts.get("cache_read", 0))
    prompt = int(counts.get("input", 0)) + cached + int(counts.get("cache_write", 0))
    output = int(counts.get("output", 0))
    return {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def finish_reason(reply: Reply) -> str:
    """How the answer ended."""
    if any(isinstance(block, ToolCall) for block in reply.blocks):
        return "tool_calls"
    return FINISH[reply.stop_reason]


def _frame(value: Mapping[str, Any]) -> str:
    return f"data: {dump(value)}\n\n"


def _call(call: ToolCall, index: int | None) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": dump(dict(call.arguments))},
    }
    return shown if index is None else {"index": index, **shown}


def _session(data: Mapping[str, Any], header: str | None) -> str | None:
    metadata = data.get("metadata")
    named = header or (metadata.get("session_id") if isinstance(metadata, dict) else None) or data.get("user")
    if named is None:
        return None
    if not isinstance(named, str):
        raise BadRequest("a session is named by a string", field="metadata.session_id")
    return named


def _messages(given: Any) -> tuple[Message, ...]:
    if not isinstance(given, list) or not given:
        raise BadRequest("messages is a list with at least one message", field="messages")
    return tuple(_message(index, message) for index, message in enumerate(given))


def _message(index: int, given: Any) -> Message:
    where = f"messages.{index}"
    named = given.get("role") if isinstance(given, dict) else None
    if not isinstance(named, str) or named not in _ROLES:
        raise BadRequest(f"{where}.role is one of {', '.join(_ROLES)}", field=f"{where}.role")
    role = _ROLES[named]
    text = _text(given.get("content"), where)
    if role == "tool":
        call_id = given.get("tool_call_id")
        if not isinstance(call_id, str):
            raise BadRequest(f"{where}.tool_call_id is required", field=f"{where}.tool_call_id")
        return Message("tool", (ToolResult(call_id, text),))
    blocks: list[Block] = [Text(text)] if text else []
    if role == "assistant":
        blocks += [_called(call, where) for call in _list(given.get("tool_calls"), f"{where}.tool_calls")]
    return Message(role, tuple(blocks))  # type: ignore[arg-type]


def _called(call: Any, where: str) -> ToolCall:
    try:
        named, function = call["id"], call["function"]["name"]
        arguments = json.loads(call["function"]["arguments"] or "{}")
    except (KeyError, TypeError, ValueError, RecursionError):
        named, function, arguments = None, None, None
    if not _is_word(named) or not _is_word(function) or not isinstance(arguments, dict):
        raise BadRequest(f"{where}.tool_calls holds a malformed call", field=f"{where}.tool_calls")
    return ToolCall(named, function, arguments)


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _list(given: Any, where: str) -> list[Any]:
    if given is None or isinstance(given, list):
        return given or []
    raise BadRequest(f"{where} is a list", field=where)


def _text(content: Any, where: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = []
        for part in content:
            if not isinstance(part, dict) or part.get("type") not in ("text", "input_text"):
                raise BadRequest(f"{where}.content holds a part that is not text", field=f"{where}.content")
            parts.append(str(part.get("text", "")))
        return "".join(parts)
    raise BadRequest(f"{where}.content is a string or a list of parts", field=f"{where}.content")


def _tool(given: Any) -> ToolSpec:
    function = given.get("function") if isinstance(given, dict) else None
    if not isinstance(function, dict) or not _is_word(function.get("name")):
        raise BadRequest("tools holds a tool without a function and its name", field="tools")
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    if not isinstance(parameters, dict):
        raise BadRequest("the parameters of a tool are a JSON Schema object", field="tools")
    return ToolSpec(function["name"], str(function.get("description") or ""), parameters)


def _stop(given: Any) -> tuple[str, ...]:
    if given is None:
        return ()
    words = [given] if isinstance(given, str) else given
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise BadRequest("stop is a string or a list of strings", field="stop")
    return tuple(words)


def _number(data: Mapping[str, Any], name: str, kind: type) -> Any:
    value = data.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or (kind is int and value != int(value)):
        raise BadRequest(f"{name} is a number", field=name)
    return kind(value)
