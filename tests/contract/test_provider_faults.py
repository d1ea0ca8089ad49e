"""How every hosted provider fails: with one of our errors, never with a short reply, never with a key in the
text.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any, Literal

import pytest

from goclaw.brain.providers import ClosableProvider, ProviderSettings, build_providers
from goclaw.core.chat import ChatRequest, Chunk, Message, Reply, Text, TextChunk, ToolCall, ToolSpec
from goclaw.errors import (
    ContextOverflow,
    ProviderAuth,
    ProviderError,
    ProviderRefused,
    ProviderUnavailable,
    RateLimited,
)
from tests.fakes import FakeClock
from tests.mock_llm.faulty import Answer, FaultyServer, error, faulty, sse

KEY = "sk-test-0123456789"
Kind = Literal["anthropic", "openai"]
KINDS = pytest.mark.parametrize("kind", ["anthropic", "openai"])
TOOL = ToolSpec("read_file", "Read.", {"type": "object", "properties": {}})
REQUEST = ChatRequest(system="", messages=(Message("user", (Text("hello"),)),), tools=(TOOL,))


def provider_at(kind: Kind, url: str, **changes: Any) -> ClosableProvider:
    settings = ProviderSettings(
        **{"name": kind, "kind": kind, "base_url": url, "api_key": KEY, "model": "m", **changes}
    )
    return build_providers({kind: settings}, clock=FakeClock())[kind]


async def run(kind: Kind, server: FaultyServer, **changes: Any) -> list[Chunk]:
    """All chunks of one call."""
    provider = provider_at(kind, server.url, **changes)
    try:
        return [chunk async for chunk in provider.stream(REQUEST)]
    finally:
        await provider.aclose()


async def failure(kind: Kind, *answers: Answer, **changes: Any) -> tuple[ProviderError, list[Chunk]]:
    """The error of one call, and what was shown before it."""
    shown: list[Chunk] = []
    async with faulty(*answers) as server:
        provider = provider_at(kind, server.url, **changes)
        with pytest.raises(ProviderError) as caught:
            await consume(provider, shown)
        await provider.aclose()
    return caught.value, shown


async def consume(provider: ClosableProvider, shown: list[Chunk]) -> None:
    async for chunk in provider.stream(REQUEST):
        shown.append(chunk)


# --- the same answer in both languages -------------------------------------------------------------

Event = Mapping[str, Any] | str


def begins(kind: Kind, text: str = "Half an ans") -> list[Event]:
    """A stream up to the middle of its text."""
    if kind == "openai":
        return [chunk({"role": "assistant", "content": text})]
    return [
        {"type": "message_start", "message": {"id": "x", "model": "served", "usage": {"input_tokens": 3}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}},
    ]


def calls(kind: Kind, *arguments: str) -> list[Event]:
    """One tool call, its arguments in pieces."""
    if kind == "openai":
        first = {"index": 0, "id": "c", "function": {"name": "read_file", "arguments": ""}}
        rest = [{"index": 0, "function": {"arguments": piece}} for piece in arguments]
        return [chunk({"tool_calls": [piece]}) for piece in (first, *rest)]
    block = {"type": "tool_use", "id": "c", "name": "read_file", "input": {}}
    deltas = [
        {
            "type": "content_block_delta",
            "index": 1,
            "delta": {"type": "input_json_delta", "partial_json": piece},
        }
        for piece in arguments
    ]
    stop = {"type": "content_block_stop", "index": 1}
    return [{"type": "content_block_start", "index": 1, "content_block": block}, *deltas, stop]


def ends(kind: Kind, stop: str) -> list[Event]:
    """The end of a whole answer; `stop` in Anthropic's words."""
    if kind == "openai":
        word = {
            "end_turn": "stop",
            "tool_use": "tool_calls",
            "max_tokens": "length",
            "refusal": "content_filter",
        }
        counts = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
        return [chunk({}, finish=word[stop]), {**chunk({}), "choices": [], "usage": counts}, "[DONE]"]
    delta = {"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": 4}}
    return [delta, {"type": "message_stop"}]


