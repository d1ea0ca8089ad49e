"""A chat turn on a journal in memory: what is asked, what is recorded, and what a killed one asks again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, replace
from typing import Any

import pytest

from goclaw.brain.turn import TurnParts, chat_handler
from goclaw.core.agent import Agent
from goclaw.core.chat import (
    ChatRequest,
    Chunk,
    Message,
    Reply,
    StopReason,
    Text,
    TextChunk,
    ToolCall,
    ToolResult,
    ToolSpec,
    Usage,
)
from goclaw.core.outcome import Failed, Outcome, Succeeded, failure
from goclaw.core.ports import Provider
from goclaw.core.step import Effect, End, StepState
from goclaw.errors import JournalMismatch, NoProvider, NotFound, ProviderUnavailable, RateLimited
from tests.fakes import ScriptedProvider, calls, says
from tests.fakes_turn import Life, MemoryAttempt, MemoryConversation, MemoryJournal, MemoryToolbox, World

AGENT = Agent(id="default", display_name="goclaw", soul="")
TOOL = ToolSpec("pure_a", "does a", {"type": "object", "properties": {"z": {}, "a": {}}})


class Scene:
    """One session and one turn of it, with what may change between lives."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.system = "You are goclaw."
        self.agents = {"default": AGENT}
        self.shown: tuple[ToolSpec, ...] = (TOOL,)
        self.world = World({f"{effect}_{letter}": effect for effect in Effect for letter in "ab"})
        self.said: list[tuple[int, Message]] = [(1, Message("user", (Text("hello"),)))]
        self.parts: dict[str, str] = {}
        self.journal = MemoryJournal()
        self.attempt = MemoryAttempt(self.journal)

    async def live(self, kill_at: int = -1, **task: Any) -> Outcome:
        """One attempt; its closing entries are committed as the settle would."""
        self.journal = MemoryJournal(self.journal.durable, Life(kill_at))
        toolbox = MemoryToolbox(self.world, self.journal)
        toolbox.shown = self.shown
        self.attempt = MemoryAttempt(self.journal, MemoryConversation(self.said, 1, self.parts), **task)
        handle = chat_handler(
            TurnParts(
                agents=lambda: self.agents,
                provider_for=lambda agent, task_id: self.provider,
                toolbox=toolbox,
                system_text=lambda agent: self.system,
            )
        )
        outcome = await handle(self.attempt)
        assert isinstance(outcome, Succeeded | Failed)
        await self.journal.commit(outcome.closing.entries)
        return outcome

    async def killed(self, kill_at: int) -> None:
        try:
            await self.live(kill_at)
        except BaseException:
            if not self.journal.life.over:
                raise
        assert self.journal.life.over


class Talker:
    """A model that answers by what the conversation holds. Its arguments are in no sorted order."""

    name = "talker"

    def __init__(self, *rounds: tuple[str, ...]) -> None:
        self._rounds = rounds
        self.asked: list[str] = []
        self.requests: list[ChatRequest] = []

    async def stream(self, request: ChatRequest) -> AsyncIterator[Chunk]:
        self.asked.append(json.dumps(asdict(request)))
        self.requests.append(request)
        done = sum(1 for message in request.messages if message.calls)
        yield TextChunk(f"round {done}")
        wanted = self._rounds[done] if done < len(self._rounds) else ()
        made = [ToolCall(f"theirs-{n}", name, {"z": 1, "a": n}) for n, name in enumerate(wanted)]
        usage = Usage(input=10, output=5, calls=1)
        stop: StopReason = "tool_use" if made else "end_turn"
        yield Reply(blocks=(Text(f"round {done}"), *made), stop_reason=stop, usage=usage, provider="talker", model="m")


ROUNDS = (("pure_a", "pure_b", "verifiable_a"), ("unsafe_a", "unsafe_b"))


@pytest.mark.spec("GC-BRN-004")
async def test_a_turn_answers_sums_its_usage_and_hands_over_its_messages_once() -> None:
    scene = Scene(Talker(*ROUNDS))
    outcome = await scene.live()
    assert isinstance(outcome, Succeeded)
    assert outcome.result == {"text": "round 2", "stop_reason": "end_turn", "provider": "talker", "model": "m"}
    assert outcome.usage == Usage(input=30, output=15, calls=3).as_json()
    assert [message.role for message in outcome.closing.messages] == [
        "assistant",
        "tool",
        "assistant",
        "tool",
        "assistant",
    ]
    assert outcome.closing.messages[-1].tokens == 15
    results = [block for block in outcome.closing.messages[1].blocks if isinstance(block, ToolResult)]
    assert [result.text for result in results] == ["pure_a did it", "pure_b did it", "verifiable_a did it"]


