"""Tool calls through the journal, killed at every tick of every batch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from goclaw.brain.calls import AT_ONCE, UNKNOWN_TEXT, Calls, Finished
from goclaw.core.chat import ToolCall
from goclaw.core.step import Effect, End, Intend, Start, StepState, effect_key
from goclaw.core.tool import ToolOutput
from goclaw.errors import LeaseLost
from tests.fakes_turn import Killed, Life, MemoryAttempt, MemoryJournal, MemoryToolbox, World

BATCH = ("pure_a", "pure_b", "unsafe_a", "idempotent_a", "verifiable_a", "denied", "unsafe_b", "verifiable_b", "pure_c")


def world(*names: str) -> World:
    return World({name: Effect(name.partition("_")[0]) for name in names if name != "denied"}, denied={"denied"})


def wanted(names: Sequence[str]) -> list[ToolCall]:
    return [ToolCall(f"call_{number}", name, {"n": 1}) for number, name in enumerate(names)]


class Bench:
    """Lives one after another on one journal and one world."""

    def __init__(self, names: Sequence[str] = BATCH) -> None:
        self.names = names
        self.world = world(*names)
        self.journal = MemoryJournal()
        self.toolbox = MemoryToolbox(self.world, self.journal)

    def born(self, kill_at: int = -1, **task: Any) -> Calls:
        self.journal = MemoryJournal(self.journal.durable, Life(kill_at))
        self.toolbox = MemoryToolbox(self.world, self.journal)
        return Calls(MemoryAttempt(self.journal, **task), self.toolbox)

    async def live(self, kill_at: int = -1, **options: Any) -> list[Finished] | None:
        """One life; what the batch came to, or None when it was killed."""
        calls = self.born(kill_at)
        try:
            done, entries = await calls.perform(wanted(self.names), "round:0", **options)
            await self.journal.commit(entries)
        except BaseException:
            assert self.journal.life.over
            return None
        return done

    def state(self, name: str) -> StepState:
        return self.journal.durable[key_of(name, self.names)].state

    def put(self, name: str, state: StepState, **fields: Any) -> None:
        """A step as an earlier life left it."""
        effect = self.world.effects.get(name)
        given = {"kind": "tool", "request": None, "request_hash": "x", "tool": name, "effect": effect} | fields
        self.journal.apply([Intend(key=key_of(name, self.names), running=state is StepState.RUNNING, **given)])
        if state not in (StepState.INTENDED, StepState.RUNNING):
            self.journal.apply([End(key_of(name, self.names), state, ToolOutput(f"{name} as recorded").as_json())])


def key_of(name: str, names: Sequence[str] = BATCH) -> str:
    task = MemoryAttempt(MemoryJournal()).task
    return effect_key(task.id, "round:0", names.index(name), name, {"n": 1})


# -- the order of things ------------------------------------------------------------------------------------------


@pytest.mark.spec("GC-BRN-001")
async def test_the_intents_of_a_batch_stand_in_one_commit_with_the_reply_that_asked_for_them() -> None:
    bench = Bench()
    lead = End("llm:0", StepState.DONE, {"the": "reply"})
    bench.journal.apply([Intend(key="llm:0", kind="llm", request=None, request_hash="h", running=True)])
    await bench.live(lead=[lead])
    first = bench.journal.commits[0]
    assert first[0] == lead
    intended = [entry.key for entry in first if isinstance(entry, Intend)]
    assert intended == [key_of(name) for name in BATCH]


@pytest.mark.spec("GC-BRN-001")
async def test_what_begins_first_is_marked_running_with_its_intent_and_the_rest_is_only_intended() -> None:
    bench = Bench()
    await bench.live()
    marks = {entry.tool: entry.running for entry in bench.journal.commits[0] if isinstance(entry, Intend)}
    assert marks == {name: name in {"pure_a", "pure_b"} for name in BATCH}


@pytest.mark.spec("GC-BRN-002")
async def test_pure_neighbours_run_side_by_side_and_all_others_alone_and_in_order() -> None:
    bench = Bench()
    calls = bench.born()
    both = asyncio.Event()

    def hold(name: str) -> asyncio.Event | None:
        if {"pure_a", "pure_b"} <= bench.toolbox.now:
            both.set()
        return both if name in {"pure_a", "pure_b"} else None

    bench.toolbox.hold = hold
    await calls.perform(wanted(BATCH), "round:0")
    trace = bench.toolbox.trace
    assert trace[:2] == ["+pure_a", "+pure_b"]
    alone = [name for name in BATCH[2:] if name != "denied"]
    assert trace[4:] == [mark + name for name in alone for mark in "+-"]


async def test_no_more_than_a_few_pure_calls_run_at_once() -> None:
    names = [f"pure_{number}" for number in range(40)]
    bench = Bench(names)
    done = await bench.live()
    assert bench.toolbox.most == AT_ONCE < 20
    assert done is not None
    assert [finished.output.data["name"] for finished in done] == names


async def test_each_outcome_of_neighbours_is_committed_as_it_comes() -> None:
    bench = Bench(("pure_a", "pure_b", "pure_c"))
    calls = bench.born()
    release = asyncio.Event()
    bench.toolbox.hold = lambda name: None if name == "pure_b" else release
    async with asyncio.TaskGroup() as group:
        batch = group.create_task(calls.perform(wanted(bench.names), "round:0"))
        for _ in range(2):
            await bench.journal.made.get()
        assert bench.state("pure_b") is StepState.DONE
        assert bench.state("pure_a") is StepState.RUNNING
        release.set()
    _, entries = batch.result()
    assert [type(entry) for entry in entries] == [End]


async def test_a_refused_call_is_recorded_and_does_not_run() -> None:
    bench = Bench()
    done = await bench.live()
    assert done is not None
    assert done[5].output.code == "POLICY_DENIED"
    assert bench.state("denied") is StepState.FAILED
    assert bench.journal.durable[key_of("denied")].effect is None
    assert bench.world.times("denied") == 0


async def test_a_batch_of_refusals_needs_no_commit_of_its_own() -> None:
    bench = Bench(("denied",))
    calls = bench.born()
    done, entries = await calls.perform(wanted(bench.names), "round:0", [End("llm:0", StepState.DONE)])
    assert bench.journal.commits == []
    assert [type(entry) for entry in entries] == [End, Intend, End]
    assert done[0].output.text == "denied by policy: no rule"


async def test_a_failure_is_a_result_and_the_rest_of_the_batch_goes_on() -> None:
    bench = Bench(("unsafe_a", "unsafe_b"))
    calls = bench.born()
    bench.toolbox.answers["unsafe_a"] = ToolOutput("exit 3", True, {"exit_code": 3}, code="EXIT_STATUS")
    done, _ = await calls.perform(wanted(bench.names), "round:0")
    assert [finished.state for finished in done] == [StepState.FAILED, StepState.DONE]


async def test_two_equal_calls_of_a_batch_are_two_effects_with_two_keys() -> None:
    bench = Bench(("unsafe_a",))
    await bench.born().perform(wanted(["unsafe_a", "unsafe_a"]), "round:0")
    assert [name for name, _ in bench.world.done] == ["unsafe_a"] * 2
    assert len({key for _, key in bench.world.done}) == 2


async def test_the_effect_key_does_not_depend_on_the_providers_call_id() -> None:
    bench = Bench(("unsafe_a",))
    done: set[str] = set()
    for name in ("toolu_1", "call_9", ""):
        bench.journal = MemoryJournal()
        calls = bench.born()
        await calls.perform([ToolCall(name, "unsafe_a", {"n": 1})], "round:0")
        done |= {key for _, key in bench.world.done}
    assert len(done) == 1


# -- killed ---------------------------------------------------------------------------------------------------------


async def _ticks(batch: Sequence[str] = BATCH) -> list[str]:
    bench = Bench(batch)
    assert await bench.live() is not None
    return bench.journal.life.ticks


def check(bench: Bench, done: list[Finished] | None, kills: int) -> None:
    """What must hold after any number of kills."""
    assert done is not None
    times = {name: bench.world.times(name) for name in bench.names}
    unknown = {name for name, finished in zip(bench.names, done, strict=True) if finished.state is StepState.UNKNOWN}
    assert unknown <= {"unsafe_a", "unsafe_b"}
    assert len(unknown) <= kills
    for name, finished in zip(bench.names, done, strict=True):
        if name == "denied":
            assert (times[name], finished.output.code) == (0, "POLICY_DENIED")
        elif name in unknown:
            assert times[name] <= 1
            assert finished.output.text == UNKNOWN_TEXT
        else:
            assert finished.output == ToolOutput(f"{name} did it", data={"name": name})
            assert times[name] == 1 if name.startswith(("unsafe", "verifiable")) else 1 <= times[name] <= 1 + kills
    for name in bench.names:
        assert len({key for other, key in bench.world.done if other == name}) <= 1, "a repeated effect keeps its key"
    assert {step.state for step in bench.journal.durable.values()} <= {
        StepState.DONE,
        StepState.FAILED,
        StepState.UNKNOWN,
    }


BATCHES = (BATCH, ("verifiable_a", "verifiable_b"), ("unsafe_a",), ("idempotent_a", "pure_a", "denied"), ("pure_a",))


@pytest.mark.spec("GC-PER-030")
@pytest.mark.parametrize("batch", BATCHES)
async def test_a_batch_killed_at_any_tick_goes_on_with_nothing_lost_and_nothing_unsafe_repeated(
    batch: tuple[str, ...],
) -> None:
    ticks = await _ticks(batch)
    assert len(ticks) >= 3 * len(batch)
    for kill_at in range(len(ticks)):
        bench = Bench(batch)
        assert await bench.live(kill_at) is None, ticks[kill_at]
        ended = {key for key, step in bench.journal.durable.items() if step.state in (StepState.DONE, StepState.FAILED)}
        before = list(bench.world.done)
        check(bench, await bench.live(), 1)
        repeated = {key for _, key in bench.world.done[len(before) :]}
        assert not ended & repeated, "a step that was recorded as done ran again"


@pytest.mark.spec("GC-PER-030")
async def test_a_batch_killed_twice_at_any_two_ticks_goes_on_as_well() -> None:
    ticks = len(await _ticks())
    pairs = 0
    for first in range(ticks):
        for second in range(ticks):
            bench = Bench()
            assert await bench.live(first) is None
            done = await bench.live(second)
            check(bench, done if done is not None else await bench.live(), 2)
            pairs += done is None
    assert pairs > ticks * 5


@pytest.mark.spec("GC-PER-031")
@pytest.mark.parametrize(("state", "times"), [(StepState.INTENDED, 1), (StepState.DONE, 0), (StepState.FAILED, 0)])
async def test_an_intended_step_simply_runs_and_an_ended_one_never_does(state: StepState, times: int) -> None:
    bench = Bench(("unsafe_a",))
    bench.put("unsafe_a", state)
    done = await bench.live()
    assert done is not None
    assert bench.world.times("unsafe_a") == times
    assert done[0].output.text == ("unsafe_a did it" if times else "unsafe_a as recorded")


@pytest.mark.spec("GC-PER-032")
@pytest.mark.parametrize("name", ["pure_a", "idempotent_a"])
async def test_a_running_step_that_may_be_repeated_runs_again_under_its_key(name: str) -> None:
    bench = Bench((name,))
    bench.put(name, StepState.RUNNING)
    await bench.live()
    assert bench.world.done == [(name, key_of(name, bench.names))]
    assert isinstance(bench.journal.commits[0][0], Start), "its new beginning is in the journal too"


@pytest.mark.spec("GC-PER-033")
async def test_a_running_verifiable_step_that_happened_is_recorded_and_not_repeated() -> None:
    bench = Bench(("verifiable_a",))
    bench.put("verifiable_a", StepState.RUNNING, evidence={"before": 0})
    bench.world.done.append(("verifiable_a", key_of("verifiable_a", bench.names)))
    done = await bench.live()
    assert done is not None
    assert done[0].state is StepState.DONE
    assert bench.world.times("verifiable_a") == 1


@pytest.mark.spec("GC-PER-033")
async def test_a_running_verifiable_step_that_did_not_happen_runs_with_new_evidence() -> None:
    bench = Bench(("verifiable_a",))
    bench.world.done.append(("verifiable_a", "somebody else's"))
    bench.put("verifiable_a", StepState.RUNNING, evidence={"before": 1})
    await bench.live()
    assert bench.world.times("verifiable_a") == 2
    start = bench.journal.commits[0][0]
    assert isinstance(start, Start)
    assert start.evidence == {"before": 1}


@pytest.mark.spec("GC-PER-033")
async def test_a_running_verifiable_step_that_nobody_can_look_up_is_unknown() -> None:
    bench = Bench(("verifiable_a",))
    bench.world.blind = {"verifiable_a"}
    bench.put("verifiable_a", StepState.RUNNING, evidence={"before": 0})
    done = await bench.live()
    assert done is not None
    assert done[0] == Finished(
        ToolOutput(f"{UNKNOWN_TEXT} (nobody looked)", True, code="OUTCOME_UNKNOWN"), StepState.UNKNOWN
    )
    assert bench.world.times("verifiable_a") == 0


@pytest.mark.spec("GC-PER-034")
@pytest.mark.parametrize("denied", [True, False])
async def test_a_running_unsafe_step_is_unknown_whatever_the_policy_says_now(denied: bool) -> None:
    bench = Bench(("unsafe_a",))
    bench.put("unsafe_a", StepState.RUNNING)
    bench.world.denied = {"unsafe_a"} if denied else set()
    done = await bench.live()
    assert done is not None
    assert done[0].state is StepState.UNKNOWN
    assert done[0].output.text.startswith(UNKNOWN_TEXT)
    assert bench.world.done == []


@pytest.mark.spec("GC-PER-034")
async def test_a_running_verifiable_step_that_is_refused_now_is_unknown_and_not_nothing() -> None:
    bench = Bench(("verifiable_a",))
    bench.put("verifiable_a", StepState.RUNNING, evidence={"before": 0})
    bench.world.denied = {"verifiable_a"}
    done = await bench.live()
    assert done is not None
    assert done[0].state is StepState.UNKNOWN
    assert "denied by policy: no rule" in done[0].output.text
    assert bench.world.probed == []


async def test_a_running_idempotent_step_that_is_refused_now_says_that_it_may_have_happened() -> None:
    bench = Bench(("idempotent_a", "pure_a"))
    for name in bench.names:
        bench.put(name, StepState.RUNNING)
    bench.world.denied = set(bench.names)
    done = await bench.live()
    assert done is not None
    assert [finished.output.code for finished in done] == ["POLICY_DENIED"] * 2
    assert "may have taken effect" in done[0].output.text
    assert done[1].output.text == "denied by policy: no rule"


@pytest.mark.spec("GC-PER-035")
@pytest.mark.parametrize(
    ("recorded", "today"),
    [
        (Effect.PURE, Effect.UNSAFE),
        (Effect.UNSAFE, Effect.PURE),
        (Effect.PURE, Effect.VERIFIABLE),
        (Effect.VERIFIABLE, Effect.PURE),
    ],
)
async def test_a_step_whose_class_has_changed_is_repeated_only_if_both_allow_it(
    recorded: Effect, today: Effect
) -> None:
    bench = Bench(("pure_a",))
    bench.put("pure_a", StepState.RUNNING, effect=recorded)
    bench.world.effects["pure_a"] = today
    done = await bench.live()
    assert done is not None
    assert done[0].state is StepState.UNKNOWN
    assert bench.world.done == []


@pytest.mark.spec("GC-PER-035")
async def test_an_intended_step_begins_with_the_class_it_has_today() -> None:
    bench = Bench(("pure_a",))
    bench.put("pure_a", StepState.INTENDED)
    bench.world.effects["pure_a"] = Effect.UNSAFE
    assert await bench.live(kill_at=3) is None, "killed after its effect"
    assert bench.world.times("pure_a") == 1
    bench.world.effects["pure_a"] = Effect.PURE
    done = await bench.live()
    assert done is not None
    assert done[0].state is StepState.UNKNOWN, "what it was when it began counts, whatever it is called afterwards"
    assert bench.world.times("pure_a") == 1


async def test_an_unknown_step_of_a_recorded_batch_is_told_as_it_was_recorded() -> None:
    bench = Bench(("unsafe_a", "unsafe_b"))
    bench.put("unsafe_a", StepState.RUNNING)
    bench.put("unsafe_b", StepState.RUNNING)
    first, second = (key_of(name, bench.names) for name in bench.names)
    bench.journal.apply(
        [End(first, StepState.UNKNOWN), End(second, StepState.UNKNOWN, ToolOutput("a reason", True).as_json())]
    )
    done = await bench.live()
    assert done is not None
    assert [finished.output.text for finished in done] == [UNKNOWN_TEXT, "a reason"]
    assert bench.world.done == []


# -- tries ----------------------------------------------------------------------------------------------------------


@pytest.mark.spec("GC-PER-036")
async def test_a_failed_call_is_tried_again_as_a_new_step_with_the_same_effect_key() -> None:
    bench = Bench(("unsafe_a",))
    key = key_of("unsafe_a", bench.names)
    for expected in (key, f"{key}~2", f"{key}~3"):
        calls = bench.born()
        bench.toolbox.answers["unsafe_a"] = ToolOutput("exit 1", True, code="EXIT_STATUS")
        _, entries = await calls.perform(wanted(bench.names), "round:0", retry_failed=True)
        await bench.journal.commit(entries)
        assert list(bench.journal.durable)[-1] == expected
    assert bench.world.done == [("unsafe_a", key)] * 3


@pytest.mark.spec("GC-PER-036")
async def test_a_second_try_that_was_running_is_judged_and_not_made_a_third() -> None:
    bench = Bench(("unsafe_a",))
    bench.put("unsafe_a", StepState.FAILED)
    key = f"{key_of('unsafe_a', bench.names)}~2"
    again = Intend(key=key, kind="tool", request=None, request_hash="x", effect=Effect.UNSAFE, running=True)
    bench.journal.apply([again])
    done = await bench.live(retry_failed=True)
    assert done is not None
    assert done[0].state is StepState.UNKNOWN
    assert bench.world.done == []


async def test_a_call_that_ended_without_a_known_end_is_an_unknown_step() -> None:
    bench = Bench(("unsafe_a",))
    calls = bench.born()
    bench.toolbox.answers["unsafe_a"] = ToolOutput("killed", True, {"outcome": "unknown"}, code="OUTCOME_UNKNOWN")
    done, entries = await calls.perform(wanted(bench.names), "round:0")
    assert done[0].state is StepState.UNKNOWN
    assert isinstance(entries[0], End)
    assert entries[0].state is StepState.UNKNOWN


# -- interrupted ----------------------------------------------------------------------------------------------------


@pytest.mark.spec("GC-BRN-003")
async def test_a_commit_that_fails_among_neighbours_is_raised_as_it_is_and_leaves_nothing_running() -> None:
    bench = Bench(("pure_a", "pure_b", "pure_c"))
    calls = bench.born()
    never = asyncio.Event()

    def hold(name: str) -> asyncio.Event | None:
        if name == "pure_b":
            bench.journal.refuse = LeaseLost()
            return None
        return never

    bench.toolbox.hold = hold
    with pytest.raises(LeaseLost):
        await calls.perform(wanted(bench.names), "round:0")
    assert bench.toolbox.now == set()


@pytest.mark.spec("GC-BRN-003")
@pytest.mark.parametrize("names", [("pure_a", "pure_b", "pure_c"), ("unsafe_a",)])
async def test_a_cancellation_ends_what_runs_before_it_is_through(names: tuple[str, ...]) -> None:
    bench = Bench(names)
    calls = bench.born()
    never = asyncio.Event()
    bench.toolbox.hold = lambda name: never
    batch = asyncio.create_task(calls.perform(wanted(names), "round:0"))
    for _ in names:
        await bench.toolbox.began.get()
    batch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await batch
    assert bench.toolbox.now == set()
    assert {bench.state(name) for name in names} == {StepState.RUNNING}, (
        "how they ended is for the next attempt to judge"
    )


async def test_the_bench_can_kill() -> None:
    bench = Bench(("pure_a",))
    calls = bench.born(kill_at=0)
    with pytest.raises(Killed):
        await calls.perform(wanted(bench.names), "round:0")
    assert bench.journal.durable == {}
