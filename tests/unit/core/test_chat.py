"""Messages, replies and requests as JSON and back."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goclaw.core.chat import (
    Block,
    ChatRequest,
    Message,
    Opaque,
    Reply,
    Role,
    Text,
    ToolCall,
    ToolResult,
    ToolSpec,
    Usage,
    decode_message,
    decode_reply,
    encode_message,
    encode_reply,
)

ARGUMENTS = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3)
BLOCKS: st.SearchStrategy[Block] = st.one_of(
    st.builds(Text, st.text()),
    st.builds(Opaque, st.text(max_size=8), ARGUMENTS),
    st.builds(ToolCall, st.text(max_size=8), st.text(max_size=8), ARGUMENTS),
    st.builds(ToolResult, st.text(max_size=8), st.text(), st.booleans()),
)
ROLES: list[Role] = ["user", "assistant", "tool", "system"]
MESSAGES = st.builds(Message, st.sampled_from(ROLES), st.lists(BLOCKS, max_size=4).map(tuple))


@given(MESSAGES)
def test_a_message_reads_back_as_it_was(message: Message) -> None:
    assert decode_message(json.loads(json.dumps(encode_message(message)))) == message


@given(st.lists(BLOCKS, max_size=3).map(tuple), st.integers(0, 10))
def test_a_reply_reads_back_as_it_was(blocks: tuple[Block, ...], tokens: int) -> None:
    reply = Reply(
        blocks=blocks, stop_reason="tool_use", usage=Usage(tokens, 2, 3, 4, 1), provider="anthropic", model="m"
    )
    assert decode_reply(json.loads(json.dumps(encode_reply(reply)))) == reply


def test_a_message_knows_its_text_and_its_calls() -> None:
    call = ToolCall("c1", "exec", {"argv": ["ls"]})
    message = Message("assistant", (Text("one "), Opaque("p", {}), call, Text("two")))
    assert message.text == "one two"
    assert message.calls == (call,)


REQUEST = ChatRequest(
    system="be kind",
    messages=(Message("user", (Text("hi"),)),),
    tools=(ToolSpec("exec", "run", {"type": "object"}),),
    model="m",
    max_tokens=10,
    temperature=0.5,
    top_p=0.9,
    stop=("END",),
)


@pytest.mark.spec("GC-DATA-102")
def test_a_request_has_the_digest_of_everything_that_reaches_the_model() -> None:
    assert REQUEST.digest == replace(REQUEST).digest
    others = [
        replace(REQUEST, system="be rude"),
        replace(REQUEST, messages=(Message("user", (Text("ho"),)),)),
        replace(REQUEST, messages=(Message("system", (Text("hi"),)),)),
        replace(REQUEST, tools=()),
        replace(REQUEST, tools=(ToolSpec("exec", "walk", {"type": "object"}),)),
        replace(REQUEST, model="n"),
        replace(REQUEST, max_tokens=11),
        replace(REQUEST, temperature=None),
        replace(REQUEST, top_p=0.8),
        replace(REQUEST, stop=("END", "STOP")),
    ]
    assert len({other.digest for other in others} | {REQUEST.digest}) == len(others) + 1


def test_usages_add_up() -> None:
    total = Usage(1, 2, 3, 4, 1).plus(Usage(10, 20, 30, 40, 2))
    assert total.as_json() == {"input": 11, "output": 22, "cache_read": 33, "cache_write": 44, "calls": 3}
