"""The task machine against a small model, over real files, with a crash between any two operations and inside one.

The model knows the rules only: it restates SPEC STM and QUE in a few lines each and knows nothing of tables. After each
step every row is compared with it, and the event log must explain every row.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
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

from goclaw.core.intake import complete
from goclaw.core.outcome import Canceled, Closing, Died, Failed, HandedBack, Outcome, Succeeded, Unknown
from goclaw.core.step import Effect, End, Intend, Start, StepState
from goclaw.core.task import TRANSITIONS, NewTask, TaskState
from goclaw.errors import Conflict, LeaseLost, Saturated
from goclaw.kernel import operations, upkeep
from goclaw.kernel.operations import Claimed, Holder, Now
from goclaw.store import events, steps, tasks
from goclaw.store.tasks import Stored
from tests.fakes_clock import START
from tests.scratch import commit, reopen, scratch

AGENTS = ("default", "other")
BOUNDS = {"default": 1_000, "other": 6}
LEASE_MS = 30_000
ENDED = {"SUCCEEDED", "FAILED", "CANCELED", "DEAD_LETTER"}
RESTING = ENDED - {"SUCCEEDED"}
LONG = os.environ.get("GOCLAW_HYPOTHESIS") == "long"


@dataclass
class Model:
    """What a task should look like."""

    id: str
    kind: str
    agent: str
    session: str | None
    priority: int
    order: int
    rank: int
    available: int
    deadline: int | None
    most: int
    parent: str | None
    state: str = "QUEUED"
    delayed: bool = False
    place: int | None = None
    attempt: int = 0
    deaths: int = 0
    mark: str | None = None
    repeats: int = 0
    asked: str | None = None
    code: str | None = None
    until: int = 0
    held: Claimed | None = None
    steps: dict[str, str] = field(default_factory=dict)

    @property
    def is_turn(self) -> bool:
        return self.kind == "chat"

    @property
    def begun(self) -> list[str]:
        return [key for key, state in self.steps.items() if state == "running"]

    @property
    def wake(self) -> int | None:
        """The instant a timer must look at it."""
        if self.state in ENDED or self.asked is not None:
            return None
        waits = self.delayed or self.state == "RETRY_WAIT"
        return min((at for at in (self.deadline, self.available if waits else None) if at is not None), default=None)


PAYLOADS: dict[str, dict[str, Any]] = {"noop": {}, "exec": {"argv": ["true"]}, "chat": {"content": "hi"}}
NEWS = st.builds(
    lambda kind, **fields: complete(NewTask(kind=kind, payload=PAYLOADS[kind], **fields)),
    kind=st.sampled_from(["noop", "noop", "exec", "chat", "chat"]),
    agent_id=st.sampled_from(["default", "other", None, None]),
    session_id=st.sampled_from(["s1", "s2", None]),
    idempotency_key=st.sampled_from([None, None, None, None, "k1", "k2"]),
    priority=st.sampled_from([0, 0, 1, -1, 10]),
    delay_ms=st.sampled_from([0, 0, 0, 400, 3_000]),
    deadline_ms=st.sampled_from([None, None, None, 500, 5_000]),
    max_attempts=st.integers(1, 4),
)


class TaskMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(
            tempfile.mkdtemp(prefix="goclaw-machine-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
        )
        self.boots = 1
        self.path = self.folder / "boot-1.db"
        self.conn = scratch(self.path)
        self.now = Now(START, 1_000)
        self.tasks: dict[str, Model] = {}
        self.keys: dict[str, tuple[NewTask, str]] = {}
        self.sessions: dict[str, str] = {}
        self.pauses: set[tuple[str, str]] = set()
        self.stale: list[Stored] = []
        self.places = 0
        self.serial = 0
        self.read = 0
        self.chains: dict[str, str] = {}
        self.last_token = 0

    def teardown(self) -> None:
        try:
            assert events.verify_chain(self.conn) is None
        finally:
            self.conn.close()
            shutil.rmtree(self.folder)

    # -- what the model says -----------------------------------------------------------------------------------

    @property
    def holder(self) -> Holder:
        return Holder(f"boot-{self.boots}", LEASE_MS, "policy-1")

    def live(self) -> list[Model]:
        return [task for task in self.tasks.values() if task.state == "RUNNING"]

    def head(self, session: str | None) -> Model | None:
        placed = [
            t for t in self.tasks.values() if t.session == session and t.place is not None and t.state not in ENDED
        ]
        return min(placed, key=lambda task: task.place or 0, default=None)

    def wait_of(self, task: Model) -> str | None:
        if task.state == "RETRY_WAIT":
            return "backoff"
        if task.state != "QUEUED":
            return None
        if task.delayed:
            return "delay"
        return "session" if task.is_turn and self.head(task.session) is not task else None

    def claimable(self) -> list[Model]:
        return [
            task
            for task in self.tasks.values()
            if task.state == "QUEUED"
            and self.wait_of(task) is None
            and not self.pauses & {("all", ""), ("agent", task.agent), ("kind", task.kind)}
        ]

    def next_for(self, agent: str) -> Model | None:
        live, ready = self.live(), sorted(self.claimable(), key=lambda task: (task.rank, task.order))
        if any(task.deaths >= 2 for task in live):
            return None
        suspects = [task for task in ready if task.deaths >= 2]
        if suspects:
            return suspects[0] if not live and suspects[0].agent == agent else None
        return next((task for task in ready if task.agent == agent), None)

    def ready_agents(self) -> set[str]:
        return {agent for agent in AGENTS if self.next_for(agent) is not None}

    def ends(self, task: Model, state: str, code: str | None = None) -> None:
        if state != "SUCCEEDED":
            task.steps |= dict.fromkeys(task.begun, "unknown")
        task.state, task.code, task.held, task.delayed = state, code, None, False

    def requeues(self, task: Model) -> None:
        task.state, task.held = "QUEUED", None

    def is_asked(self, task: Model) -> bool:
        if task.asked is not None:
            overdue = task.deadline is not None and task.deadline <= self.now.wall
            self.ends(task, "CANCELED", "DEADLINE" if task.asked == "DEADLINE" and overdue else "CANCELED")
            return True
        return False

    def fails(self, task: Model, code: str, text: str, permanent: bool, wait: int) -> None:
        mark = f"{code}/{text}"
        repeats = task.repeats + 1 if task.mark == mark else 1
        over = repeats >= 3 or task.attempt >= task.most
        rests = permanent or task.most == 1
        if not rests and not over and self.is_asked(task):
            return
        task.mark, task.repeats = mark, repeats
        if rests:
            self.ends(task, "FAILED", code)
        elif over:
            self.ends(task, "DEAD_LETTER", "POISON" if repeats >= 3 else code)
        else:
            self.requeues(task)
            task.state, task.code = "RETRY_WAIT", code
            task.available = self.now.wall + max(min(30_000, 1_000 * 2 ** (task.attempt - 1)), wait)

    def settles(self, task: Model, outcome: Outcome) -> None:  # noqa: C901 (one case for each outcome)
        for entry in outcome.closing.entries if isinstance(outcome, Failed) else ():
            assert isinstance(entry, End)
            task.steps[entry.key] = entry.state.value
        if task.kind == "exec" and task.begun and not isinstance(outcome, Succeeded | Canceled):
            outcome = Unknown("begun")
        match outcome:
            case Succeeded():
                self.ends(task, "SUCCEEDED")
            case Canceled():
                self.ends(task, "CANCELED", outcome.code)
            case Unknown():
                if not self.is_asked(task):
                    self.ends(task, "FAILED", "OUTCOME_UNKNOWN")
            case Failed():
                self.fails(task, outcome.code, outcome.message, outcome.permanent, outcome.retry_after_ms)
            case HandedBack():
                if not self.is_asked(task):
                    self.requeues(task)
                    task.attempt -= 1
            case Died():
                if task.attempt >= task.most:
                    self.fails(task, "LEASE_LOST", "the lease ran out while this was running", False, 0)
                elif not self.is_asked(task):
                    self.requeues(task)
                    task.code, task.mark, task.repeats = None, None, 0

    def recovers(self, task: Model) -> None:
        if self.is_asked(task):
            return
        if task.deadline is not None and task.deadline <= self.now.wall:
            self.ends(task, "CANCELED", "DEADLINE")
        elif task.kind == "exec" and task.begun:
            self.ends(task, "FAILED", "OUTCOME_UNKNOWN")
        else:
            task.deaths += 1
            if task.deaths >= 3:
                self.ends(task, "DEAD_LETTER", "POISON")
            else:
                self.requeues(task)
                task.attempt, task.code = task.attempt - 1, None

    # -- how a step is done ------------------------------------------------------------------------------------

    def pick(self, data: st.DataObject, among: Iterable[Model], label: str = "task") -> Model:
        return self.tasks[data.draw(st.sampled_from([task.id for task in among]), label=label)]

    def rings(self, before: set[str], ready: Iterable[str], but: str | None = None) -> None:
        """Whoever has work that he had not before was told of it."""
        fresh = self.ready_agents() - before - {but}
        assert "*" in ready or fresh <= set(ready), f"nobody told {fresh - set(ready)}"

    def boot(self, crash: bool) -> None:
        """Reopen the file: as a crash leaves it, the bytes written so far and nothing more, or after a clean close."""
        old, self.boots = self.path, self.boots + 1
        self.path = self.folder / f"boot-{self.boots}.db"
        if crash:
            for suffix in ("", "-wal"):
                if old.with_name(old.name + suffix).exists():
                    shutil.copyfile(old.with_name(old.name + suffix), self.path.with_name(self.path.name + suffix))
            self.conn.close()
        else:
            self.conn.close()
            old.rename(self.path)
        self.conn = reopen(self.path)
        self.now = Now(self.now.wall + 50, 5)
        self.stale += [task.held.stored for task in self.live() if task.held is not None]
        expected = self.live()
        for task in expected:
            self.recovers(task)
        judged = commit(self.conn, upkeep.recover_all, f"boot-{self.boots}", self.now.wall)
        assert {task.id: state.value for task, state in judged} == {task.id: task.state for task in expected}

    # -- the steps ---------------------------------------------------------------------------------------------

    @initialize(news=st.lists(NEWS, min_size=3, max_size=8))
    def first(self, news: list[NewTask]) -> None:
        assert commit(self.conn, upkeep.recover_all, "boot-1", self.now.wall) == []
        for new in news:
            self.submit(new, None)

    @rule(new=NEWS, child=st.none() | st.integers(0, 50))
    def submit(self, new: NewTask, child: int | None) -> None:
        if child is not None and self.tasks:
            new = replace(new, parent_task_id=list(self.tasks)[child % len(self.tasks)])
        key, task_id = new.idempotency_key, f"task-{self.serial + 1}"
        self.serial += 1
        if key is not None and key in self.keys and self.keys[key][0] == new:
            known = commit(self.conn, operations.submit, new, task_id, BOUNDS, self.now.wall)
            assert known.known
            assert known.task.id == self.keys[key][1]
            return
        wanted = new.agent_id or self.sessions.get(new.session_id or "", "default")
        refusal = self._refusal(new, wanted)
        if refusal is not None:
            head = events.head(self.conn)
            with pytest.raises(refusal):
                commit(self.conn, operations.submit, new, task_id, BOUNDS, self.now.wall)
            assert events.head(self.conn) == head
            return
        before = self.ready_agents()
        done = commit(self.conn, operations.submit, new, task_id, BOUNDS, self.now.wall)
        assert not done.known
        self._submitted(new, task_id, wanted)
        if key is not None:
            self.keys[key] = (new, task_id)
        self.rings(before, {wanted} if done.task.wait_reason is None else ())

    def _refusal(self, new: NewTask, agent: str) -> type[Exception] | None:
        if new.idempotency_key is not None and new.idempotency_key in self.keys:
            return Conflict
        if new.kind == "chat" and self.sessions.get(new.session_id or "", agent) != agent:
            return Conflict
        queued = sum(task.agent == agent and task.state == "QUEUED" for task in self.tasks.values())
        if new.parent_task_id is None and queued >= BOUNDS[agent]:
            return Saturated
        above = self.tasks.get(new.parent_task_id or "")
        while above is not None:
            if new.session_id is not None and above.session == new.session_id:
                return Conflict
            above = self.tasks.get(above.parent or "")
        return None

    def _submitted(self, new: NewTask, task_id: str, agent: str) -> None:
        session = new.session_id or (task_id if new.kind == "chat" else None)
        if session is not None:
            self.sessions.setdefault(session, agent)
        due = self.now.wall + new.delay_ms
        self.tasks[task_id] = task = Model(
            id=task_id,
            kind=new.kind,
            agent=agent,
            session=session,
            priority=new.priority,
            order=self.serial,
            rank=due - 30_000 * new.priority,
            available=due,
            deadline=None if new.deadline_ms is None else self.now.wall + new.deadline_ms,
            most=new.max_attempts,
            parent=new.parent_task_id,
            delayed=new.delay_ms > 0,
        )
        if task.is_turn and not task.delayed:
            self.take_place(task)

    def take_place(self, task: Model) -> None:
        self.places += 1
        task.place = self.places

    def is_claimed(self, claimed: Claimed, expected: Model) -> None:
        assert claimed.task.id == expected.id, "claim order"
        expected.state, expected.held, expected.attempt = "RUNNING", claimed, expected.attempt + 1
        expected.until = self.now.monotonic + LEASE_MS
        assert {key: step.state.value for key, step in claimed.steps.items()} == expected.steps

    @rule(agent=st.sampled_from(AGENTS), limit=st.integers(1, 3))
    def claim(self, agent: str, limit: int) -> None:
        found = commit(self.conn, operations.claim, agent, limit, self.holder, AGENTS, self.now)
        for claimed in found:
            expected = self.next_for(agent)
            assert expected is not None
            self.is_claimed(claimed, expected)
        assert len(found) == limit or self.next_for(agent) is None

    OUTCOMES = st.sampled_from(
        [
            Succeeded({"n": 1}),
            Succeeded({"n": 1}),
            Failed("E", "one"),
            Failed("E", "one"),
            Failed("E", "one"),
            Failed("E", "two", retry_after_ms=4_000),
            Failed("E", "one", permanent=True),
            Unknown("who knows"),
            Canceled(),
            HandedBack(),
            Died(lease_lost=True),
        ]
    )

    def _outcome(self, task: Model, outcome: Outcome, known_end: bool) -> Outcome:
        if isinstance(outcome, Failed) and known_end:
            return replace(outcome, closing=Closing(tuple(End(key, StepState.FAILED) for key in task.begun)))
        return outcome

    @precondition(lambda self: self.live())
    @rule(data=st.data(), outcome=OUTCOMES, known_end=st.booleans())
    def settle(self, data: st.DataObject, outcome: Outcome, known_end: bool) -> None:
        task = self.pick(data, self.live())
        before, held = self.ready_agents(), task.held
        assert held is not None
        outcome = self._outcome(task, outcome, known_end)
        done, ready = commit(self.conn, operations.finish, held.stored, outcome, 0.0, self.now.wall)
        self.settles(task, outcome)
        self.stale.append(held.stored)
        assert done.task.state == task.state
        self.rings(before, ready)

    @precondition(lambda self: self.live())
    @rule(data=st.data(), outcome=OUTCOMES)
    def settle_and_claim(self, data: st.DataObject, outcome: Outcome) -> None:
        task = self.pick(data, self.live())
        before, held = self.ready_agents(), task.held
        assert held is not None
        _, ready, following = commit(
            self.conn, operations.finish_and_claim, held.stored, outcome, 0.0, self.holder, AGENTS, self.now
        )
        self.settles(task, outcome)
        self.stale.append(held.stored)
        expected = self.next_for(task.agent)
        assert (following is None) == (expected is None)
        if following is not None and expected is not None:
            self.is_claimed(following, expected)
        self.rings(before, ready, but=task.agent)

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

    @precondition(lambda self: any(task.kind != "noop" for task in self.live()))
    @rule(data=st.data(), running=st.booleans())
    def journal(self, data: st.DataObject, running: bool) -> None:
        task = self.pick(data, [task for task in self.live() if task.kind != "noop"])
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

    @precondition(lambda self: self.tasks)
    @rule(data=st.data(), reason=st.sampled_from([None, "enough", "DEADLINE"]))
    def cancel(self, data: st.DataObject, reason: str | None) -> None:
        task = self.pick(data, self.tasks.values())
        before = self.ready_agents()
        done, ready = commit(self.conn, operations.ask_cancel, task.id, reason, self.now.wall)
        if task.state == "RUNNING":
            task.asked = reason or "asked"
        elif task.state not in ENDED:
            self.ends(task, "CANCELED", "CANCELED")
        assert done.task.state == task.state
        self.rings(before, ready)

    @precondition(lambda self: any(task.state in RESTING for task in self.tasks.values()))
    @rule(data=st.data())
    def redrive(self, data: st.DataObject) -> None:
        task = self.pick(data, [task for task in self.tasks.values() if task.state in RESTING])
        before = self.ready_agents()
        if "unknown" in task.steps.values():
            with pytest.raises(Conflict, match=r"task\.resolve"):
                commit(self.conn, upkeep.ask_redrive, task.id, self.now.wall)
            return
        _, ready = commit(self.conn, upkeep.ask_redrive, task.id, self.now.wall)
        self.requeues(task)
        task.attempt, task.deaths, task.mark, task.repeats = 0, 0, None, 0
        task.code, task.asked, task.delayed = None, None, False
        task.rank, task.available = self.now.wall - 30_000 * task.priority, self.now.wall
        if task.deadline is not None and task.deadline <= self.now.wall:
            task.deadline = None
        if task.is_turn:
            self.take_place(task)
        self.rings(before, ready)

    @precondition(lambda self: any("unknown" in t.steps.values() and t.state in RESTING for t in self.tasks.values()))
    @rule(data=st.data(), happened=st.booleans())
    def resolve(self, data: st.DataObject, happened: bool) -> None:
        unclear = [t for t in self.tasks.values() if "unknown" in t.steps.values() and t.state in RESTING]
        task = self.pick(data, unclear)
        listed = [step for step in steps.listed(self.conn, task.id) if step["state"] == "unknown"]
        commit(self.conn, upkeep.settle_step, task.id, listed[0]["id"], happened, {"said": 1}, self.now.wall)
        task.steps[listed[0]["key"]] = "done" if happened else "intended"

    @precondition(lambda self: any(t.state in {"QUEUED", "RETRY_WAIT", "SUCCEEDED"} for t in self.tasks.values()))
    @rule(data=st.data())
    def redrive_what_does_not_rest(self, data: st.DataObject) -> None:
        task = self.pick(data, [t for t in self.tasks.values() if t.state not in RESTING])
        with pytest.raises(Conflict):
            commit(self.conn, upkeep.ask_redrive, task.id, self.now.wall)

    @rule(ms=st.sampled_from([1, 400, 1_000, 2_500, 10_000]))
    def time_passes(self, ms: int) -> None:
        self.now = Now(self.now.wall + ms, self.now.monotonic + ms)
        before = self.ready_agents()
        done = commit(self.conn, upkeep.run_timers, self.now.wall)
        due = [task for task in self.tasks.values() if task.wake is not None and task.wake <= self.now.wall]
        for task in sorted(due, key=lambda task: (task.wake or 0, task.order)):
            if task.deadline is not None and task.deadline <= self.now.wall:
                if task.state == "RUNNING":
                    task.asked = "DEADLINE"
                else:
                    self.ends(task, "CANCELED", "DEADLINE")
            elif task.state == "RETRY_WAIT":
                self.requeues(task)
                task.available = self.now.wall
            else:
                task.delayed = False
                if task.is_turn:
                    self.take_place(task)
        assert len(done.overdue) == sum(task.asked == "DEADLINE" and task.state == "RUNNING" for task in due)
        assert done.next_wake == min((t.wake for t in self.tasks.values() if t.wake is not None), default=None)
        self.rings(before, done.ready)

    @precondition(lambda self: self.live())
    @rule()
    def heartbeat(self) -> None:
        tokens = {task.held.task.lease_token or 0: task for task in self.live() if task.held}
        clocks = (self.now.monotonic, self.now.wall)
        expired = commit(self.conn, tasks.renew, self.holder.boot_id, list(tokens), clocks, LEASE_MS)
        assert set(expired) == {token for token, task in tokens.items() if task.until < self.now.monotonic}
        for token, task in tokens.items():
            if token not in expired:
                task.until = self.now.monotonic + LEASE_MS

    @rule(scope=st.sampled_from([("all", ""), ("agent", "other"), ("kind", "chat")]))
    def pause_or_resume(self, scope: tuple[str, str]) -> None:
        operation = upkeep.resume if scope in self.pauses else upkeep.pause
        commit(self.conn, operation, *scope, self.now.wall)
        self.pauses ^= {scope}

    @rule()
    def crash(self) -> None:
        self.boot(crash=True)

    @rule(times=st.integers(1, 2))
    def crash_under_load(self, times: int) -> None:
        """What runs at every crash gets into the suspicion of causing them."""
        for _ in range(times):
            for agent in AGENTS:
                self.claim(agent, 2)
            self.boot(crash=True)

    @rule(data=st.data(), agent=st.sampled_from(AGENTS), outcome=OUTCOMES)
    def crash_inside_a_transaction(self, data: st.DataObject, agent: str, outcome: Outcome) -> None:
        """What was begun and not committed never happened."""
        torn: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
            (operations.claim, (agent, 2, self.holder, AGENTS, self.now)),
            (operations.submit, (NewTask(kind="noop", payload={}), "never", BOUNDS, self.now.wall)),
            (upkeep.run_timers, (self.now.wall + 60_000,)),
        ]
        if self.live():
            held = self.pick(data, self.live()).held
            assert held is not None
            torn.append((operations.finish, (held.stored, outcome, 0.0, self.now.wall)))
        function, args = data.draw(st.sampled_from(torn), label="torn")
        self.conn.execute("BEGIN IMMEDIATE")
        function(self.conn, *args)
        self.boot(crash=True)

    @rule()
    def drain_and_start_again(self) -> None:
        for task in self.live():
            assert task.held is not None
            commit(self.conn, operations.finish, task.held.stored, HandedBack(), 0.0, self.now.wall)
            self.stale.append(task.held.stored)
            self.settles(task, HandedBack())
        self.boot(crash=False)

    # -- what always holds -------------------------------------------------------------------------------------

    @invariant()
    def rows_are_what_the_model_says(self) -> None:
        rows = {row["id"]: row for row in self.conn.execute("SELECT * FROM task")}
        assert rows.keys() == self.tasks.keys()
        for task in self.tasks.values():
            row = rows[task.id]
            token = task.held.task.lease_token if task.held else None
            seen = (
                row["state"],
                row["wait_reason"],
                row["attempt"],
                row["deaths"],
                row["lease_token"],
                row["error_code"],
            )
            assert seen == (task.state, self.wait_of(task), task.attempt, task.deaths, token, task.code), task
            assert row["fingerprint_count"] == task.repeats or task.state in ENDED
            assert row["available_at"] == task.available or not (task.delayed or task.state == "RETRY_WAIT")
            assert (row["finished_at"] is not None) == (task.state in ENDED)
            assert row["rank"] == task.rank
            assert row["wake_at"] == task.wake
        depth: dict[str, int] = dict.fromkeys(AGENTS, 0)
        for task in self.tasks.values():
            depth[task.agent] += task.state == "QUEUED"
        assert depth | tasks.depths(self.conn) == depth, "the trigger counts as well as we do"

    @invariant()
    def every_row_is_explained_by_its_events(self) -> None:
        for event in iter(lambda: events.read_after(self.conn, self.read), []):
            for one in event:
                assert one.event_id == self.read + 1
                self.read = one.event_id
                self._explain(one)
        assert self.chains == {task.id: task.state for task in self.tasks.values()}

    def _explain(self, event: Any) -> None:
        if event.event_type == "task.claimed":
            token = int(event.run_id.rpartition(".")[2])
            assert token > self.last_token, "a fencing token rises and is never given again"
            self.last_token = token
        if event.state_to is None:
            return
        came_from = self.chains.get(event.task_id)
        assert event.state_from == came_from, "each event begins where the one before ended"
        assert TaskState(event.state_to) in TRANSITIONS[TaskState(came_from) if came_from else None]
        self.chains[event.task_id] = event.state_to

    @invariant()
    def a_session_has_one_turn_at_a_time_and_in_order(self) -> None:
        rows = self.conn.execute(
            "SELECT session_key, place, state, wait_reason FROM task WHERE place IS NOT NULL AND finished_at IS NULL"
            " ORDER BY session_key, place"
        ).fetchall()
        for before, row in zip([None, *rows], rows, strict=False):
            if before is not None and before["session_key"] == row["session_key"]:
                assert (row["state"], row["wait_reason"]) == ("QUEUED", "session")


@pytest.mark.spec("GC-STM-109")
@pytest.mark.timeout(3_600 if LONG else 120)
def test_the_machine_keeps_to_its_model() -> None:
    profile = settings(
        max_examples=1_000 if LONG else 80,
        stateful_step_count=150 if LONG else 50,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
        report_multiple_bugs=False,
    )
    run_state_machine_as_test(TaskMachine, settings=profile)
