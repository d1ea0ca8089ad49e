"""Our request in OpenAI's words, and the oddities of its imitators that no well-made mock shows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from goclaw.brain.providers.openai_wire import Assembly, parameters
from goclaw.core.chat import ChatRequest, Message, Opaque, Text, ToolCall, ToolResult, ToolSpec, Usage


def wire(*messages: Message, **fields: Any) -> dict[str, Any]:
    request = ChatRequest(system=fields.pop("system", ""), messages=messages, **fields)
    return parameters(request, provider="ollama", model="qwen", limit=fields.get("limit"))


def test_each_result_is_a_message_of_its_own_and_a_failure_says_so() -> None:
    messages = wire(
        Message("user", (Text("go"),)),
        Message("assistant", (ToolCall("c1", "exec", {"b": 1, "a": 2}), ToolCall("c2", "glob", {}))),
        Message("tool", (ToolResult("c1", "denied", is_error=True), ToolResult("c2", "a.txt"))),
        system="Be.",
    )["messages"]
    assert messages[0] == {"role": "system", "content": "Be."}
    assert messages[2]["content"] is None
    assert [call["function"]["arguments"] for call in messages[2]["tool_calls"]] == ['{"a":2,"b":1}', "{}"]
    assert messages[3:] == [
        {"role": "tool", "tool_call_id": "c1", "content": "Error: denied"},
        {"role": "tool", "tool_call_id": "c2", "content": "a.txt"},
    ]


@pytest.mark.spec("GC-BRN-104")
def test_thinking_goes_back_only_to_the_provider_and_model_it_came_from() -> None:
    own = Opaque("ollama", {"model": "qwen", "fields": {"reasoning_content": "hm"}})
    other = Opaque("ollama", {"model": "llama", "fields": {"reasoning_content": "no"}})
    foreign = Opaque("anthropic", {"model": "qwen", "block": {}})
    [said] = wire(Message("assistant", (own, other, foreign, Text("Done."))))["messages"]
    assert said == {"role": "assistant", "content": "Done.", "reasoning_content": "hm"}


def test_an_assistant_message_of_which_nothing_is_left_is_not_sent() -> None:
    assert wire(Message("assistant", (Opaque("anthropic", {"model": "m", "block": {}}),)))["messages"] == []


def test_limits_are_sent_only_when_they_were_given() -> None:
    assert set(wire(Message("user", (Text("x"),)))) == {"model", "messages", "stream_options"}
    request = ChatRequest(
        system="",
        messages=(),
        tools=(ToolSpec("glob", "Find.", {"type": "object"}),),
        temperature=0.0,
        top_p=0.5,
        stop=("END",),
    )
    full = parameters(request, provider="p", model="m", limit=("max_tokens", 7))
    assert (full["max_tokens"], full["temperature"], full["top_p"], full["stop"]) == (7, 0.0, 0.5, ["END"])
    assert full["tools"][0]["function"] == {
        "name": "glob",
        "description": "Find.",
        "parameters": {"type": "object"},
    }


# --- imitators -------------------------------------------------------------------------------------------


def delta(finish: str | None = None, usage: Any = None, **fields: Any) -> Any:
    filled = SimpleNamespace(**({"content": None, "tool_calls": None} | fields))
    choice = SimpleNamespace(delta=filled, finish_reason=finish)
    return SimpleNamespace(model="served", usage=usage, choices=[choice])


def piece(index: int | None, id_: str | None, name: str | None, arguments: str | None) -> Any:
    return SimpleNamespace(index=index, id=id_, function=SimpleNamespace(name=name, arguments=arguments))


def assembled(*chunks: Any) -> Any:
    assembly = Assembly("ollama", "qwen")
    for chunk in chunks:
        assembly.feed(chunk)
    return assembly.reply()


@pytest.mark.spec("GC-BRN-115")
@pytest.mark.parametrize("index", [0, None])
def test_calls_that_a_server_does_not_number_are_told_apart_by_their_ids(index: int | None) -> None:
    reply = assembled(
        delta(tool_calls=[piece(index, "a", "glob", '{"n":')]),
        delta(tool_calls=[piece(index, None, None, "1}")]),
        delta(tool_calls=[piece(index, "b", "glob", '{"n":2}')]),
        delta(finish="tool_calls"),
    )
    assert [call.arguments for call in reply.blocks] == [{"n": 1}, {"n": 2}]


def test_a_name_that_comes_with_every_piece_is_not_repeated() -> None:
    reply = assembled(
        delta(tool_calls=[piece(0, "a", "glob", "{")]),
        delta(tool_calls=[piece(0, "a", "glob", "}")]),
        delta(finish="stop"),
    )
    assert reply.blocks == (ToolCall("call_1", "glob", {}),)


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_thinking_is_kept_where_imitators_put_it_and_is_not_shown(field: str) -> None:
    assembly = Assembly("ollama", "qwen")
    assert assembly.feed(delta(**{field: "let me "})) == ""
    assert assembly.feed(delta(**{field: "see"})) == ""
    assert assembly.feed(delta(content="Yes.", finish="stop")) == "Yes."
    assert assembly.reply().blocks == (
        Opaque("ollama", {"model": "qwen", "fields": {field: "let me see"}}),
        Text("Yes."),
    )


def test_a_refusal_is_shown_and_named() -> None:
    reply = assembled(delta(refusal="I will not."), delta(finish="stop"))
    assert reply.blocks == (Text("I will not."),)
    assert reply.stop_reason == "refusal"


@pytest.mark.spec("GC-BRN-117")
def test_cached_tokens_are_counted_once() -> None:
    details = SimpleNamespace(cached_tokens=30, cache_write_tokens=20)
    counts = SimpleNamespace(prompt_tokens=100, completion_tokens=7, prompt_tokens_details=details)
    reply = assembled(delta(content="x", finish="stop"), SimpleNamespace(model=None, usage=counts, choices=[]))
    assert reply.usage == Usage(input=50, output=7, cache_read=30, cache_write=20, calls=1)
