"""The task machine against a model, over real files, with a crash between any two operations and inside one.

The model (`task_model.py`) knows the rules only. After each step every row is compared with it, the laws of
`laws.py` must hold, and the event log must explain every row.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from goclaw.core.outcome import Closing, Failed, HandedBack, Outcome
from goclaw.core.step import Effect, End, Intend, Start, StepState
from goclaw.core.task import NewTask
from goclaw.errors import Conflict, GoclawError, LeaseLost
from goclaw.kernel import claiming, operations, submission, suspects, upkeep
from goclaw.kernel.claiming import Claimed, Holder, Now
from goclaw.kernel.operations import Ended
from goclaw.kernel.submission import Submitted, Wish, as_wish
from goclaw.store import events, steps, tasks
from goclaw.store.tasks import Stored
from tests.fakes_clock import START
from tests.scratch import commit, reopen, scratch
from tests.unit.kernel.laws import broken, unexplained
from tests.unit.kernel.machine_inputs import NEWS, OUTCOMES
from tests.unit.kernel.task_model import RESTING, Model, OneTask

LANES = {"default": 3, "other": 2}
AGENTS = tuple(LANES)
BOUNDS = {"default": 1_000, "other": 6}
LEASE_MS = 30_000
RATED = [("default", "noop"), ("default", "chat"), ("other", "chat")]
LONG = os.environ.get("GOCLAW_HYPOTHESIS") == "long"


class TaskMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        shared = "/dev/shm" if Path("/dev/shm").is_dir() else None
        self.folder = Path(tempfile.mkdtemp(prefix="goclaw-machine-", dir=shared))
        self.boots = 1
        self.path = self.folder / "boot-1.db"
        self.conn = scratch(self.path)
        self.now = Now(START, 1_000)
        self.model = Model(BOUNDS, LANES, START)
        self.stale: list[Stored] = []
        self.serial = 0

    def teardown(self) -> None:
        self.conn.close()
        shutil.rmtree(self.folder)

    @property
    def holder(self) -> Holder:
        return Holder(f"boot-{self.boots}", LEASE_MS, "policy-1", LANES)

    def pick(self, data: st.DataObject, among: Iterable[OneTask]) -> OneTask:
        return self.model.tasks[data.draw(st.sampled_from([task.id for task in among]), label="task")]

    def rings(self, before: set[str], ready: Iterable[str], but: Iterable[str] = ()) -> None:
        """Whoever has work that he had not before was told of it; `but` for those who look by themselves."""
        fresh = self.model.ready_agents() - before - set(but)
        assert "*" in ready or fresh <= set(ready), f"nobody told {fresh - set(ready)}"

    def passes(self, ms: int, monotonic: int | None = None) -> None:
        self.now = Now(self.now.wall + ms, self.now.monotonic + ms if monotonic is None else monotonic)
        self.model.now = self.now.wall

    def boot(self, crash: bool) -> None:
        """Reopen the file: as a crash leaves it, the bytes written so far and nothing more, or after a clean close."""
        old, self.boots = self.path, self.boots + 1
        self.path = self.folder / f"boot-{self.boots}.db"
        for suffix in ("", "-wal") if crash else ():
            if (left := old.with_name(old.name + suffix)).exists():
                shutil.copyfile(left, self.path.with_name(self.path.name + suffix))
        self.conn.close()
        if not crash:
            old.rename(self.path)
        self.conn = reopen(self.path)
        self.passes(50, monotonic=5)
        expected = self.model.live()
        self.stale += [task.held.stored for task in expected if task.held is not None]
        for task in expected:
            self.model.recovers(task)
        judged = commit(self.conn, upkeep.recover_all, f"boot-{self.boots}", self.now.wall)
        assert {task.id: state.value for task, state in judged} == {task.id: task.state for task in expected}

    # -- in ----------------------------------------------------------------------------------------------------

    @initialize(news=st.lists(NEWS, min_size=4, max_size=10))
    def first(self, news: list[NewTask]) -> None:
        assert commit(self.conn, upkeep.recover_all, "boot-1", self.now.wall) == []
        for new in news:
            self.submit(new, None)

    def wish(self, new: NewTask, child: int | None) -> Wish:
        if child is not None and (ids := list(self.model.tasks)):
            new = replace(new, parent_task_id=ids[child % len(ids)])
        self.serial += 1
        return as_wish(new, f"task-{self.serial}", BOUNDS, self.now.wall)

    def is_answered(self, wish: Wish, done: Submitted | GoclawError, order: int) -> set[str]:
        """As the model says; the agents to tell."""
        expected = self.model.answer(wish.new)
        if isinstance(expected, type):
            assert type(done) is expected
            return set()
        assert isinstance(done, Submitted), done
        assert done.known == (expected is not None)
        assert done.task.id == (expected or wish.task_id)
        if expected is not None:
            return set()
        agent = self.model.submitted(wish.new, wish.task_id, order).agent
        return {agent} if done.task.wait_reason is None else set()

    @rule(new=NEWS, child=st.none() | st.integers(0, 50))
    def submit(self, new: NewTask, child: int | None) -> None:
        wish, before, head = self.wish(new, child), self.model.ready_agents(), events.head(self.conn)
        done: Submitted | GoclawError
        try:
            done = commit(self.conn, submission.submit, wish.new, wish.task_id, BOUNDS, self.now.wall)
        except GoclawError as refusal:
            assert events.head(self.conn) == head
            done = refusal
        self.rings(before, self.is_answered(wish, done, self.serial))

    @rule(given=st.lists(st.tuples(NEWS, st.none() | st.integers(0, 50)), min_size=2, max_size=5))
    def submit_shared(self, given: list[tuple[NewTask, int | None]]) -> None:
        """Several callers in one commit; each gets his own answer."""
        first, before = self.serial + 1, self.model.ready_agents()
        wishes = [self.wish(new, child) for new, child in given]
        answers = commit(self.conn, submission.submit_shared, wishes)
        ready: set[str] = set()
        for order, (wish, done) in enumerate(zip(wishes, answers, strict=True), first):
            ready |= self.is_answered(wish, done, order)
        self.rings(before, ready)

    # -- out ---------------------------------------------------------------------------------------------------

    def is_claimed(self, claimed: Claimed, expected: OneTask) -> None:
        assert claimed.task.id == expected.id, "claim order"
        self.model.starts(expected, claimed)
        expected.until = self.now.monotonic + LEASE_MS
        assert {key: step.state.value for key, step in claimed.steps.items()} == expected.steps

    def are_claimed(self, agent: str, found: list[Claimed], limit: int) -> None:
        for claimed in found:
            expected = self.model.next_for(agent)
            assert expected is not None
            self.is_claimed(claimed, expected)
        assert len(found) == limit or self.model.next_for(agent) is None

    @rule(agents=st.permutations(AGENTS), limit=st.integers(1, 4))
    def claim(self, agents: Iterable[str], limit: int) -> None:
        for agent in agents:
            self.are_claimed(agent, commit(self.conn, claiming.claim, agent, limit, self.holder, self.now), limit)

    @rule(data=st.data(), known_end=st.booleans(), order=st.randoms(use_true_random=False))
    def settle_shared(self, data: st.DataObject, known_end: bool, order: Any) -> None:
        """Some attempts end in one commit, stale ones among them, and some workers take the next task."""
        self.claim(AGENTS, 0 if self.model.live() else 4)
        if not self.model.live():
            return
        lively = data.draw(st.lists(st.sampled_from([task.id for task in self.model.live()]), min_size=1, unique=True))
        stale = data.draw(st.lists(st.sampled_from(self.stale), max_size=2)) if self.stale else []
        live = {one.task.key: task for task in map(self.model.tasks.__getitem__, lively) if (one := task.held)}
        ends = [self.ended(data, task, task.held.stored, known_end) for task in live.values() if task.held]
        ends += [self.ended(data, None, stored, False) for stored in stale]
        order.shuffle(ends)
        before = self.model.ready_agents()
        settled = commit(self.conn, operations.settle_shared, ends)
        for ended, done in zip(ends, settled, strict=True):
            task = live.get(ended.stored.task.key)
            if task is not None and task.held is not None and task.held.stored == ended.stored:
                self.model.settles(task, ended.outcome)
                self.stale.append(ended.stored)
                assert done.task.state == task.state
        wanting = Counter(ended.stored.task.agent_id for ended in ends if ended.holder is not None)
        for agent, count in wanting.items():
            self.are_claimed(agent, [f for _, _, f in settled if f is not None and f.task.agent_id == agent], count)
        ready = frozenset().union(*(done.ready for done in settled))
        self.rings(before, ready, but={ended.stored.task.agent_id for ended in ends})

    def ended(self, data: st.DataObject, task: OneTask | None, stored: Stored, known_end: bool) -> Ended:
        outcome = data.draw(OUTCOMES, label="outcome")
        if isinstance(outcome, Failed) and known_end and task is not None:
            outcome = replace(outcome, closing=Closing(tuple(End(key, StepState.FAILED) for key in task.begun)))
        return Ended(stored, outcome, 0.0, self.holder if data.draw(st.booleans(), label="goes on") else None, self.now)

    @precondition(lambda self: self.stale)
    @rule(data=st.data(), outcome=OUTCOMES)
    def stale_worker(self, data: st.DataObject, outcome: Outcome) -> None:
        """Whoever lost his lease changes nothing, whatever he says."""
        stored = data.draw(st.sampled_from(self.stale), label="stale")
        head = events.head(self.conn)
        commit(self.conn, operations.finish, stored, outcome, 0.0, self.now.wall)
        with pytest.raises(LeaseLost):
            commit(self.conn, operations.record, stored, [], self.now.wall)
        with pytest.raises(LeaseLost):
            commit(self.conn, operations.report_progress, stored, {"done": 1}, self.now.wall)
        assert events.head(self.conn) == head

    @precondition(lambda self: any(task.kind != "noop" for task in self.model.live()))
    @rule(data=st.data(), running=st.booleans())
    def journal(self, data: st.DataObject, running: bool) -> None:
        task = self.pick(data, [task for task in self.model.live() if task.kind != "noop"])
        assert task.held is not None
        intended = [key for key, state in task.steps.items() if state == "intended"]
        entry: Intend | Start | End
        if task.begun:
            entry = End(task.begun[0], StepState.DONE, {"exit": 0})
            task.steps[entry.key] = "done"
        elif intended:
            entry = Start(intended[0])
            task.steps[entry.key] = "running"
        else:
            key = f"step-{len(task.steps)}"
            entry = Intend(
                key=key, kind="tool", request={}, request_hash="h", tool="exec", effect=Effect.UNSAFE, running=running
            )
            task.steps[key] = "running" if running else "intended"
        changed = commit(self.conn, operations.record, task.held.stored, [entry], self.now.wall)
        assert {key: step.state.value for key, step in changed.items()} == {entry.key: task.steps[entry.key]}
        journal = steps.load(self.conn, task.held.task.key)
        assert {key: step.state.value for key, step in journal.items()} == task.steps

    # -- a person's word, timers, limits -----------------------------------------------------------------------

    @precondition(lambda self: self.model.tasks)
    @rule(data=st.data(), reason=st.sampled_from([None, "enough", "DEADLINE"]))
    def cancel(self, data: st.DataObject, reason: str | None) -> None:
        task, before = self.pick(data, self.model.tasks.values()), self.model.ready_agents()
        done = commit(self.conn, operations.ask_cancel, task.id, reason, self.now.wall)
        self.model.cancels(task, reason)
        assert done.stored.task.state == task.state
        self.rings(before, done.ready)

    @precondition(lambda self: self.model.tasks)
    @rule(data=st.data())
    def redrive(self, data: st.DataObject) -> None:
        task, before = self.pick(data, self.model.tasks.values()), self.model.ready_agents()
        taken = any(one.unique == task.unique for one in self.model.unfinished() if one is not task and task.unique)
        if task.state not in RESTING or "unknown" in task.steps.values() or taken:
            with pytest.raises(Conflict):
                commit(self.conn, upkeep.ask_redrive, task.id, self.now.wall)
            return
        _, ready = commit(self.conn, upkeep.ask_redrive, task.id, self.now.wall)
        self.model.redrives(task)
        self.rings(before, ready)

    @precondition(lambda self: any("unknown" in task.steps.values() for task in self.model.those(*RESTING)))
    @rule(data=st.data(), happened=st.booleans())
    def resolve(self, data: st.DataObject, happened: bool) -> None:
        task = self.pick(data, [one for one in self.model.those(*RESTING) if "unknown" in one.steps.values()])
        listed = [step for step in steps.listed(self.conn, task.id) if step["state"] == "unknown"]
        commit(self.conn, upkeep.settle_step, task.id, listed[0]["id"], happened, {"said": 1}, self.now.wall)
        task.steps[listed[0]["key"]] = "done" if happened else "intended"

    @precondition(lambda self: self.model.tasks)
    @rule(data=st.data(), ms=st.sampled_from([400, 5_000]))
    def snooze(self, data: st.DataObject, ms: int) -> None:
        task, before = self.pick(data, self.model.tasks.values()), self.model.ready_agents()
        if task.state != "QUEUED":
            with pytest.raises(Conflict):
                commit(self.conn, upkeep.ask_snooze, task.id, ms, self.now.wall)
            return
        _, ready = commit(self.conn, upkeep.ask_snooze, task.id, ms, self.now.wall)
        self.model.stands_aside(task, ms)
        self.rings(before, ready)

    @rule(ms=st.sampled_from([1, 400, 1_000, 2_500, 10_000]))
    def time_passes(self, ms: int) -> None:
        before, looked = self.model.ready_agents(), self.now.wall
        self.passes(ms)
        done = commit(self.conn, upkeep.run_timers, self.now.wall, looked)
        due = self.model.due()
        for task in due:
            self.model.rings_for(task)
        assert len(done.overdue) == sum(task.asked == "DEADLINE" and task.state == "RUNNING" for task in due)
        assert done.next_wake == self.model.next_wake()
        self.rings(before, done.ready)

    @precondition(lambda self: self.model.live())
    @rule()
    def heartbeat(self) -> None:
        tokens = {task.held.task.lease_token or 0: task for task in self.model.live() if task.held}
        clocks = (self.now.monotonic, self.now.wall)
        expired = commit(self.conn, tasks.renew, self.holder.boot_id, list(tokens), clocks, LEASE_MS)
        assert set(expired) == {token for token, task in tokens.items() if task.until < self.now.monotonic}
        for token, task in tokens.items():
            if token not in expired:
                task.until = self.now.monotonic + LEASE_MS

    @rule(scope=st.sampled_from([("all", ""), ("agent", "other"), ("kind", "chat")]))
    def pause_or_resume(self, scope: tuple[str, str]) -> None:
        scope = min(self.model.pauses, default=scope)
        commit(self.conn, upkeep.resume if self.model.pauses else upkeep.pause, *scope, self.now.wall)
        self.model.pauses ^= {scope}

    @rule(
        limits=st.dictionaries(st.sampled_from(["n1", "n2"]), st.integers(1, 2)),
        rates=st.dictionaries(st.sampled_from(RATED), st.sampled_from([1, 2, 2, 7])),
    )
    def set_limits(self, limits: dict[str, int], rates: dict[tuple[str, str], int]) -> None:
        before = self.model.ready_agents()
        ready = commit(self.conn, upkeep.set_limits, limits, rates)
        self.model.limited(limits, rates.items())
        self.rings(before, ready)

    # -- the end of the process --------------------------------------------------------------------------------

    @rule(times=st.integers(0, 2), loops=st.booleans())
    def crash(self, times: int, loops: bool) -> None:
        """With or without load: what runs at every crash gets into the suspicion of causing them."""
        for _ in range(times):
            self.claim(AGENTS, 2)
            self.boot(crash=True)
        self.boot(crash=True)
        if loops:
            held = commit(self.conn, suspects.hold_suspects, self.now.wall + 1_000, self.now.wall)
            assert held == self.model.holds_back(self.now.wall + 1_000)

    @rule(data=st.data(), agent=st.sampled_from(AGENTS), outcome=OUTCOMES)
    def crash_inside_a_transaction(self, data: st.DataObject, agent: str, outcome: Outcome) -> None:
        """What was begun and not committed never happened."""
        torn: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
            (claiming.claim, (agent, 2, self.holder, self.now)),
            (submission.submit, (NewTask(kind="noop", payload={}), "never", BOUNDS, self.now.wall)),
            (upkeep.run_timers, (self.now.wall + 60_000,)),
            (upkeep.set_limits, ({"n1": 2}, {("default", "noop"): 3})),
        ]
        ends = [Ended(task.held.stored, outcome, 0.0, self.holder, self.now) for task in self.model.live() if task.held]
        if ends:
            torn.append((operations.settle_shared, (ends,)))
        function, args = data.draw(st.sampled_from(torn), label="torn")
        self.conn.execute("BEGIN IMMEDIATE")
        function(self.conn, *args)
        self.boot(crash=True)

    @rule()
    def drain_and_start_again(self) -> None:
        for task in self.model.live():
            assert task.held is not None
            commit(self.conn, operations.finish, task.held.stored, HandedBack(), 0.0, self.now.wall)
            self.stale.append(task.held.stored)
            self.model.settles(task, HandedBack())
        self.boot(crash=False)

    # -- what always holds -------------------------------------------------------------------------------------

    @invariant()
    def rows_are_what_the_model_says(self) -> None:
        rows = {row["id"]: row for row in self.conn.execute("SELECT * FROM task")}
        assert rows.keys() == self.model.tasks.keys()
        columns = ("state", "wait_reason", "attempt", "deaths", "lease_token", "error_code", "rank", "wake_at")
        for task in self.model.tasks.values():
            row = rows[task.id]
            token = task.held.task.lease_token if task.held else None
            told = (task.state, task.wait, task.attempt, task.deaths, token, task.code, task.rank, task.wake)
            assert tuple(row[column] for column in columns) == told, task
            assert row["fingerprint_count"] == task.repeats or row["finished_at"] is not None
            assert row["available_at"] == task.available or task.wait not in {"delay", "backoff"}

    @invariant()
    def the_laws_hold_and_every_row_is_explained(self) -> None:
        assert broken(self.conn, LANES) == []
        assert unexplained(self.conn) == []


@pytest.mark.spec("GC-STM-109", "GC-STM-201")
@pytest.mark.timeout(3_600 if LONG else 240)
def test_the_machine_keeps_to_its_model() -> None:
    profile = settings(
        max_examples=1_000 if LONG else 80,
        stateful_step_count=150 if LONG else 50,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    run_state_machine_as_test(TaskMachine, settings=profile)
