"""Directives as a conversation: what is asked for, and what is shown afterwards."""

from __future__ import annotations

import pytest

from goclaw.brain.providers import OfflineProvider
from goclaw.core.chat import (
    ChatRequest,
    Message,
    Reply,
    Text,
    TextChunk,
    ToolCall,
    ToolResult,
    ToolSpec,
    Usage,
)
from goclaw.errors import NoProvider

TOOLS = tuple(ToolSpec(name, "", {"type": "object"}) for name in ("exec", "glob", "read_file"))


def user(text: str) -> Message:
    return Message("user", (Text(text),))


def after(prompt: str, *results: ToolResult) -> tuple[Message, ...]:
    """The conversation when the tools of `prompt` have run."""
    calls = tuple(ToolCall(result.call_id, "any", {}) for result in results)
    return (user(prompt), Message("assistant", calls), Message("tool", results))


async def answer(*messages: Message, tools: tuple[ToolSpec, ...] = TOOLS) -> Reply:
    request = ChatRequest(system="", messages=messages, tools=tools)
    *texts, reply = [chunk async for chunk in OfflineProvider().stream(request)]
    assert isinstance(reply, Reply)
    shown = "".join(chunk.text for chunk in texts if isinstance(chunk, TextChunk))
    assert shown == "".join(block.text for block in reply.blocks if isinstance(block, Text))
    return reply


@pytest.mark.spec("GC-BRN-130")
async def test_all_directives_of_a_prompt_are_called_at_once() -> None:
    reply = await answer(user('/read_file file_path=a.txt\n\n/exec {"argv": ["ls"]}'))
    assert reply.blocks == (
        ToolCall("call_1", "read_file", {"file_path": "a.txt"}),
        ToolCall("call_2", "exec", {"argv": ["ls"]}),
    )
    assert reply.stop_reason == "tool_use"


@pytest.mark.spec("GC-BRN-130")
async def test_the_answer_to_one_directive_is_its_result_and_nothing_else() -> None:
    reply = await answer(*after("/read_file file_path=a.txt", ToolResult("call_1", "line 1\nline 2\n")))
    assert reply.blocks == (Text("line 1\nline 2\n"),)
    assert reply.stop_reason == "end_turn"


@pytest.mark.spec("GC-BRN-130")
async def test_of_several_directives_each_result_stands_below_its_line() -> None:
    results = (ToolResult("call_1", "A"), ToolResult("call_2", "denied by policy", is_error=True))
    reply = await answer(*after("/glob pattern=*\n/exec argv='[\"ls\"]'", *results))
    assert reply.blocks == (Text("/glob pattern=*\nA\n\n/exec argv='[\"ls\"]'\nexec failed: denied by policy"),)


@pytest.mark.spec("GC-BRN-130")
async def test_only_what_happened_since_the_last_prompt_counts() -> None:
    earlier = after("/glob pattern=*", ToolResult("call_1", "old"))
    reply = await answer(*earlier, Message("assistant", (Text("old"),)), user("/glob pattern=b*"))
    assert reply.blocks == (ToolCall("call_1", "glob", {"pattern": "b*"}),)


@pytest.mark.spec("GC-BRN-131")
async def test_a_plain_prompt_fails_and_says_how_to_configure_a_model() -> None:
    with pytest.raises(NoProvider) as caught:
        await answer(user("hello"))
    for word in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "config.yaml", "/exec key=value"):
        assert word in caught.value.message
    assert not caught.value.retryable


@pytest.mark.spec("GC-BRN-131")
@pytest.mark.parametrize("text", ["", "   ", "hello\n/glob pattern=*"])
async def test_a_prompt_that_does_not_begin_with_a_directive_is_a_plain_one(text: str) -> None:
    with pytest.raises(NoProvider):
        await answer(user(text))


async def test_a_conversation_without_a_user_is_a_plain_prompt() -> None:
    with pytest.raises(NoProvider):
        await answer(tools=())


@pytest.mark.spec("GC-BRN-132")
async def test_an_unknown_tool_is_answered_with_the_nearest_and_all_and_nothing_runs() -> None:
    reply = await answer(user("/glob pattern=*\n/raed_file file_path=a"))
    words = "There is no tool 'raed_file'. Did you mean read_file? Tools: exec, glob, read_file."
    assert reply.blocks == (Text(words),)
    assert reply.stop_reason == "end_turn"


async def test_no_model_means_no_tokens() -> None:
    reply = await answer(user("/glob pattern=*"))
    assert reply.usage == Usage()
    assert (reply.provider, reply.model) == ("offline", "offline")
