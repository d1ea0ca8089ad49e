"""Tasks that are one tool call."""

from __future__ import annotations

from typing import Any

import pytest

from goclaw.brain.single import PERMANENT, call_handler, call_of
from goclaw.core.chat import ToolCall
from goclaw.core.outcome import Failed, Outcome, Succeeded, Unknown
from goclaw.core.step import Effect, Intend, StepState, effect_key
from goclaw.core.tool import ToolOutput
from tests.fakes_turn import MemoryAttempt, MemoryJournal, MemoryToolbox, World
from tests.scratch import running

ARGUMENTS = {"n": 1}


class Bench:
    """Attempts one after another at one task of the kind `tool`."""

    def __init__(self, name: str, **task: Any) -> None:
        self.world = World({name: Effect(name.partition("_")[0])})
        self.journal = MemoryJournal()
        self.answer: ToolOutput | None = None
        self.toolbox = MemoryToolbox(self.world, self.journal)
        self.task = {"kind": "tool", "session_id": None, "payload": {"name": name, "arguments": ARGUMENTS}} | task
        self.key = effect_key(running().id, "call", 0, name, ARGUMENTS)

    async def attempt(self, answer: ToolOutput | None = None) -> Outcome:
        attempt = MemoryAttempt(self.journal, **self.task)
        self.toolbox.answers = {} if answer is None else dict.fromkeys(self.world.effects, answer)
        outcome = await call_handler(self.toolbox)(attempt)
        assert isinstance(outcome, Succeeded | Failed | Unknown)
        self.journal.apply(outcome.closing.entries)
        return outcome


@pytest.mark.parametrize(
    ("kind", "payload", "call"),
    [
        (
            "exec",
            {"argv": ["ls"], "cwd": None, "effect": "pure"},
            ToolCall("call", "exec", {"argv": ["ls"], "effect": "pure"}),
        ),
        ("exec", {"argv": ["ls"], "env": {"A": "b"}}, ToolCall("call", "exec", {"argv": ["ls"], "env": {"A": "b"}})),
        (
            "skill",
            {"skill": "sha256", "input": {"text": "a"}, "effect": "pure"},
            ToolCall("call", "sha256", {"text": "a"}),
        ),
        ("skill", {"skill": "sha256", "input": None}, ToolCall("call", "sha256", {})),
        ("skill", {"skill": "sha256"}, ToolCall("call", "sha256", {})),
        ("tool", {"name": "glob", "arguments": {"pattern": "*"}}, ToolCall("call", "glob", {"pattern": "*"})),
        ("tool", {"name": "glob"}, ToolCall("call", "glob", {})),
    ],
)
def test_a_payload_stands_for_one_call(kind: str, payload: dict[str, Any], call: ToolCall) -> None:
    assert call_of(running(kind=kind, payload=payload)) == call


async def test_a_call_that_went_well_is_a_result_with_its_data_and_artifact() -> None:
    outcome = await Bench("unsafe_a").attempt(ToolOutput("out", data={"exit_code": 0}, artifact="abc"))
    assert isinstance(outcome, Succeeded)
    assert outcome.result == {"text": "out", "exit_code": 0, "artifact": "abc"}


@pytest.mark.spec("GC-PER-041")
@pytest.mark.parametrize("code", sorted(PERMANENT))
async def test_what_only_a_person_can_mend_is_not_tried_again(code: str) -> None:
    outcome = await Bench("unsafe_a").attempt(ToolOutput("no", True, code=code))
    assert isinstance(outcome, Failed)
    assert (outcome.code, outcome.permanent) == (code, True)


@pytest.mark.spec("GC-PER-041")
async def test_a_refused_call_rests_in_failed_and_was_not_begun() -> None:
    bench = Bench("unsafe_a")
    bench.world.denied = {"unsafe_a"}
    outcome = await bench.attempt()
    assert isinstance(outcome, Failed)
    assert outcome.permanent
    assert bench.world.done == []
    assert bench.journal.durable[bench.key].state is StepState.FAILED


@pytest.mark.spec("GC-PER-036")
async def test_a_known_failure_is_tried_again_under_the_same_effect_key() -> None:
    bench = Bench("unsafe_a")
    failed = await bench.attempt(ToolOutput("exit 3", True, {"exit_code": 3}, code="EXIT_STATUS"))
    assert isinstance(failed, Failed)
    assert (failed.code, failed.permanent, failed.result) == ("EXIT_STATUS", False, {"text": "exit 3", "exit_code": 3})
    assert isinstance(await bench.attempt(), Succeeded)
    assert [key for _, key in bench.world.done] == [bench.key] * 2
    assert list(bench.journal.durable) == [bench.key, f"{bench.key}~2"]


async def test_a_call_that_is_done_is_not_made_again_by_a_later_attempt() -> None:
    bench = Bench("unsafe_a")
    first = await bench.attempt()
    assert await bench.attempt() == Succeeded(first.result if isinstance(first, Succeeded) else None)
    assert bench.world.times("unsafe_a") == 1


@pytest.mark.spec("GC-PER-034")
async def test_an_end_that_is_not_known_is_the_outcome_unknown() -> None:
    killed = ToolOutput("ended by signal 9", True, {"outcome": "unknown"}, code="OUTCOME_UNKNOWN")
    bench = Bench("unsafe_a")
    outcome = await bench.attempt(killed)
    assert isinstance(outcome, Unknown)
    assert outcome.message == "ended by signal 9"
    assert bench.journal.durable[bench.key].state is StepState.UNKNOWN
    again = await bench.attempt()
    assert isinstance(again, Unknown), "and it stays so until a person settles it"
    assert bench.world.times("unsafe_a") == 1


@pytest.mark.spec("GC-PER-034")
async def test_an_unsafe_call_found_running_is_the_outcome_unknown() -> None:
    bench = Bench("unsafe_a")
    begun = Intend(key=bench.key, kind="tool", request=None, request_hash="h", effect=Effect.UNSAFE, running=True)
    bench.journal.apply([begun])
    assert isinstance(await bench.attempt(), Unknown)
    assert bench.world.done == []


async def test_a_long_error_text_is_cut_for_the_task_and_whole_in_the_result() -> None:
    outcome = await Bench("unsafe_a").attempt(ToolOutput("x" * 9_000, True, code="EXIT_STATUS"))
    assert isinstance(outcome, Failed)
    assert len(outcome.message) == 2_000
    assert len(outcome.result["text"]) == 9_000


@pytest.mark.parametrize(
    ("kind", "payload", "direct", "declared"),
    [
        ("skill", {"skill": "unsafe_a", "effect": "pure"}, True, Effect.PURE),
        ("skill", {"skill": "unsafe_a"}, True, None),
        ("tool", {"name": "unsafe_a", "arguments": {}}, True, None),
        ("chat", {"content": "x", "effect": "pure"}, False, None),
    ],
)
async def test_the_gate_hears_what_the_user_declares(
    kind: str, payload: dict[str, Any], direct: bool, declared: Effect | None
) -> None:
    from goclaw.brain.calls import Calls

    bench = Bench("unsafe_a", kind=kind, payload=payload)
    heard = []
    prepare = bench.toolbox.prepare

    async def listening(call: ToolCall, context: Any) -> Any:
        heard.append((context.direct, context.declared))
        return await prepare(call, context)

    bench.toolbox.prepare = listening  # type: ignore[method-assign]
    await Calls(MemoryAttempt(bench.journal, **bench.task), bench.toolbox).perform([ToolCall("c", "unsafe_a", {})], "b")
    assert heard == [(direct, declared)]
