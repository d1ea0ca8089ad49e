"""What is Anthropic's alone; what every provider shares is in tests/contract."""

from __future__ import annotations

import pytest

from goclaw.brain.providers import AnthropicProvider, ProviderSettings
from goclaw.core.chat import ChatRequest, Message, Opaque, Reply, Text, ToolCall, Usage
from goclaw.errors import ProviderAuth, ProviderRefused
from tests.fakes import FakeClock
from tests.mock_llm import mock_llm
from tests.mock_llm.faulty import faulty, sse

REQUEST = ChatRequest(system="", messages=(Message("user", (Text("think and read"),)),))


def provider(url: str, **changes: object) -> AnthropicProvider:
    fields = {"name": "anthropic", "kind": "anthropic", "base_url": url, "api_key": "sk-x", "model": "claude"}
    return AnthropicProvider(ProviderSettings(**(fields | changes)), FakeClock())  # type: ignore[arg-type]


async def reply_of(subject: AnthropicProvider, request: ChatRequest = REQUEST) -> Reply:
    *_, last = [chunk async for chunk in subject.stream(request)]
    await subject.aclose()
    assert isinstance(last, Reply)
    return last


@pytest.mark.spec("GC-BRN-104")
async def test_thinking_is_kept_with_its_signature_and_sent_back_in_the_next_round() -> None:
    fixture = {
        "match": {"userMessage": "think and read"},
        "response": {
            "content": "I look.",
            "reasoning": "where could it be",
            "reasoningSignature": "signed",
            "redactedThinking": ["secret"],
            "toolCalls": [{"name": "read_file", "arguments": {"file_path": "a"}}],
        },
    }
    async with mock_llm([fixture]) as server:
        reply = await reply_of(provider(server.url))
    block = {"type": "thinking", "thinking": "where could it be", "signature": "signed"}
    assert Opaque("anthropic", {"model": "claude", "block": block}) in reply.blocks
    hidden = {"type": "redacted_thinking", "data": "secret"}
    assert Opaque("anthropic", {"model": "claude", "block": hidden}) in reply.blocks
    assert [type(block) for block in reply.blocks][-2:] == [Text, ToolCall]


@pytest.mark.spec("GC-BRN-117")
async def test_counts_of_the_last_event_correct_those_of_the_first() -> None:
    usage = {
        "input_tokens": 9,
        "cache_read_input_tokens": 100,
        "cache_creation_input_tokens": 50,
        "output_tokens": 1,
    }
    stream = sse(
        {"type": "message_start", "message": {"model": "claude-x", "usage": usage}},
        {"type": "ping"},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "model_context_window_exceeded"},
            "usage": {"output_tokens": 42, "input_tokens": None},
        },
        {"type": "message_stop"},
    )
    async with faulty(stream) as server:
        reply = await reply_of(provider(server.url))
    assert reply.usage == Usage(input=9, output=42, cache_read=100, cache_write=50, calls=1)
    assert reply.stop_reason == "max_tokens"
    assert reply.blocks == ()


async def test_arguments_that_come_whole_at_the_start_of_a_block_count_as_well() -> None:
    stream = sse(
        {"type": "message_start", "message": {"model": "m", "usage": {"input_tokens": 1}}},
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "tool_use", "id": "x", "name": "glob", "input": {"pattern": "*"}},
        },
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 1}},
        {"type": "message_stop"},
    )
    async with faulty(stream) as server:
        reply = await reply_of(provider(server.url))
    assert reply.blocks == (ToolCall("call_1", "glob", {"pattern": "*"}),)


async def test_a_base_url_may_end_in_v1_as_people_write_it() -> None:
    stream = sse(
        {"type": "message_start", "message": {"model": "m", "usage": {"input_tokens": 1}}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}},
        {"type": "message_stop"},
    )
    async with faulty(stream) as server:
        await reply_of(provider(server.url + "/v1/"))
        [(path, headers, body)] = server.requests
    assert path == "/v1/messages"
    assert "sk-x" in {headers.get("x-api-key"), headers.get("authorization", "").removeprefix("Bearer ")}
    assert (body["stream"], body["max_tokens"]) == (True, 16_384)


async def test_without_a_key_nothing_is_sent() -> None:
    with pytest.raises(ProviderAuth, match="ANTHROPIC_API_KEY"):
        await reply_of(provider("http://127.0.0.1:1", api_key=None))


async def test_without_a_model_nothing_is_sent() -> None:
    with pytest.raises(ProviderRefused, match="no model"):
        await reply_of(provider("http://127.0.0.1:1", model=None))
