"""What is particular to chat completions; what every provider shares is in tests/contract."""

from __future__ import annotations

import json
from typing import Any

import pytest

from goclaw.brain.providers import OpenAIProvider, ProviderSettings
from goclaw.brain.providers.openai import answer_limit
from goclaw.core.chat import ChatRequest, Message, Reply, Text, ToolSpec
from goclaw.errors import ProviderRefused
from tests.fakes import FakeClock
from tests.mock_llm.faulty import Answer, error, faulty, sse

REQUEST = ChatRequest(system="", messages=(Message("user", (Text("hi"),)),))
CHOICE = {"index": 0, "delta": {"content": "Hello."}, "finish_reason": "stop"}
HELLO = sse({"id": "x", "model": "served", "choices": [CHOICE]}, "[DONE]")


def provider(url: str | None, **changes: Any) -> OpenAIProvider:
    fields = {"name": "local", "kind": "openai", "base_url": url}
    return OpenAIProvider(ProviderSettings(**(fields | changes)), FakeClock())


async def reply_of(subject: OpenAIProvider, request: ChatRequest = REQUEST) -> Reply:
    *_, last = [chunk async for chunk in subject.stream(request)]
    assert isinstance(last, Reply)
    return last


def listing(*names: str) -> Answer:
    body = json.dumps({"object": "list", "data": [{"id": name, "object": "model"} for name in names]})
    return Answer(200, {"content-type": "application/json"}, (body,))


@pytest.mark.spec("GC-BRN-103")
async def test_without_a_configured_model_the_first_one_listed_answers_and_is_asked_for_once() -> None:
    async with faulty(listing("qwen", "llama"), HELLO, HELLO) as server:
        local = provider(server.url)
        await reply_of(local)
        await reply_of(local)
        await local.aclose()
        assert [path for path, *_ in server.requests] == ["/models"] + ["/chat/completions"] * 2
        assert [body["model"] for _, _, body in server.requests[1:]] == ["qwen", "qwen"]


@pytest.mark.spec("GC-BRN-103")
async def test_an_endpoint_that_lists_no_model_is_refused() -> None:
    async with faulty(listing()) as server:
        local = provider(server.url)
        with pytest.raises(ProviderRefused, match="lists no model"):
            await reply_of(local)
        await local.aclose()


@pytest.mark.spec("GC-BRN-106")
async def test_a_model_that_takes_tools_only_without_reasoning_is_asked_again_and_remembered() -> None:
    refusal = error(400, "Function tools with reasoning_effort are not supported for m", type_="invalid_request_error")
    with_tools = ChatRequest(
        system="", messages=REQUEST.messages, tools=(ToolSpec("glob", "Find.", {"type": "object"}),)
    )
    async with faulty(refusal, HELLO, HELLO) as server:
        local = provider(server.url, model="m")
        assert (await reply_of(local, with_tools)).blocks == (Text("Hello."),)
        await reply_of(local, with_tools)
        await local.aclose()
        efforts = [body.get("reasoning_effort") for _, _, body in server.requests]
    assert efforts == [None, "none", "none"]


@pytest.mark.spec("GC-BRN-106")
async def test_the_repetition_happens_once_and_only_for_tools() -> None:
    refusal = error(400, "reasoning_effort is not supported", type_="invalid_request_error")
    async with faulty(refusal) as server:
        local = provider(server.url, model="m")
        with pytest.raises(ProviderRefused):
            await reply_of(local)
        await local.aclose()


@pytest.mark.parametrize(
    ("base_url", "name"),
    [
        (None, "max_completion_tokens"),
        ("https://api.openai.com/v1", "max_completion_tokens"),
        ("http://127.0.0.1:11434/v1", "max_tokens"),
        ("https://openai.com.evil.example/v1", "max_tokens"),
    ],
)
def test_the_bound_of_an_answer_has_the_name_the_server_knows(base_url: str | None, name: str) -> None:
    assert answer_limit(ProviderSettings(name="x", kind="openai", base_url=base_url), 9) == (name, 9)


async def test_no_key_is_needed() -> None:
    async with faulty(HELLO) as server:
        local = provider(server.url, model="m")
        await reply_of(local)
        await local.aclose()
        assert server.requests[0][1]["authorization"] == "Bearer none"
