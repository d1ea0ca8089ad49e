"""A provider made of providers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from goclaw.brain.providers import Failover, OnModel
from goclaw.core.chat import ChatRequest, Chunk, Message, Text, TextChunk
from goclaw.errors import (
    ContextOverflow,
    NoProvider,
    ProviderAuth,
    ProviderError,
    ProviderRefused,
    ProviderUnavailable,
    RateLimited,
)
from tests.fakes import ScriptedProvider, Step, says

REQUEST = ChatRequest(system="", messages=(Message("user", (Text("hi"),)),))


class Reports(list[tuple[str, Mapping[str, Any]]]):
    def __call__(self, event_type: str, payload: Mapping[str, Any]) -> None:
        self.append((event_type, payload))


async def outcome(
    *steps: Step | None, request: ChatRequest = REQUEST
) -> tuple[list[Chunk], ProviderError | None, Reports]:
    """What a failover over one scripted candidate for each step gives; None is a candidate that must not be
    asked.
    """
    candidates = [
        ScriptedProvider([] if step is None else [step], name=f"p{n}") for n, step in enumerate(steps, start=1)
    ]
    chunks: list[Chunk] = []
    reports = Reports()
    try:
        async for chunk in Failover(candidates, reports).stream(request):
            chunks.append(chunk)
    except ProviderError as error:
        return chunks, error, reports
    finally:
        for candidate in candidates:
            candidate.finish()
    return chunks, None, reports


@pytest.mark.spec("GC-BRN-120")
async def test_the_first_candidate_that_answers_is_the_only_one_asked() -> None:
    chunks, error, reports = await outcome(says("one"), None)
    assert chunks == [TextChunk("one"), says("one")]
    assert error is None
    assert not reports


@pytest.mark.spec("GC-BRN-120")
@pytest.mark.parametrize(
    "failure",
    [
        ProviderUnavailable("down"),
        RateLimited("slow"),
        ProviderAuth("bad key"),
        ProviderRefused("no such model", kind="model_not_found"),
        ProviderRefused("no credit", kind="billing"),
    ],
)
async def test_what_another_provider_may_do_better_is_tried_there(failure: ProviderError) -> None:
    chunks, error, reports = await outcome(failure, says("two"))
    assert chunks == [TextChunk("two"), says("two")]
    assert error is None
    assert [kind for kind, _ in reports] == ["provider.failed", "provider.failover"]
    assert reports[0][1]["provider"] == "p1"
    assert reports[0][1]["error_code"] == failure.code
    assert reports[1][1] == {"from": "p1", "to": "p2", "error_code": failure.code}


@pytest.mark.spec("GC-BRN-120")
@pytest.mark.parametrize(
    "failure",
    [
        ProviderRefused("bad temperature", kind="bad_request"),
        ProviderRefused("of unknown kind"),
        ContextOverflow("too long"),
        NoProvider(),
    ],
)
async def test_a_fault_of_the_request_itself_is_not_carried_to_the_next(failure: ProviderError) -> None:
    chunks, error, reports = await outcome(failure, None)
    assert error is failure
    assert not chunks
    assert [kind for kind, _ in reports] == ["provider.failed"]


@pytest.mark.spec("GC-BRN-121")
async def test_text_that_was_shown_is_taken_back_before_the_next_candidate_starts_over() -> None:
    chunks, _, reports = await outcome([TextChunk("Hal"), ProviderUnavailable("cut")], says("Whole."))
    assert chunks == [TextChunk("Hal"), TextChunk("", reset=True), TextChunk("Whole."), says("Whole.")]
    assert reports[0][1]["mid_answer"] is True


@pytest.mark.spec("GC-BRN-121")
async def test_nothing_is_taken_back_when_nothing_was_shown_since() -> None:
    cut: Step = [TextChunk("Hal"), ProviderUnavailable("cut")]
    chunks, _, _ = await outcome(cut, ProviderUnavailable("down"), says("x"))
    assert [chunk.reset for chunk in chunks if isinstance(chunk, TextChunk)] == [False, True, False]


@pytest.mark.spec("GC-BRN-121")
async def test_the_next_candidate_gets_the_very_same_request() -> None:
    first = ScriptedProvider([[TextChunk("Hal"), ProviderUnavailable()]])
    second = ScriptedProvider([says("x")])
    async for _ in Failover([first, second], Reports()).stream(REQUEST):
        pass
    assert first.requests == second.requests == [REQUEST]


@pytest.mark.spec("GC-BRN-122")
async def test_a_model_the_user_chose_is_never_replaced_in_silence() -> None:
    failure = ProviderUnavailable("down")
    _, error, _ = await outcome(failure, None, request=replace(REQUEST, model="the-one"))
    assert error is failure


@pytest.mark.spec("GC-BRN-123")
async def test_when_all_have_failed_every_cause_is_named_and_the_shortest_wait_kept() -> None:
    _, error, _ = await outcome(
        RateLimited("one", retry_after_ms=9_000),
        ProviderAuth("two"),
        ProviderUnavailable("three", retry_after_ms=4_000),
    )
    assert type(error) is ProviderUnavailable
    assert error.data["retry_after_ms"] == 4_000
    assert [cause["provider"] for cause in error.data["causes"]] == ["p1", "p2", "p3"]
    assert all(text in error.message for text in ("one", "two", "three"))


@pytest.mark.spec("GC-BRN-123")
async def test_when_all_limit_the_rate_so_does_the_whole() -> None:
    _, error, _ = await outcome(RateLimited("a", retry_after_ms=5), RateLimited("b"))
    assert type(error) is RateLimited
    assert error.data["retry_after_ms"] == 5


@pytest.mark.spec("GC-BRN-123")
async def test_a_single_failure_is_passed_on_as_it_is() -> None:
    failure = RateLimited("a", retry_after_ms=5)
    _, error, _ = await outcome(failure)
    assert error is failure


@pytest.mark.spec("GC-BRN-123")
async def test_what_no_waiting_can_mend_is_not_called_retryable() -> None:
    wrong = ProviderAuth("bad key")
    _, error, _ = await outcome(wrong, ProviderRefused("no such model", kind="model_not_found"))
    assert error is wrong


async def test_a_candidate_that_ends_without_a_reply_has_failed() -> None:
    chunks, error, _ = await outcome([TextChunk("Hal")], says("x"))
    assert error is None
    assert chunks[1:] == [TextChunk("", reset=True), TextChunk("x"), says("x")]


async def test_cancellation_is_no_failure_and_closes_the_candidates_stream() -> None:
    closed = asyncio.Event()
    shown = asyncio.Event()

    class Slow:
        name = "slow"

        async def stream(self, request: ChatRequest) -> AsyncIterator[Chunk]:
            try:
                yield TextChunk("x")
                await asyncio.Event().wait()
            finally:
                closed.set()

    reports = Reports()
    never = ScriptedProvider([])

    async def consume() -> None:
        async for _ in Failover([Slow(), never], reports).stream(REQUEST):
            shown.set()

    task = asyncio.create_task(consume())
    await shown.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert closed.is_set()
    assert not reports
    never.finish()


async def test_leaving_half_way_closes_the_candidates_stream_at_once() -> None:
    closed = asyncio.Event()

    class Slow:
        name = "slow"

        async def stream(self, request: ChatRequest) -> AsyncIterator[Chunk]:
            try:
                yield TextChunk("x")
                yield says("x")
            finally:
                closed.set()

    stream = Failover([Slow()], Reports()).stream(REQUEST)
    assert await anext(stream) == TextChunk("x")
    assert isinstance(stream, AsyncGenerator)
    await stream.aclose()
    assert closed.is_set()


@pytest.mark.spec("GC-BRN-122")
async def test_an_agents_model_belongs_to_one_candidate_and_yields_to_the_users_choice() -> None:
    first, second = ScriptedProvider([ProviderUnavailable(), says("x")]), ScriptedProvider([says("y")])
    failover = Failover([OnModel(first, "agents"), second], Reports())
    for request in (REQUEST, replace(REQUEST, model="users")):
        async for _ in failover.stream(request):
            pass
    assert [request.model for request in first.requests] == ["agents", "users"]
    assert [request.model for request in second.requests] == [None]


def test_a_failover_over_nobody_cannot_be_built() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Failover([], Reports())


def test_its_name_lists_the_candidates_in_their_order() -> None:
    candidates = [ScriptedProvider([], name="a"), ScriptedProvider([], name="b")]
    assert Failover(candidates, Reports()).name == "a+b"
