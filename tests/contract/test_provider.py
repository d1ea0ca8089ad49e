"""What a turn may rely on, whichever provider answers. The wire is a third party's (see `tests.mock_llm`)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from goclaw.brain.providers import Failover, OnModel, ProviderSettings, build_providers
from goclaw.core.chat import (
    ChatRequest,
    Message,
    Reply,
    Text,
    TextChunk,
    ToolCall,
    ToolResult,
    ToolSpec,
    decode_reply,
    encode_reply,
)
from goclaw.core.ports import Provider
from tests.fakes import FakeClock, ScriptedProvider, calls, says
from tests.mock_llm import MockLLM, mock_llm, read_the_file

KEY = "sk-test-0123456789"
READ_FILE = ToolSpec(
    "read_file",
    "Read a file.",
    {"type": "object", "properties": {"file_path": {"type": "string"}}, "required": ["file_path"]},
)
TWO_CALLS = [{"name": "read_file", "arguments": {"file_path": name}} for name in ("a.txt", "b.txt")]
FIXTURES = [
    *read_the_file("notes.txt", answer="It says hello, and it was a pleasure to read."),
    {
        "match": {"userMessage": "both of them", "hasToolResult": True},
        "response": {"content": "Both are read by now."},
    },
    {"match": {"userMessage": "both of them"}, "response": {"content": "I will.", "toolCalls": TWO_CALLS}},
    {"match": {"userMessage": "who are you"}, "response": {"content": "A mock, in more than one chunk."}},
]


@dataclass(frozen=True)
class Subject:
    """A provider, and what one says to it to get text, one call, and two calls."""

    provider: Provider
    text: str = "who are you?"
    one: str = "please read the file"
    two: str = "please read both of them"


@pytest.fixture(scope="module")
def server() -> Iterator[MockLLM]:
    with mock_llm(FIXTURES) as running:
        yield running


def settings(name: str, url: str) -> ProviderSettings:
    if name == "offline":
        return ProviderSettings(name=name, kind="offline")
    if name == "anthropic":
        return ProviderSettings(name=name, kind="anthropic", base_url=url, api_key=KEY, model="claude-sonnet-5-5")
    path = "/api/v1" if name == "openrouter" else "/v1"
    return ProviderSettings(name=name, kind="openai", base_url=url + path, api_key=KEY, model="openai/gpt-5.4-mini")


HOSTED = ("anthropic", "openai", "openrouter")


@pytest.fixture(params=[*HOSTED, "offline", "failover", "on_model", "scripted"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    name: str = request.param
    if name == "scripted":
        yield Subject(_scripted(request.node.originalname))
        return
    built_on = {"failover": "openai", "on_model": "anthropic"}.get(name, name)
    url = "" if built_on == "offline" else request.getfixturevalue("server").url
    built = build_providers({built_on: settings(built_on, url)}, clock=FakeClock())[built_on]
    provider: Provider = built
    if name == "failover":
        provider = Failover([built], lambda kind, payload: None)
    if name == "on_model":
        provider = OnModel(built, "claude-opus-5-5")
    if name == "offline":
        yield Subject(
            provider,
            text="/no_such_tool",
            one="/read_file file_path=notes.txt",
            two="/read_file file_path=a.txt\n/read_file file_path=b.txt",
        )
    else:
        yield Subject(provider)
    await built.aclose()


def _scripted(test: str) -> ScriptedProvider:
    """The double must keep the contract too, or tests that stand on it stand on nothing."""
    one = calls(("read_file", {"file_path": "notes.txt"}))
    two = calls(("read_file", {"file_path": "a.txt"}), ("read_file", {"file_path": "b.txt"}), text="I will.")
    if "single" in test:
        return ScriptedProvider([one])
    if "several" in test:
        return ScriptedProvider([two])
    if "results" in test:
        return ScriptedProvider([two, says("Both are read by now.")])
    return ScriptedProvider([says("A mock, in one chunk."), says("A mock, in one chunk.")])


def ask(*messages: Message) -> ChatRequest:
    return ChatRequest(system="You are a test.", messages=messages, tools=(READ_FILE,))


def user(text: str) -> Message:
    return Message("user", (Text(text),))


async def collect(provider: Provider, request: ChatRequest) -> tuple[list[TextChunk], Reply]:
    chunks = [chunk async for chunk in provider.stream(request)]
    texts = [chunk for chunk in chunks[:-1] if isinstance(chunk, TextChunk)]
    assert len(texts) == len(chunks) - 1, "nothing but text may come before the reply"
    assert isinstance(chunks[-1], Reply), "the last chunk is the reply"
    return texts, chunks[-1]


def text_of(reply: Reply) -> str:
    return "".join(block.text for block in reply.blocks if isinstance(block, Text))


def calls_of(reply: Reply) -> list[ToolCall]:
    return [block for block in reply.blocks if isinstance(block, ToolCall)]


@pytest.mark.spec("GC-BRN-101")
async def test_text_arrives_in_chunks_that_add_up_to_the_one_reply_at_the_end(subject: Subject) -> None:
    texts, reply = await collect(subject.provider, ask(user(subject.text)))
    assert text_of(reply)
    assert "".join(chunk.text for chunk in texts) == text_of(reply)
    assert not any(chunk.reset for chunk in texts)
    assert reply.stop_reason == "end_turn"
    assert reply.provider
    assert reply.model


@pytest.mark.spec("GC-BRN-101")
async def test_a_single_tool_call_carries_its_name_and_arguments(subject: Subject) -> None:
    _, reply = await collect(subject.provider, ask(user(subject.one)))
    [call] = calls_of(reply)
    assert (call.name, call.arguments) == ("read_file", {"file_path": "notes.txt"})
    assert reply.stop_reason == "tool_use"


@pytest.mark.spec("GC-BRN-101")
async def test_several_tool_calls_of_one_answer_keep_their_order_and_differ_in_id(subject: Subject) -> None:
    _, reply = await collect(subject.provider, ask(user(subject.two)))
    wanted = calls_of(reply)
    assert [call.arguments["file_path"] for call in wanted] == ["a.txt", "b.txt"]
    assert len({call.id for call in wanted}) == 2


@pytest.mark.spec("GC-BRN-101")
async def test_the_results_of_the_calls_lead_to_an_answer(subject: Subject) -> None:
    prompt = user(subject.two)
    _, first = await collect(subject.provider, ask(prompt))
    results = tuple(ToolResult(call.id, f"text of {call.arguments['file_path']}") for call in calls_of(first))
    _, second = await collect(
        subject.provider, ask(prompt, Message("assistant", first.blocks), Message("tool", results))
    )
    assert second.stop_reason == "end_turn"
    assert text_of(second)


@pytest.mark.spec("GC-BRN-101")
async def test_a_reply_survives_the_journal_unchanged(subject: Subject) -> None:
    _, reply = await collect(subject.provider, ask(user(subject.text)))
    assert decode_reply(json.loads(json.dumps(encode_reply(reply)))) == reply


@pytest.mark.spec("GC-BRN-101")
async def test_the_request_is_left_as_it_was_and_can_be_sent_again(subject: Subject) -> None:
    request = ask(user(subject.text))
    before = request.digest
    _, first = await collect(subject.provider, request)
    _, again = await collect(subject.provider, request)
    assert request.digest == before
    assert text_of(first) == text_of(again)


# --- what the third party saw ----------------------------------------------------------------------


def seen(server: MockLLM, marker: str) -> list[dict[str, Any]]:
    """The bodies of the requests that carry `marker`, as the mock understood them."""
    return [entry["body"] for entry in server.journal() if marker in json.dumps(entry["body"])]


def settled(name: str, server: MockLLM) -> tuple[ProviderSettings, Mapping[str, ProviderSettings]]:
    one = settings(name, server.url)
    return one, {name: one}


@pytest.mark.spec("GC-BRN-102")
@pytest.mark.parametrize("name", HOSTED)
async def test_calls_and_results_reach_the_wire_in_pairs_under_our_own_ids(name: str, server: MockLLM) -> None:
    marker = f"pairs-{name}"
    provider = build_providers(settled(name, server)[1], clock=FakeClock())[name]
    mine = [ToolCall(f"turn1_{n}", "read_file", {"file_path": f"{n}.txt"}) for n in (1, 2)]
    results = (ToolResult("turn1_1", "one"), ToolResult("turn1_2", "no such file", is_error=True))
    request = ask(
        user(f"read both of them {marker}"),
        Message("assistant", (Text("I will."), *mine)),
        Message("tool", results),
    )
    await collect(provider, request)
    await provider.aclose()
    [body] = seen(server, marker)
    messages = body["messages"]
    asked = [call["id"] for message in messages for call in message.get("tool_calls") or ()]
    answered = [message["tool_call_id"] for message in messages if message["role"] == "tool"]
    assert asked == answered == ["turn1_1", "turn1_2"]
    assert body["stream"] is True
    assert body["tools"][0]["function"]["parameters"] == READ_FILE.parameters


@pytest.mark.spec("GC-BRN-103")
@pytest.mark.parametrize("name", HOSTED)
async def test_the_model_is_the_users_choice_and_else_the_configured_one(name: str, server: MockLLM) -> None:
    one, all_ = settled(name, server)
    provider = build_providers(all_, clock=FakeClock())[name]
    request = ask(user(f"who are you? choice-{name}"))
    _, configured = await collect(provider, request)
    _, chosen = await collect(provider, replace(request, model="claude-opus-5-5"))
    await provider.aclose()
    assert [body["model"] for body in seen(server, f"choice-{name}")] == [one.model, "claude-opus-5-5"]
    assert (configured.provider, configured.model) == (name, one.model)
    assert chosen.model == "claude-opus-5-5"
