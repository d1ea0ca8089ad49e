"""The unmodified `openai` SDK against `/v1`, with a third party's model behind the daemon."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionToolParam

from tests.mock_llm import MockLLM, mock_llm, read_the_file
from tests.mock_llm.faulty import faulty, sse
from tests.system.running import RunningDaemon, wait_until
from tests.system.scripted_llm import ScriptedLLM

ANSWER = "It says hello, and it was a pleasure to read."
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather somewhere.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
FIXTURES = [
    *read_the_file("notes.txt", answer=ANSWER),
    {
        "match": {"userMessage": "count the tokens"},
        "response": {"content": "They are counted.", "usage": {"prompt_tokens": 70, "completion_tokens": 7}},
    },
    {
        "match": {"userMessage": "the weather", "hasToolResult": True},
        "response": {"content": "It rains in Hamburg."},
    },
    {
        "match": {"userMessage": "the weather"},
        "response": {"toolCalls": [{"name": "get_weather", "arguments": {"city": "Hamburg"}}]},
    },
    {"match": {"userMessage": "be refused"}, "response": {"error": {"message": "no such thing"}, "status": 400}},
    {"match": {"userMessage": "second"}, "response": {"content": "The second answer."}},
    {"match": {"userMessage": "hello"}, "response": {"content": "Hello to you, in several pieces."}},
]
USER: Any = {"role": "user", "content": "hello"}


@pytest.fixture(scope="module")
def model() -> Iterator[MockLLM]:
    with mock_llm(FIXTURES) as server:
        yield server


@pytest.fixture(scope="module")
def daemon(model: MockLLM, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    home = tmp_path_factory.mktemp("openai") / "home"
    (home / "workspace").mkdir(parents=True, mode=0o700)
    (home / "workspace" / "notes.txt").write_text("hello from a real file\n")
    (home / "config.yaml").write_text("agents:\n  helper:\n    display_name: Helper\n")
    env = {"OPENAI_API_KEY": "sk-test-0123456789", "OPENAI_BASE_URL": f"{model.url}/v1"}
    with RunningDaemon(home, env=env) as running:
        yield running


@pytest.fixture
def client(daemon: RunningDaemon) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{daemon.url}/v1", api_key=daemon.token, max_retries=0) as sdk:
        yield sdk


def last_asked(model: MockLLM) -> Any:
    """The body of the newest request that reached the model."""
    return model.journal()[-1]["body"]


def chats(daemon: RunningDaemon) -> list[Any]:
    tasks: list[Any] = daemon.call("task.list", kind="chat", limit=500)["tasks"]
    return tasks


@pytest.mark.spec("GC-ACP-240")
def test_models_are_listed_and_looked_up(client: OpenAI) -> None:
    names = [entry.id for entry in client.models.list().data]
    assert names == ["goclaw", "goclaw/raw", "goclaw/default", "goclaw/helper"]
    for name in (*names, "agent:helper"):
        entry = client.models.retrieve(name)
        assert (entry.id, entry.object, entry.owned_by) == (name, "model", "goclaw")


@pytest.mark.spec("GC-ACP-240")
@pytest.mark.parametrize("name", ["gpt-4o", "goclaw/nobody", "agent:nobody", "agent:"])
def test_an_unknown_model_is_404_model_not_found(client: OpenAI, name: str) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve(name)
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model=name, messages=[USER])
    assert (caught.value.code, caught.value.type) == ("model_not_found", "invalid_request_error")


@pytest.mark.spec("GC-ACP-241")
def test_a_turn_reads_a_real_file_and_answers_as_one_durable_task(
    client: OpenAI, daemon: RunningDaemon, model: MockLLM
) -> None:
    before = len(model.journal())
    done = client.chat.completions.create(model="goclaw", messages=[{"role": "user", "content": "read the file"}])
    assert done.choices[0].message.content == ANSWER
    assert done.choices[0].finish_reason == "stop"
    assert done.choices[0].message.tool_calls is None
    assert done.object == "chat.completion"
    task = daemon.call("task.get", task_id=done.id.removeprefix("chatcmpl-"))
    assert (task["kind"], task["state"]) == ("chat", "SUCCEEDED")
    steps = daemon.call("task.steps", task_id=task["id"])["steps"]
    assert [step["tool"] for step in steps if step["kind"] == "tool"] == ["read_file"]
    asked = model.journal()[before:]
    assert len(asked) == 2
    results = [message for message in asked[1]["body"]["messages"] if message["role"] == "tool"]
    assert "hello from a real file" in json.dumps(results)
    assert done.usage is not None
    assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens > 0
    assert task["usage"]["calls"] == 2


@pytest.mark.spec("GC-ACP-241")
async def test_a_turn_is_streamed_with_its_usage_last(daemon: RunningDaemon) -> None:
    async with AsyncOpenAI(base_url=f"{daemon.url}/v1", api_key=daemon.token, max_retries=0) as client:
        stream = await client.chat.completions.create(
            model="goclaw/helper",
            messages=[{"role": "user", "content": "read the file"}],
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
    assert len({chunk.id for chunk in chunks}) == 1
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert chunks[0].choices[0].delta.role == "assistant"
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert "".join(pieces) == ANSWER
    assert len(pieces) > 1, "it was streamed, not sent in one piece"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens > 0
    assert daemon.call("task.get", task_id=chunks[0].id.removeprefix("chatcmpl-"))["agent_id"] == "helper"


@pytest.mark.spec("GC-ACP-241")
def test_usage_is_what_the_provider_counted_and_absent_from_a_stream_that_did_not_ask(client: OpenAI) -> None:
    asked: Any = [{"role": "user", "content": "count the tokens"}]
    for name in ("goclaw", "goclaw/raw"):
        done = client.chat.completions.create(model=name, messages=asked)
        assert done.usage is not None
        assert (done.usage.prompt_tokens, done.usage.completion_tokens, done.usage.total_tokens) == (70, 7, 77)
        chunks = list(client.chat.completions.create(model=name, messages=asked, stream=True))
        assert all(chunk.usage is None for chunk in chunks)


@pytest.mark.spec("GC-ACP-242")
@pytest.mark.parametrize("how", ["header", "user", "metadata"])
def test_a_named_session_is_kept_and_without_a_name_a_call_stands_alone(
    client: OpenAI, daemon: RunningDaemon, model: MockLLM, how: str
) -> None:
    name = f"kept-by-{how}"
    every: dict[str, dict[str, Any]] = {
        "header": {"extra_headers": {"X-Goclaw-Session": name}},
        "user": {"user": name},
        "metadata": {"metadata": {"session_id": name}},
    }
    options = every[how]
    client.chat.completions.create(model="goclaw", messages=[USER], **options)
    second: Any = {"role": "user", "content": "second"}
    client.chat.completions.create(model="goclaw", messages=[second], **options)
    roles = [message["role"] for message in last_asked(model)["messages"] if message["role"] != "system"]
    assert roles == ["user", "assistant", "user"]
    assert len(daemon.call("session.history", session_id=name)["items"]) == 4
    client.chat.completions.create(model="goclaw", messages=[second])
    roles = [message["role"] for message in last_asked(model)["messages"] if message["role"] != "system"]
    assert roles == ["user"]


@pytest.mark.spec("GC-ACP-242")
def test_without_a_session_the_conversation_is_the_one_in_the_request(client: OpenAI, model: MockLLM) -> None:
    messages: Any = [
        {"role": "developer", "content": "Answer briefly."},
        USER,
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": [{"type": "text", "text": "sec"}, {"type": "text", "text": "ond"}]},
    ]
    done = client.chat.completions.create(model="goclaw", messages=messages, max_completion_tokens=50, stop=["END"])
    assert done.choices[0].message.content == "The second answer."
    asked = last_asked(model)["messages"]
    assert "Answer briefly." in json.dumps(asked)
    assert [message["role"] for message in asked if message["role"] not in ("system", "developer")] == [
        "user", "assistant", "user",
    ]  # fmt: skip


@pytest.mark.spec("GC-ACP-243")
def test_an_idempotency_key_gives_the_same_turn_and_refuses_another(client: OpenAI, daemon: RunningDaemon) -> None:
    options: Any = {"extra_headers": {"Idempotency-Key": "once"}}
    first = client.chat.completions.create(model="goclaw", messages=[USER], **options)
    again = client.chat.completions.create(model="goclaw", messages=[USER], **options)
    assert (again.id, again.choices[0].message.content) == (first.id, first.choices[0].message.content)
    chunks = list(client.chat.completions.create(model="goclaw", messages=[USER], stream=True, **options))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert (chunks[0].id, text) == (first.id, first.choices[0].message.content)
    for other in ([{"role": "user", "content": "second"}], [{"role": "assistant", "content": "x"}, USER]):
        with pytest.raises(openai.ConflictError):
            client.chat.completions.create(model="goclaw", messages=other, **options)  # type: ignore[arg-type]


@pytest.mark.spec("GC-ACP-244")
@pytest.mark.parametrize("stream", [False, True])
def test_the_tools_of_a_client_come_back_as_calls_and_no_task_is_made(
    client: OpenAI, daemon: RunningDaemon, model: MockLLM, stream: bool
) -> None:
    tasks = len(chats(daemon))
    messages: Any = [{"role": "user", "content": "the weather, please"}]
    if stream:
        chunks = list(client.chat.completions.create(model="goclaw", messages=messages, tools=[WEATHER], stream=True))
        calls: Any = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
        finish = chunks[-1].choices[0].finish_reason
        assert [call.index for call in calls] == [0]
    else:
        done = client.chat.completions.create(model="goclaw", messages=messages, tools=[WEATHER])
        calls = done.choices[0].message.tool_calls or []
        finish = done.choices[0].finish_reason
        assert done.choices[0].message.content is None
    assert finish == "tool_calls"
    assert [call.function.name for call in calls] == ["get_weather"]
    assert json.loads(calls[0].function.arguments) == {"city": "Hamburg"}
    assert [tool["function"]["name"] for tool in last_asked(model)["tools"]] == ["get_weather"]
    function = {"name": "get_weather", "arguments": '{"city": "Hamburg"}'}
    call = {"id": calls[0].id, "type": "function", "function": function}
    messages += [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": calls[0].id, "content": "rain"},
    ]
    done = client.chat.completions.create(model="goclaw", messages=messages, tools=[WEATHER])
    assert done.choices[0].message.content == "It rains in Hamburg."
    assert len(chats(daemon)) == tasks


@pytest.mark.spec("GC-ACP-244")
def test_raw_is_one_call_of_the_provider_with_what_the_client_said(
    client: OpenAI, daemon: RunningDaemon, model: MockLLM
) -> None:
    tasks = len(chats(daemon))
    messages: Any = [{"role": "system", "content": "Be kind."}, USER]
    for stop, sent in (("END", ["END"]), (["A", "B"], ["A", "B"])):
        done = client.chat.completions.create(
            model="goclaw/raw", messages=messages, stop=stop, max_completion_tokens=33, temperature=0.5, top_p=0.9
        )
        assert done.choices[0].message.content == "Hello to you, in several pieces."
        asked = last_asked(model)
        assert asked["messages"] == messages
        assert "tools" not in asked
        assert asked["stop"] == sent
        assert (asked["temperature"], asked["top_p"]) == (0.5, 0.9)
        assert 33 in (asked.get("max_tokens"), asked.get("max_completion_tokens"))
    pieces = list(client.chat.completions.create(model="goclaw/raw", messages=messages, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in pieces)
    assert text == "Hello to you, in several pieces."
    assert len(chats(daemon)) == tasks


@pytest.mark.spec("GC-ACP-245")
def test_a_wrong_key_is_401_in_the_shape_of_the_api(daemon: RunningDaemon) -> None:
    wrong = OpenAI(base_url=f"{daemon.url}/v1", api_key="wrong", max_retries=0)
    with wrong as client, pytest.raises(openai.AuthenticationError) as caught:
        client.models.list()
    assert (caught.value.status_code, caught.value.code) == (401, "invalid_api_key")


@pytest.mark.spec("GC-ACP-245")
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"messages": [USER]}, "model"),
        ({"model": 5, "messages": [USER]}, "model"),
        ({"model": "goclaw"}, "messages"),
        ({"model": "goclaw", "messages": []}, "messages"),
        ({"model": "goclaw", "messages": "hi"}, "messages"),
        ({"model": "goclaw", "messages": ["hi"]}, "messages.0.role"),
        ({"model": "goclaw", "messages": [{"role": [], "content": "x"}]}, "messages.0.role"),
        ({"model": "goclaw", "messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
        ({"model": "goclaw", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content"),
        ({"model": "goclaw", "messages": [USER, {"role": "assistant", "content": "x"}]}, "messages"),
        ({"model": "goclaw", "messages": [{"role": "user", "content": " "}]}, "payload.content"),
        ({"model": "goclaw", "messages": [USER], "user": 5}, "metadata.session_id"),
        ({"model": "goclaw", "messages": [USER], "user": "a b"}, "session_id"),
        ({"model": "goclaw", "messages": [USER], "stop": 5}, "stop"),
        ({"model": "goclaw", "messages": [USER], "temperature": "hot"}, "temperature"),
        ({"model": "goclaw", "messages": [USER], "max_tokens": 1.5}, "max_tokens"),
        ({"model": "goclaw", "messages": [USER], "tools": 5}, "tools"),
        ({"model": "goclaw", "messages": [USER], "tools": [{"type": "function"}]}, "tools"),
        ({"model": "goclaw", "messages": [USER], "tools": [{"function": {"name": "x", "parameters": [1]}}]}, "tools"),
        ({"model": "goclaw/raw", "messages": [{"role": "tool", "content": "x"}]}, "messages.0.tool_call_id"),
        ({"model": "goclaw/raw", "messages": [{"role": "assistant", "tool_calls": 5}]}, "messages.0.tool_calls"),
        ({"model": "goclaw/raw", "messages": [{"role": "assistant", "tool_calls": [{}]}]}, "messages.0.tool_calls"),
        ({"model": "goclaw", "messages": [{"role": "user", "content": "a\0b"}]}, None),
        ({"model": "goclaw", "messages": [{"role": "user", "content": "a\ud800b"}]}, None),
        ([], None),
        ("{", None),
    ],
)
def test_a_bad_request_is_400_and_names_the_field(daemon: RunningDaemon, body: Any, field: str | None) -> None:
    text = body if isinstance(body, str) else json.dumps(body)
    request = urllib.request.Request(  # noqa: S310 (loopback)
        f"{daemon.url}/v1/chat/completions",
        data=text.encode(),
        headers={"Authorization": f"Bearer {daemon.token}", "Content-Type": "application/json"},
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=10)  # noqa: S310 (loopback)
    with caught.value as answer:
        error = json.loads(answer.read())["error"]
    assert caught.value.code == 400, error
    assert (error["type"], set(error)) == ("invalid_request_error", {"message", "type", "param", "code"})
    assert field is None or error["param"] == field


@pytest.mark.spec("GC-ACP-245")
def test_what_the_provider_refuses_is_400_and_what_is_too_large_413(client: OpenAI) -> None:
    refused: Any = [{"role": "user", "content": "be refused"}]
    for name in ("goclaw", "goclaw/raw"):
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model=name, messages=refused)
        assert "no such thing" in caught.value.message
        with pytest.raises(openai.APIError):
            list(client.chat.completions.create(model=name, messages=refused, stream=True))
    for size in (2, 5):
        with pytest.raises(openai.APIStatusError) as large:
            client.chat.completions.create(model="goclaw", messages=[{"role": "user", "content": "a" * (size << 20)}])
        assert large.value.status_code == 413


@pytest.mark.spec("GC-ACP-245")
def test_without_a_provider_it_is_503_and_says_how_to_configure_one(tmp_path: Path) -> None:
    with (
        RunningDaemon(tmp_path / "home") as daemon,
        OpenAI(base_url=f"{daemon.url}/v1", api_key=daemon.token, max_retries=0) as client,
    ):
        for name in ("goclaw", "goclaw/raw"):
            with pytest.raises(openai.InternalServerError) as caught:
                client.chat.completions.create(model=name, messages=[USER])
            assert (caught.value.status_code, caught.value.code) == (503, "no_provider")
            assert "ANTHROPIC_API_KEY" in caught.value.message
            with pytest.raises(openai.APIError):
                list(client.chat.completions.create(model=name, messages=[USER], stream=True))


@pytest.mark.spec("GC-SEC-204")
def test_a_policy_that_denies_changes_denies_chats_with_403(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "policy.yaml").write_text("allow_capabilities: [acp.read]\n")
    with (
        RunningDaemon(home) as daemon,
        OpenAI(base_url=f"{daemon.url}/v1", api_key=daemon.token, max_retries=0) as client,
    ):
        with pytest.raises(openai.PermissionDeniedError):
            client.chat.completions.create(model="goclaw", messages=[USER])
        assert client.models.list().data


async def text_of(stream: Any, heard: list[str]) -> None:
    """Add what comes, until it ends or breaks."""
    async for chunk in stream:
        heard.append(chunk.choices[0].delta.content or "")


def said(*words: str) -> list[dict[str, Any]]:
    choices = [{"index": 0, "delta": {"content": word}, "finish_reason": None} for word in words]
    return [{"id": "c", "model": "m", "choices": [choice]} for choice in choices]


@pytest.mark.spec("GC-ACP-246")
@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_a_pass_through_cancels_the_call(tmp_path: Path, stream: bool) -> None:
    async with faulty(sse(*said("I am ", "thinking"), then="hang")) as model:
        env = {"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": model.url}
        with RunningDaemon(tmp_path / "home", env=env) as daemon:
            async with AsyncOpenAI(base_url=f"{daemon.url}/v1", api_key=daemon.token, max_retries=0) as client:
                options: Any = {"model": "goclaw/raw", "messages": [USER], "stream": stream}
                if stream:
                    answer: Any = await client.chat.completions.create(**options)
                    first = await anext(aiter(answer))
                    assert first.choices[0].delta.role == "assistant"
                    await answer.close()
                else:
                    asking = asyncio.create_task(client.chat.completions.create(**options))
                    await asyncio.to_thread(wait_until, lambda: model.requests, "the model is asked")
                    asking.cancel()
            async with asyncio.timeout(5):
                await model.left.wait()
            assert daemon.stop() == 0


@pytest.mark.spec("GC-ACP-246")
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_a_turn_only_detaches(tmp_path: Path, stream: bool) -> None:
    home = tmp_path / "home"
    (home / "workspace").mkdir(parents=True, mode=0o700)
    with ScriptedLLM([[("exec", {"argv": ["sleep", "1"]})]], "done at last") as llm:
        env = {"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": llm.url}
        with RunningDaemon(home, env=env) as daemon:
            with OpenAI(base_url=f"{daemon.url}/v1", api_key=daemon.token, max_retries=0) as client:
                if stream:
                    answer = client.chat.completions.create(model="goclaw", messages=[USER], stream=True)
                    next(iter(answer))
                    answer.close()
                else:
                    with pytest.raises(openai.APITimeoutError):
                        client.chat.completions.create(model="goclaw", messages=[USER], timeout=0.3)
            (task,) = wait_until(lambda: chats(daemon), "the turn is there")
            assert task["state"] != "SUCCEEDED"
            ended = daemon.wait(task["id"])
            assert (ended["state"], ended["result"]["text"]) == ("SUCCEEDED", "done at last")


@pytest.mark.spec("GC-ACP-247")
async def test_a_provider_that_breaks_in_the_middle_of_a_pass_through_ends_it_with_an_error_item(
    tmp_path: Path,
) -> None:
    async with faulty(sse(*said("I am "), then="cut")) as model:
        env = {"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": model.url}
        with RunningDaemon(tmp_path / "home", env=env) as daemon:
            async with AsyncOpenAI(base_url=f"{daemon.url}/v1", api_key=daemon.token, max_retries=0) as client:
                answer = await client.chat.completions.create(model="goclaw/raw", messages=[USER], stream=True)
                heard: list[str] = []
                with pytest.raises(openai.APIError) as caught:
                    await text_of(answer, heard)
            assert "".join(heard) == "I am "
            assert caught.value.code == "provider_unavailable"