async def test_call_ids_are_our_own_and_each_result_is_paired_with_its_call() -> None:
    scene = Scene(Talker(*ROUNDS))
    await scene.live()
    provider = scene.provider
    assert isinstance(provider, Talker)
    last = provider.requests[-1]
    asked = [call.id for message in last.messages for call in message.calls]
    answered = [block.call_id for message in last.messages for block in message.blocks if isinstance(block, ToolResult)]
    assert asked == answered == ["call_0_0", "call_0_1", "call_0_2", "call_1_0", "call_1_1"]


@pytest.mark.spec("GC-PER-037")
async def test_a_killed_turn_asks_nothing_twice_but_the_call_in_flight_and_asks_it_byte_for_byte() -> None:
    first = Scene(Talker(*ROUNDS))
    await first.live()
    ticks = first.journal.life.ticks
    assert isinstance(first.provider, Talker)
    whole = first.provider.asked
    assert len(ticks) > 20
    assert len(whole) == 3
    for kill_at in range(len(ticks)):
        provider = Talker(*ROUNDS)
        scene = Scene(provider)
        await scene.killed(kill_at)
        if "turn" in scene.journal.durable:
            scene.system, scene.shown = "You are somebody else.", ()
            scene.said.append((0, Message("user", (Text("said meanwhile in an earlier turn"),))))
        outcome = await scene.live()
        assert isinstance(outcome, Succeeded)
        assert outcome.usage == Usage(input=30, output=15, calls=3).as_json()
        unknown = [step for step in scene.journal.durable.values() if step.state is StepState.UNKNOWN]
        counts = Counter(provider.asked)
        assert len(provider.asked) <= 3 + 1, ticks[kill_at]
        assert counts.keys() == set(whole) or unknown, ticks[kill_at]
        assert len(counts) == 3
        assert [scene.world.times(f"unsafe_{letter}") for letter in "ab"] == [1, 1] or len(unknown) == 1


@pytest.mark.spec("GC-BRN-005")
async def test_the_first_attempt_already_sends_what_is_recorded_and_not_what_it_was_made_of() -> None:
    provider = Talker(*ROUNDS)
    await Scene(provider).live()
    assert list(provider.requests[0].tools[0].parameters["properties"]) == ["a", "z"]
    call = provider.requests[1].messages[1].calls[0]
    assert list(call.arguments) == ["a", "z"]


@pytest.mark.spec("GC-BRN-005")
async def test_a_request_that_differs_from_the_recorded_one_is_refused_for_good() -> None:
    scene = Scene(Talker(*ROUNDS))
    await scene.live()
    scene.journal.durable["llm:1"] = replace(scene.journal.durable["llm:1"], request_hash="another")
    with pytest.raises(JournalMismatch) as mismatch:
        await scene.live()
    assert failure(mismatch.value).permanent


async def test_a_turn_whose_pinned_text_is_gone_is_refused_for_good() -> None:
    scene = Scene(ScriptedProvider([ProviderUnavailable()]))
    await scene.live()
    scene.parts.clear()
    with pytest.raises(JournalMismatch):
        await scene.live()


async def test_a_turn_of_an_agent_that_is_gone_says_so() -> None:
    scene = Scene(ScriptedProvider([]))
    scene.agents = {}
    with pytest.raises(NotFound, match="no longer configured"):
        await scene.live()


@pytest.mark.spec("GC-BRN-006")
async def test_a_provider_error_is_a_failed_step_and_the_next_attempt_is_a_step_of_its_own() -> None:
    with ScriptedProvider([RateLimited(retry_after_ms=7_000), ProviderUnavailable(), says("at last")]) as provider:
        scene = Scene(provider)
        limited, unavailable, answered = [await scene.live() for _ in range(3)]
    assert isinstance(limited, Failed)
    assert (limited.code, limited.permanent, limited.retry_after_ms) == ("RATE_LIMITED", False, 7_000)
    assert isinstance(unavailable, Failed)
    assert isinstance(answered, Succeeded)
    states = {key: step.state.value for key, step in scene.journal.durable.items()}
    assert states == {"turn": "done", "llm:0": "failed", "llm:0~2": "failed", "llm:0~3": "done"}
    assert scene.journal.durable["llm:0"].result["code"] == "RATE_LIMITED"
    assert len({request.digest for request in provider.requests}) == 1


@pytest.mark.spec("GC-BRN-006")
async def test_a_provider_error_in_a_later_round_keeps_the_usage_and_what_was_done() -> None:
    with ScriptedProvider([calls(("unsafe_a", {})), NoProvider(), says("done")]) as provider:
        scene = Scene(provider)
        failed = await scene.live()
        assert isinstance(failed, Failed)
        assert failed.permanent
        assert failed.usage == Usage(input=10, output=5, calls=1).as_json()
        assert scene.world.times("unsafe_a") == 1
        await scene.live()
    assert scene.world.times("unsafe_a") == 1