def chunk(delta: Mapping[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"id": "x", "model": "served", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


# --- statuses --------------------------------------------------------------------------------------


@KINDS
@pytest.mark.spec("GC-BRN-110")
@pytest.mark.parametrize(
    ("status", "type_", "message", "expected", "kind_of_refusal"),
    [
        (429, "rate_limit_error", "slow down", RateLimited, None),
        (529, "overloaded_error", "Overloaded", ProviderUnavailable, None),
        (503, "api_error", "busy", ProviderUnavailable, None),
        (500, "api_error", "oops", ProviderUnavailable, None),
        (408, "timeout_error", "too slow", ProviderUnavailable, None),
        (401, "authentication_error", "invalid x-api-key", ProviderAuth, None),
        (403, "permission_error", "not yours", ProviderAuth, None),
        (404, "not_found_error", "model: m", ProviderRefused, "model_not_found"),
        (400, "invalid_request_error", "prompt is too long: 210000 tokens", ContextOverflow, None),
        (400, "invalid_request_error", "This model's maximum context length is 8192", ContextOverflow, None),
        (413, "request_too_large", "too large", ContextOverflow, None),
        (400, "invalid_request_error", "temperature: out of range", ProviderRefused, "bad_request"),
        (400, "invalid_request_error", "Your credit balance is too low", ProviderRefused, "billing"),
        (402, "billing_error", "pay first", ProviderRefused, "billing"),
        (402, "error", "pay first", ProviderRefused, "billing"),
        (429, "insufficient_quota", "You exceeded your current quota", ProviderRefused, "billing"),
        (422, "invalid_request_error", "cannot process", ProviderRefused, "bad_request"),
    ],
)
async def test_each_status_is_one_decision(
    kind: Kind,
    status: int,
    type_: str,
    message: str,
    expected: type[ProviderError],
    kind_of_refusal: str | None,
) -> None:
    failed, shown = await failure(kind, error(status, message, type_=type_))
    assert type(failed) is expected
    assert failed.data.get("kind") == kind_of_refusal
    assert failed.data["status"] == status
    assert message in failed.message
    assert not shown


@KINDS
@pytest.mark.spec("GC-BRN-111")
@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry-after": "7"}, 7_000),
        ({"retry-after": "1.5"}, 1_500),
        ({"retry-after-ms": "250", "retry-after": "1"}, 250),
        ({"retry-after": "Fri, 15 Jan 2027 08:00:30 GMT"}, 30_000),  # the fake clock stands at 08:00:00
        ({"retry-after": "Fri, 15 Jan 2027 07:00:00 GMT"}, 0),
        ({"retry-after": "99999999999"}, 24 * 3_600_000),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
async def test_retry_after_is_understood_in_each_of_its_forms(
    kind: Kind, headers: Mapping[str, str], expected: int | None
) -> None:
    failed, _ = await failure(kind, error(429, "slow down", headers=headers))
    assert isinstance(failed, RateLimited)
    assert failed.data.get("retry_after_ms") == expected


@KINDS
@pytest.mark.spec("GC-BRN-112")
async def test_no_key_is_ever_in_the_text_of_an_error(kind: Kind) -> None:
    failed, _ = await failure(kind, error(401, f"Incorrect API key provided: {KEY}, or sk-pr****wxyz, Bearer {KEY}"))
    assert KEY not in failed.message
    assert "wxyz" not in failed.message
    assert KEY not in repr(failed.data)


@KINDS
@pytest.mark.spec("GC-BRN-112")
async def test_a_redirect_is_refused_so_that_the_key_stays_with_its_host(kind: Kind) -> None:
    async with faulty() as other:
        failed, _ = await failure(kind, Answer(307, {"location": other.url}))
        assert isinstance(failed, ProviderRefused)
        assert failed.data["kind"] == "redirect"
        assert not other.requests


# --- broken streams --------------------------------------------------------------------------------


@KINDS
@pytest.mark.spec("GC-BRN-113")
async def test_a_cut_in_the_middle_of_the_text_is_an_error_after_what_was_shown(kind: Kind) -> None:
    failed, shown = await failure(kind, sse(*begins(kind), then="cut"))
    assert isinstance(failed, ProviderUnavailable)
    assert shown == [TextChunk("Half an ans")]


@KINDS
@pytest.mark.spec("GC-BRN-113")
async def test_a_stream_that_ends_politely_without_its_last_event_is_an_error_too(kind: Kind) -> None:
    failed, shown = await failure(kind, sse(*begins(kind)))
    assert isinstance(failed, ProviderUnavailable)
    assert "before the answer was whole" in failed.message
    assert shown == [TextChunk("Half an ans")]


@KINDS
@pytest.mark.spec("GC-BRN-113")
@pytest.mark.parametrize(
    "rubbish",
    [
        "{not json",
        '{"type": "content_block_delta", "index": 7, "choices": [{"delta": {"tool_calls": 5}}]}',
        '{"type": "message_delta", "choices": 5}',
        "[]",
    ],
)
async def test_rubbish_in_a_stream_is_the_providers_fault_and_may_be_tried_again(kind: Kind, rubbish: str) -> None:
    name = "content_block_delta" if "index" in rubbish else "message_delta"
    body = f"event: {name}\ndata: {rubbish}\n\n"
    failed, _ = await failure(kind, Answer(200, {"content-type": "text/event-stream"}, (body,)))
    assert isinstance(failed, ProviderUnavailable)


@KINDS
@pytest.mark.spec("GC-BRN-113")
async def test_a_body_that_is_no_stream_at_all_is_an_error(kind: Kind) -> None:
    failed, _ = await failure(kind, Answer(200, {"content-type": "text/html"}, ("<html>Welcome to the hotel",)))
    assert isinstance(failed, ProviderUnavailable)


@KINDS
@pytest.mark.spec("GC-BRN-113")
@pytest.mark.parametrize(
    ("type_", "expected"),
    [
        ("overloaded_error", ProviderUnavailable),
        ("rate_limit_error", RateLimited),
        ("invalid_request_error", ProviderRefused),
        ("something_new", ProviderUnavailable),
    ],
)
async def test_an_error_event_inside_a_stream_is_told_apart_like_a_status(
    kind: Kind, type_: str, expected: type[ProviderError]
) -> None:
    event = {"type": "error", "error": {"type": type_, "message": "in the middle"}}
    failed, shown = await failure(kind, sse(*begins(kind), event))
    assert type(failed) is expected
    assert "in the middle" in failed.message
    assert shown == [TextChunk("Half an ans")]


@KINDS
@pytest.mark.spec("GC-BRN-114")
async def test_silence_ends_the_call_when_its_time_is_over(kind: Kind) -> None:
    failed, shown = await failure(kind, sse(*begins(kind), then="hang"), timeout_ms=300)
    assert isinstance(failed, ProviderUnavailable)
    assert "in time" in failed.message
    assert shown == [TextChunk("Half an ans")]


@KINDS
@pytest.mark.spec("GC-BRN-114")
async def test_silence_between_two_pieces_is_bounded_by_itself(kind: Kind) -> None:
    failed, _ = await failure(kind, sse(*begins(kind), then="hang"), idle_timeout_ms=200)
    assert isinstance(failed, ProviderUnavailable)
    assert "in time" in failed.message


@KINDS
@pytest.mark.spec("GC-BRN-113")
async def test_nobody_listening_is_unavailable(kind: Kind) -> None:
    async with faulty() as server:
        gone = server.url
    provider = provider_at(kind, gone)
    with pytest.raises(ProviderUnavailable, match="cannot be reached"):
        await anext(aiter(provider.stream(REQUEST)))
    await provider.aclose()


@KINDS
@pytest.mark.spec("GC-BRN-113")
async def test_an_address_that_is_none_is_refused_and_not_retried(kind: Kind) -> None:
    provider = provider_at(kind, "127.0.0.1:1234")
    with pytest.raises(ProviderRefused) as caught:
        await anext(aiter(provider.stream(REQUEST)))
    await provider.aclose()
    assert caught.value.data["kind"] == "address"


@KINDS
async def test_a_key_with_a_line_break_is_an_auth_error_that_does_not_show_it(kind: Kind) -> None:
    provider = provider_at(kind, "http://127.0.0.1:1", api_key="sk-first\nsk-second")
    with pytest.raises(ProviderAuth) as caught:
        await anext(aiter(provider.stream(REQUEST)))
    assert "sk-first" not in caught.value.message


@KINDS
@pytest.mark.spec("GC-BRN-114")
async def test_cancelling_the_call_closes_its_connection(kind: Kind) -> None:
    async with faulty(sse(*begins(kind), then="hang")) as server:
        provider = provider_at(kind, server.url)
        shown = asyncio.Event()

        async def watch() -> None:
            async for _ in provider.stream(REQUEST):
                shown.set()

        task = asyncio.create_task(watch())
        await shown.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.left.wait()
        await provider.aclose()


@KINDS
@pytest.mark.spec("GC-BRN-114")
async def test_leaving_a_stream_half_read_closes_its_connection(kind: Kind) -> None:
    async with faulty(sse(*begins(kind), then="hang")) as server:
        provider = provider_at(kind, server.url)
        async with aclosing(provider.stream(REQUEST)) as stream:  # type: ignore[type-var]
            assert await anext(stream) == TextChunk("Half an ans")
        await server.left.wait()
        await provider.aclose()


# --- tool calls that arrive broken -----------------------------------------------------------------


@KINDS
@pytest.mark.spec("GC-BRN-115")
@pytest.mark.parametrize("arguments", ['{"file_path": ', "[1]", "null", '{"a": NaN}', "[" * 100_000])
async def test_arguments_that_are_not_a_json_object_are_never_guessed_at(kind: Kind, arguments: str) -> None:
    failed, _ = await failure(kind, sse(*begins(kind), *calls(kind, arguments), *ends(kind, "tool_use")))
    assert isinstance(failed, ProviderUnavailable)
    assert "malformed tool arguments" in failed.message


@KINDS
@pytest.mark.spec("GC-BRN-115")
@pytest.mark.parametrize(
    ("arguments", "stop"), [('{"file_path": "/et', "max_tokens"), ("", "max_tokens"), ('{"a": 1}', "refusal")]
)
async def test_a_call_the_model_did_not_finish_or_stand_by_is_dropped(kind: Kind, arguments: str, stop: str) -> None:
    async with faulty(sse(*begins(kind), *calls(kind, arguments), *ends(kind, stop))) as server:
        *_, reply = await run(kind, server)
    assert isinstance(reply, Reply)
    assert reply.blocks == (Text("Half an ans"),)
    assert reply.stop_reason == stop


@KINDS
@pytest.mark.spec("GC-BRN-115")
async def test_a_whole_call_before_the_tokens_ran_out_is_kept(kind: Kind) -> None:
    async with faulty(sse(*begins(kind), *calls(kind, '{"a"', ": 1}"), *ends(kind, "max_tokens"))) as server:
        *_, reply = await run(kind, server)
    assert isinstance(reply, Reply)
    assert reply.blocks[1] == ToolCall("call_1", "read_file", {"a": 1})


@KINDS
@pytest.mark.spec("GC-BRN-115")
@pytest.mark.parametrize(
    ("with_calls", "stop", "settled"), [(True, "end_turn", "tool_use"), (False, "tool_use", "end_turn")]
)
async def test_the_stop_reason_agrees_with_the_answer(kind: Kind, with_calls: bool, stop: str, settled: str) -> None:
    wanted = calls(kind, "") if with_calls else []
    async with faulty(sse(*begins(kind), *wanted, *ends(kind, stop))) as server:
        *_, reply = await run(kind, server)
    assert isinstance(reply, Reply)
    assert reply.stop_reason == settled


@KINDS
@pytest.mark.spec("GC-BRN-115")
async def test_halves_of_surrogates_never_reach_the_database(kind: Kind) -> None:
    stream = [
        *begins(kind, "\ud83d"),
        *calls(kind, r'{"file_path": "\ud83d\ude00 \udc00"}'),
        *ends(kind, "tool_use"),
    ]
    async with faulty(sse(*stream)) as server:
        *shown, reply = await run(kind, server)
    assert isinstance(reply, Reply)
    assert reply.blocks == (Text("�"), ToolCall("call_1", "read_file", {"file_path": "\U0001f600 �"}))
    assert shown == [TextChunk("�")]


@KINDS
@pytest.mark.spec("GC-BRN-116")
async def test_an_answer_without_end_is_cut_off(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("goclaw.brain.providers.reading.REPLY_LIMIT", 10)
    failed, _ = await failure(kind, sse(*begins(kind)))
    assert isinstance(failed, ProviderUnavailable)
    assert "more than 10 characters" in failed.message


@KINDS
@pytest.mark.spec("GC-BRN-117")
async def test_the_counts_are_the_providers_own(kind: Kind) -> None:
    async with faulty(sse(*begins(kind), *ends(kind, "end_turn"))) as server:
        *_, reply = await run(kind, server)
    assert isinstance(reply, Reply)
    assert (reply.usage.input, reply.usage.output, reply.usage.calls) == (3, 4, 1)
    assert reply.model == "served"
