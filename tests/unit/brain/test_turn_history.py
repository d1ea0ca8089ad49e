"""Turns on the real queue and a real file: the order of a conversation, and a prompt that outlives everything."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from goclaw.brain.turn import TurnParts, chat_handler
from goclaw.core.agent import Agent
from goclaw.core.chat import ChatRequest
from goclaw.core.intake import chat_task
from goclaw.core.outcome import Failed, Outcome, failure
from goclaw.core.step import Effect, End, Intend, Start, StepState
from goclaw.core.task import Task, TaskState
from goclaw.core.tool import Ready, ToolOutput
from goclaw.db.database import Database
from goclaw.errors import Conflict, GoclawError, NoProvider, ProviderUnavailable
from goclaw.kernel.attempt import LiveAttempt
from goclaw.kernel.claiming import Claimed
from goclaw.kernel.queue import Queue
from goclaw.store import sessions, steps
from tests.fakes import ScriptedProvider, Step, calls, says
from tests.fakes_clock import FakeClock
from tests.fakes_turn import Killed, MemoryJournal, MemoryToolbox, World
from tests.scratch import scratch

AGENTS = {"default": Agent(id="default", display_name="goclaw", soul="")}


class UncheckedToolbox(MemoryToolbox):
    """The journal is the real one here, so this toolbox asks nothing of its own."""

    async def run(self, ready: Ready) -> ToolOutput:
        self.world.done.append((ready.name, ready.context.effect_key))
        if ready.name in self.world.blind:
            self.world.blind.clear()
            raise Killed
        return ToolOutput(f"{ready.name} did it")


class House:
    """A queue on a file; `boot` begins a new life on it."""

    def __init__(self, path: Path) -> None:
        scratch(path).close()
        self.path = path
        self.clock = FakeClock()
        self.boots = 0
        self.system = "You are goclaw."
        self.world = World({f"{effect}_a": effect for effect in Effect})
        self.requests: list[ChatRequest] = []
        self.database = Database(path, self.clock)

    async def __aenter__(self) -> House:
        await self.boot()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.database.__aexit__(None, None, None)

    async def boot(self) -> None:
        """The process is gone, and another one recovers."""
        if self.boots:
            await self.database.__aexit__(None, None, None)
            self.database = Database(self.path, self.clock)
        self.boots += 1
        await self.database.__aenter__()
        self.queue = Queue(
            self.database,
            self.clock,
            boot_id=f"boot-{self.boots}",
            agents=lambda: AGENTS,
            policy_version=lambda: "policy-1",
            jitter=lambda: 0.0,
        )
        await self.queue.recover()

    async def say(self, content: str, session: str = "s") -> Task:
        return (await self.queue.submit(chat_task(content, agent_id=None, session_id=session))).task

    async def claim(self) -> Claimed | None:
        found = await self.queue.claim("default", 1)
        return found[0] if found else None

    async def work(self, *script: Step) -> Task:
        """Claim the next turn and carry it out on this script."""
        claimed = await self.claim()
        assert claimed is not None
        outcome = await self.outcome(claimed, *script)
        return await self.queue.finish(claimed.stored, outcome)

    async def outcome(self, claimed: Claimed, *script: Step) -> Outcome:
        with ScriptedProvider(script) as provider:
            parts = TurnParts(
                agents=lambda: AGENTS,
                provider_for=lambda agent, task_id: provider,
                toolbox=UncheckedToolbox(self.world, MemoryJournal()),
                system_text=lambda agent: self.system,
            )
            attempt = LiveAttempt(self.queue, self.database, claimed, lambda delta: None)
            try:
                return await chat_handler(parts)(attempt)
            except GoclawError as error:
                return failure(error)
            finally:
                self.requests += provider.requests

    async def killed(self, *script: Step, by: str = "unsafe_a") -> Task:
        """A turn whose process dies in this call."""
        self.world.blind = {by}
        claimed = await self.claim()
        assert claimed is not None
        with pytest.raises(Killed):
            await self.outcome(claimed, *script)
        await self.boot()
        return claimed.task

    def told(self, number: int = -1) -> list[str]:
        """The texts of one request, with their roles."""
        return [f"{message.role}: {message.text}" for message in self.requests[number].messages]

    async def step(self, task: Task, key_start: str = "") -> dict[str, Any]:
        listed = await self.database.read(steps.listed, task.id)
        return next(step for step in listed if step.get("tool") == "unsafe_a" and step["key"].startswith(key_start))

    async def notes(self) -> list[str]:
        session = await self.database.read(sessions.find, "s")
        assert session is not None
        items = await self.database.read(sessions.history, session.key, 100, None)
        return [item["text"] for item in items if item["role"] == "system"]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with House(tmp_path / "goclaw.db") as made:
        yield made


RESULT = {"text": "a person said that this was done", "is_error": False, "artifact": None, "code": None}
DONE = {**RESULT, "data": {"resolved": True, "result": "the invoice was sent"}}


@pytest.mark.spec("GC-BRN-009")
async def test_follow_ups_queued_while_a_turn_runs_are_answered_in_order_each_seeing_what_came_before(
    house: House,
) -> None:
    await house.say("first question")
    claimed = await house.claim()
    assert claimed is not None
    await house.say("second question")
    await house.say("third question")
    assert await house.claim() is None, "the session is held by its first turn"
    done = await house.queue.finish(claimed.stored, await house.outcome(claimed, says("first answer")))
    assert done.state is TaskState.SUCCEEDED
    assert house.told() == ["user: first question"]
    await house.work(says("second answer"))
    assert house.told() == ["user: first question", "assistant: first answer", "user: second question"]
    await house.work(says("third answer"))
    assert house.told()[2:] == ["user: second question", "assistant: second answer", "user: third question"]


@pytest.mark.spec("GC-PER-038")
async def test_a_prompt_is_the_same_after_recovery_whatever_changed_meanwhile(house: House) -> None:
    await house.say("one")
    await house.work(says("answer one"))
    await house.say("two")
    claimed = await house.claim()
    assert claimed is not None
    await house.outcome(claimed, ProviderUnavailable())
    await house.say("three")
    house.system = "You are somebody else."
    await house.boot()
    await house.work(says("answer two"))
    before, after = (json.dumps(asdict(request)) for request in house.requests[-2:])
    assert before == after
    assert "somebody else" not in after
    await house.work(says("answer three"))
    assert house.requests[-1].system == "You are somebody else."


@pytest.mark.spec("GC-BRN-010")
async def test_a_redriven_turn_keeps_its_place_and_its_prompt(house: House) -> None:
    first = await house.say("one")
    failed = await house.work(NoProvider())
    assert failed.state is TaskState.FAILED
    await house.say("two")
    await house.work(says("answer two"))
    assert house.told() == ["user: one", "user: two"]
    await house.queue.redrive(first.id)
    await house.work(says("answer one"))
    assert house.told() == ["user: one"]
    await house.say("three")
    await house.work(says("answer three"))
    assert house.told() == [
        "user: one",
        "assistant: answer one",
        "user: two",
        "assistant: answer two",
        "user: three",
    ]


@pytest.mark.spec("GC-BRN-010")
async def test_a_turn_does_not_see_what_an_earlier_one_said_after_it_had_begun(house: House) -> None:
    one, two = await house.say("one"), await house.say("two")
    for _ in range(2):
        assert (await house.work(NoProvider())).state is TaskState.FAILED
    await house.queue.redrive(one.id)
    await house.work(says("a late answer"))
    await house.queue.redrive(two.id)
    await house.work(says("answer two"))
    assert house.requests[-1] == house.requests[1]
    assert house.told() == ["user: one", "user: two"]


@pytest.mark.spec("GC-PER-035")
async def test_a_step_that_begins_as_unsafe_stays_so_when_its_class_is_changed_back(house: House) -> None:
    await house.say("one")
    await house.killed(calls(("unsafe_a", {}), ("pure_a", {})))
    house.world.effects["pure_a"] = Effect.UNSAFE
    await house.killed(by="pure_a")
    house.world.effects["pure_a"] = Effect.PURE
    await house.work(says("answer"))
    assert house.world.times("pure_a") == 1
    assert str(house.requests[-1].messages[-1].blocks).count("outcome of this call is unknown") == 2


async def test_a_failed_attempt_stores_nothing_of_what_it_said_and_the_last_one_stores_it_once(house: House) -> None:
    await house.say("one")
    waiting = await house.work(calls(("pure_a", {})), ProviderUnavailable())
    assert waiting.state is TaskState.RETRY_WAIT
    house.clock.advance(60_000)
    await house.queue.run_timers()
    done = await house.work(says("answer"))
    assert done.state is TaskState.SUCCEEDED
    session = await house.database.read(sessions.find, "s")
    assert session is not None
    items = await house.database.read(sessions.history, session.key, 100, None)
    assert [item["role"] for item in items] == ["user", "assistant", "tool", "assistant"]


async def test_a_journal_knows_after_each_commit_what_the_file_holds(house: House) -> None:
    await house.say("one")
    claimed = await house.claim()
    assert claimed is not None
    journal = LiveAttempt(house.queue, house.database, claimed, lambda delta: None).journal
    before = journal.steps
    await journal.commit([Intend(key=key, kind="tool", request={}, request_hash="h") for key in "bac"])
    await journal.commit([Start("a", {"seen": 1}, Effect.PURE), End("b", StepState.FAILED, {"why": "not"})])
    assert before == {}
    assert list(journal.steps) == ["b", "a", "c"]
    assert journal.steps == await house.database.read(steps.load, claimed.task.key)


async def test_a_mismatch_rests_in_failed(house: House) -> None:
    task = await house.say("one")
    await house.work(calls(("pure_a", {})), NoProvider())
    await house.database.write(lambda conn: conn.execute("UPDATE step SET request_hash = 'x' WHERE kind = 'llm'"))
    await house.queue.redrive(task.id)
    refused = await house.work()
    assert (refused.state, refused.error_code) == (TaskState.FAILED, "JOURNAL_MISMATCH")


# -- a person's word ------------------------------------------------------------------------------------------------


@pytest.mark.spec("GC-PER-039")
async def test_an_unknown_step_that_no_model_was_told_of_takes_the_result_a_person_gives_it(house: House) -> None:
    await house.say("one")
    task = await house.killed(calls(("unsafe_a", {})))
    failed = await house.work(NoProvider())
    assert failed.state is TaskState.FAILED
    with pytest.raises(Conflict, match="settle it"):
        await house.queue.redrive(task.id)
    await house.queue.resolve(task.id, None, True, DONE)
    await house.queue.redrive(task.id)
    await house.work(says("answer"))
    assert "a person said that this was done" in str(house.requests[-1].messages[-1].blocks)
    assert await house.notes() == []
    assert house.world.times("unsafe_a") == 1


@pytest.mark.spec("GC-PER-039")
async def test_an_unknown_step_that_did_not_happen_runs_when_the_turn_is_redriven(house: House) -> None:
    await house.say("one")
    task = await house.killed(calls(("unsafe_a", {})))
    await house.work(NoProvider())
    await house.queue.resolve(task.id, None, False, None)
    assert (await house.step(task))["state"] == "intended"
    await house.queue.redrive(task.id)
    await house.work(says("answer"))
    assert house.world.times("unsafe_a") == 2


@pytest.mark.spec("GC-PER-040")
@pytest.mark.parametrize(("happened", "state"), [(True, "done"), (False, "failed")])
async def test_a_result_that_a_model_has_read_stays_and_the_word_is_said_in_the_session(
    house: House, happened: bool, state: str
) -> None:
    await house.say("one")
    task = await house.killed(calls(("unsafe_a", {"to": "bob"})))
    waiting = await house.work(calls(("pure_a", {})), ProviderUnavailable())
    assert waiting.state is TaskState.RETRY_WAIT
    before = await house.step(task)
    await house.queue.resolve(task.id, None, happened, DONE if happened else None)
    after = await house.step(task)
    assert (after["state"], after["result"]) == (state, before["result"])
    house.clock.advance(60_000)
    await house.queue.run_timers()
    await house.work(says("answer"))
    again, first = house.requests[-1], house.requests[-2]
    assert again == first, "the prompt is what it was"
    await house.say("two")
    await house.work(says("noted"))
    roles = [message.role for message in house.requests[-1].messages]
    assert roles == ["user", "assistant", "tool", "assistant", "tool", "assistant", "system", "user"]
    (note,) = await house.notes()
    assert ("did take effect" in note) == happened
    assert '"to":"bob"' in note
    assert ("the invoice was sent" in note) == happened
    with pytest.raises(Conflict, match="no unknown step"):
        await house.queue.resolve(task.id, None, happened, None)


@pytest.mark.spec("GC-PER-040")
async def test_a_word_said_while_a_later_turn_runs_is_for_the_turn_after_it(house: House) -> None:
    await house.say("one")
    task = await house.killed(calls(("unsafe_a", {})))
    await house.work(says("it is unknown"))
    await house.say("two")
    claimed = await house.claim()
    assert claimed is not None
    await house.queue.resolve(task.id, None, True, None)
    await house.queue.finish(claimed.stored, await house.outcome(claimed, says("answer two")))
    assert not any(text.startswith("system") for text in house.told())
    await house.say("three")
    await house.work(says("answer three"))
    assert [text.partition(":")[0] for text in house.told()][-4:] == ["user", "assistant", "system", "user"]


@pytest.mark.spec("GC-PER-040")
async def test_a_result_in_a_prompt_whose_answer_never_came_stays_too(house: House) -> None:
    await house.say("one")
    task = await house.killed(calls(("unsafe_a", {})))
    claimed = await house.claim()
    assert claimed is not None
    with pytest.raises(RuntimeError):
        await house.outcome(claimed, RuntimeError("in the middle of the call"))
    failed = await house.queue.finish(claimed.stored, Failed("TIMEOUT", "too slow", permanent=True))
    assert failed.state is TaskState.FAILED
    await house.queue.resolve(task.id, None, True, DONE)
    await house.queue.redrive(task.id)
    done = await house.work(says("answer"))
    assert done.state is TaskState.SUCCEEDED
    assert house.requests[-1] == house.requests[-2]
    assert len(await house.notes()) == 1
    assert (await house.step(task))["state"] == StepState.DONE