async def test_a_call_that_was_in_flight_is_marked_again_before_it_is_made_again() -> None:
    scene = Scene(Talker())
    ticks = 3  # committed twice: turn and llm:0 in one commit, then the settle
    await scene.killed(ticks - 1)
    assert scene.journal.durable["llm:0"].state is StepState.RUNNING
    await scene.live()
    assert [type(entry).__name__ for entry in scene.journal.commits[0]] == ["Start"]


async def test_deltas_are_passed_on_with_their_resets() -> None:
    chunks: list[Chunk | Exception] = [TextChunk("one "), TextChunk("", reset=True), TextChunk("two"), says("two")]
    scene = Scene(ScriptedProvider([chunks]))
    await scene.live()
    assert scene.attempt.deltas == [("one ", False), ("", True), ("two", False)]


async def test_a_second_attempt_takes_back_what_the_first_one_showed() -> None:
    scene = Scene(ScriptedProvider([[TextChunk("half an "), ProviderUnavailable()], says("answer")]))
    await scene.live()
    assert scene.attempt.deltas == [("half an ", False)]
    await scene.live()
    assert scene.attempt.deltas == [("answer", True)]


async def test_a_stream_that_ends_without_a_reply_is_a_provider_error() -> None:
    scene = Scene(ScriptedProvider([[TextChunk("half")]]))
    outcome = await scene.live()
    assert isinstance(outcome, Failed)
    assert (outcome.code, outcome.permanent) == ("PROVIDER_UNAVAILABLE", False)


@pytest.mark.spec("GC-BRN-007")
async def test_a_turn_stops_after_its_rounds_with_everything_recorded() -> None:
    scene = Scene(Talker(*[("unsafe_a",)] * 5))
    scene.agents = {"default": replace(AGENT, max_rounds=3)}
    outcome = await scene.live()
    assert isinstance(outcome, Failed)
    assert (outcome.code, outcome.permanent) == ("MAX_ROUNDS", True)
    assert outcome.usage == Usage(input=30, output=15, calls=3).as_json()
    assert scene.world.times("unsafe_a") == 3
    assert {step.state for step in scene.journal.durable.values()} == {StepState.DONE}
    scene.agents = {"default": replace(AGENT, max_rounds=10)}
    assert isinstance(await scene.live(), Succeeded), "after a redrive with more rounds it goes on where it stood"
    assert scene.world.times("unsafe_a") == 5


@pytest.mark.spec("GC-BRN-008")
async def test_a_denied_call_is_a_result_that_the_model_sees() -> None:
    provider = Talker(("unsafe_a",))
    scene = Scene(provider)
    scene.world.denied = {"unsafe_a"}
    assert isinstance(await scene.live(), Succeeded)
    told = provider.requests[1].messages[-1].blocks[0]
    assert told == ToolResult("call_0_0", "denied by policy: no rule", True)


async def test_an_unknown_outcome_is_told_to_the_model_and_the_turn_goes_on() -> None:
    provider = Talker(("unsafe_a", "unsafe_b"))
    scene = Scene(provider)
    ticks = (await _ticks_of(Talker(("unsafe_a", "unsafe_b")))).index("ran unsafe_a")
    await scene.killed(ticks + 1)
    assert isinstance(await scene.live(), Succeeded)
    told = [block for block in provider.requests[-1].messages[-1].blocks if isinstance(block, ToolResult)]
    assert told[0].is_error
    assert "outcome of this call is unknown" in told[0].text
    assert told[1].text == "unsafe_b did it"
    assert scene.world.times("unsafe_a") == 1


async def _ticks_of(provider: Talker) -> list[str]:
    scene = Scene(provider)
    await scene.live()
    return scene.journal.life.ticks


async def test_the_chosen_model_and_limits_are_pinned_with_the_turn() -> None:
    provider = Talker(("pure_a",))
    scene = Scene(provider)
    scene.agents = {"default": replace(AGENT, max_tokens=100)}
    await scene.killed(4)
    scene.agents = {"default": replace(AGENT, max_tokens=200)}
    await scene.live(payload={"content": "hello", "model": "another"})
    assert {(request.model, request.max_tokens) for request in provider.requests} == {(None, 100)}


async def test_the_entries_of_the_settle_end_the_last_model_call() -> None:
    scene = Scene(Talker())
    outcome = await scene.live()
    assert isinstance(outcome, Succeeded)
    (entry,) = outcome.closing.entries
    assert isinstance(entry, End)
    assert (entry.key, entry.state) == ("llm:0", StepState.DONE)
    assert isinstance(entry.result, Mapping)
