"""Our request in Anthropic's words. What comes back is tested through the SDK, in test_anthropic.py."""

from __future__ import annotations

import json
from typing import Any

import pytest

from goclaw.brain.providers.anthropic_wire import parameters
from goclaw.core.chat import ChatRequest, Message, Opaque, Text, ToolCall, ToolResult, ToolSpec

THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "s"}
CACHED = {"cache_control": {"type": "ephemeral"}}


def wire(*messages: Message, **fields: Any) -> dict[str, Any]:
    request = ChatRequest(system=fields.pop("system", ""), messages=messages, **fields)
    return parameters(request, provider="anthropic", model="claude", max_tokens=100)


def user(text: str) -> Message:
    return Message("user", (Text(text),))


def test_tool_results_stand_in_a_user_message_before_what_the_user_said_next() -> None:
    messages = wire(
        user("go"),
        Message("assistant", (Text("I go."), ToolCall("c1", "exec", {"argv": ["ls"]}))),
        Message("tool", (ToolResult("c1", "denied", is_error=True),)),
        user("stop"),
    )["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert messages[1]["content"] == [
        {"type": "text", "text": "I go."},
        {"type": "tool_use", "id": "c1", "name": "exec", "input": {"argv": ["ls"]}},
    ]
    assert messages[2]["content"] == [
        {"type": "tool_result", "tool_use_id": "c1", "content": "denied", "is_error": True},
        {"type": "text", "text": "stop", **CACHED},
    ]


def test_messages_of_the_same_role_are_merged_and_empty_ones_vanish() -> None:
    messages = wire(user("one"), Message("assistant", (Text("  "),)), user("two"))["messages"]
    [only] = messages
    assert [block["text"] for block in only["content"]] == ["one", "two"]


@pytest.mark.spec("GC-BRN-104")
def test_thinking_goes_back_only_to_the_provider_and_model_it_came_from() -> None:
    blocks = (
        Opaque("anthropic", {"model": "claude", "block": THOUGHT}),
        Opaque("anthropic", {"model": "another", "block": THOUGHT}),
        Opaque("openai", {"model": "claude", "fields": {}}),
        Text("Done."),
    )
    messages = wire(user("go"), Message("assistant", blocks))["messages"]
    assert messages[1]["content"] == [THOUGHT, {"type": "text", "text": "Done."}]


def test_a_notice_of_the_house_reaches_the_model_as_a_marked_user_text() -> None:
    [message] = wire(Message("system", (Text("the clock jumped"),)))["messages"]
    assert message["role"] == "user"
    assert message["content"][0]["text"] == "<system-note>\nthe clock jumped\n</system-note>"


def test_limits_are_sent_only_when_they_were_given() -> None:
    assert set(wire(user("x"))) == {"model", "max_tokens", "messages"}
    full = wire(user("x"), system="Be.", max_tokens=7, temperature=0.0, top_p=0.5, stop=("END",))
    assert (full["max_tokens"], full["temperature"], full["top_p"]) == (7, 0.0, 0.5)
    assert full["stop_sequences"] == ["END"]
    assert full["system"] == [{"type": "text", "text": "Be.", **CACHED}]


def test_tools_carry_their_schema() -> None:
    schema = {"type": "object", "properties": {}}
    tools = wire(user("x"), tools=(ToolSpec("glob", "Find.", schema),))["tools"]
    assert tools == [{"name": "glob", "description": "Find.", "input_schema": schema}]


@pytest.mark.spec("GC-BRN-105")
def test_equal_requests_are_equal_bytes_and_the_end_is_marked_for_the_cache() -> None:
    first, again = wire(user("x"), system="S"), wire(user("x"), system="S")
    assert json.dumps(first) == json.dumps(again)
    assert first["messages"][-1]["content"][-1]["cache_control"] == {"type": "ephemeral"}
