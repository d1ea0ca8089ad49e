"""Submit, claim, settle, cancel: the transactions one by one."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from typing import Any

import pytest

from goclaw.core.chat import NewMessage, Text
from goclaw.core.event import Event
from goclaw.core.intake import chat_task
from goclaw.core.outcome import Canceled, Closing, Died, Failed, HandedBack, Outcome, Succeeded
from goclaw.core.step import Effect, End, Intend, StepState
from goclaw.core.task import NewTask, Task, TaskState
from goclaw.errors import BadRequest, Conflict, JournalMismatch, LeaseLost, NotFound, Saturated, TooLarge
from goclaw.kernel import claiming, operations, submission, upkeep
from goclaw.kernel.claiming import Claimed
from goclaw.kernel.operations import Ended
from goclaw.store import events, sessions, steps, tasks
from tests.fakes_clock import START
from tests.scratch import BOUNDS, HOLDER, at, commit, noop

BOTH = ("default", "other")
UNSAFE = Intend(key="u", kind="tool", request={}, request_hash="h", tool="exec", effect=Effect.UNSAFE, running=True)


def submit(conn: sqlite3.Connection, task_id: str, new: NewTask | None = None, now: int = 0, **fields: Any) -> Task:
    new = new or noop(**fields)
    return commit(conn, submission.submit, new, task_id, BOUNDS, START + now).task


def exec_task(**fields: Any) -> NewTask:
    return NewTask(kind="exec", payload={"argv": ["true"]}, **fields)


def chat(session: str | None = "s", **fields: Any) -> NewTask:
    return chat_task("hi", agent_id=fields.pop("agent_id", None), session_id=session, **fields)


def claim(conn: sqlite3.Connection, agent: str = "default", limit: int = 100, now: int = 0) -> list[Claimed]:
    return commit(conn, claiming.claim, agent, limit, HOLDER, at(now))


def claim_one(conn: sqlite3.Connection, agent: str = "default", now: int = 0) -> Claimed:
    (claimed,) = claim(conn, agent, 1, now)
    return claimed


def finish(conn: sqlite3.Connection, claimed: Claimed, outcome: Outcome, now: int = 0) -> tuple[Task, frozenset[str]]:
    done, ready = commit(conn, operations.finish, claimed.stored, outcome, 0.0, START + now)
    return done.task, ready


def story(conn: sqlite3.Connection, task_id: str) -> list[str]:
    return [event.event_type for event in events.read_task(conn, task_id, 0)]


def last(conn: sqlite3.Connection, task_id: str) -> Event:
    return events.read_task(conn, task_id, 0)[-1]


# -- submit --------------------------------------------------------------------------------------------------------


@pytest.mark.spec("GC-QUE-107")
def test_a_noop_leaves_exactly_four_events(conn: sqlite3.Connection) -> None:
    submit(conn, "a")
    finish(conn, claim_one(conn), Succeeded(1))
    told = events.read_after(conn, 0)
    assert [(event.event_type, event.state_from, event.state_to) for event in told] == [
        ("task.enqueued", None, "QUEUED"),
        ("task.claimed", "QUEUED", "CLAIMED"),
        ("task.running", "CLAIMED", "RUNNING"),
        ("task.succeeded", "RUNNING", "SUCCEEDED"),
    ]
    assert [event.run_id for event in told] == [None, "a.2", "a.2", "a.2"]


REFUSED: list[tuple[NewTask, type[Exception]]] = [
    (NewTask(kind="none", payload={}), BadRequest),
    (noop(payload={"x": 1}), BadRequest),
    (noop(payload={"result": "x" * 2_000_000}), TooLarge),
    (noop(agent_id="nobody"), NotFound),
    (noop(parent_task_id="nobody"), NotFound),
    (noop(idempotency_key="k", priority=1), Conflict),
    (chat("s", agent_id="other"), Conflict),
    (noop(session_id="s", parent_task_id="first"), Conflict),
    (noop(session_id="s", parent_task_id="child"), Conflict),
]


@pytest.mark.spec("GC-QUE-102")
@pytest.mark.parametrize(("new", "error"), REFUSED)
def test_a_refused_submit_stores_nothing(conn: sqlite3.Connection, new: NewTask, error: type[Exception]) -> None:
    submit(conn, "first", noop(idempotency_key="k", session_id="s"))
    submit(conn, "child", noop(parent_task_id="first"))
    before = list(conn.iterdump())
    with pytest.raises(error):
        submit(conn, "second", new)
    assert list(conn.iterdump()) == before


@pytest.mark.spec("GC-QUE-104")
def test_a_known_key_answers_its_task_in_any_state(conn: sqlite3.Connection) -> None:
    new = noop(idempotency_key="k", payload={"result": 1})
    submit(conn, "a", new)

    def again() -> submission.Submitted:
        return commit(conn, submission.submit, new, "b", BOUNDS, START + 1)

    assert (again().known, again().task.id, again().task.state) == (True, "a", TaskState.QUEUED)
    claimed = claim_one(conn)
    assert (again().known, again().task.state) == (True, TaskState.RUNNING)
    finish(conn, claimed, Succeeded(1))
    assert (again().known, again().task.state) == (True, TaskState.SUCCEEDED)
    assert story(conn, "a")[0] == "task.enqueued"
    assert tasks.by_id(conn, "b") is None


@pytest.mark.spec("GC-QUE-108")
def test_a_full_queue_refuses_but_a_known_key_a_child_and_a_redrive_are_let_in(conn: sqlite3.Connection) -> None:
    bounds = {"default": 2, "other": 2}

    def put(task_id: str, new: NewTask) -> submission.Submitted:
        return commit(conn, submission.submit, new, task_id, bounds, START)

    put("a", noop(idempotency_key="k"))
    finish(conn, claim_one(conn), Canceled())
    put("b", noop())
    put("c", noop(delay_ms=1_000))
    with pytest.raises(Saturated) as full:
        put("d", noop())
    assert full.value.retryable
    assert put("d", noop(idempotency_key="k")).known
    put("e", noop(agent_id="other"))
    put("f", noop(parent_task_id="b"))
    commit(conn, upkeep.ask_redrive, "a", START)
    assert tasks.depth(conn, "default") == 4


@pytest.mark.spec("GC-QUE-109")
def test_many_are_taken_together_or_not_at_all(conn: sqlite3.Connection) -> None:
    good = [(noop(), f"t{n}") for n in range(3)]
    done = commit(conn, submission.submit_many, good, BOUNDS, START)
    assert [one.task.id for one in done] == ["t0", "t1", "t2"]
    before = list(conn.iterdump())
    with pytest.raises(BadRequest):
        commit(conn, submission.submit_many, [(noop(), "t3"), (noop(priority=99), "t4")], BOUNDS, START)
    assert list(conn.iterdump()) == before


def test_a_turn_without_a_session_gets_one_of_its_own_and_other_kinds_have_none(conn: sqlite3.Connection) -> None:
    assert submit(conn, "a", chat(None)).session_id == "a"
    assert submit(conn, "b").session_id is None


def test_the_agent_is_the_one_named_else_that_of_the_session_else_the_default(conn: sqlite3.Connection) -> None:
    assert submit(conn, "a", chat("s", agent_id="other")).agent_id == "other"
    assert submit(conn, "b", chat("s")).agent_id == "other"
    assert submit(conn, "c", noop(session_id="s")).agent_id == "other"
    assert submit(conn, "d", noop(session_id="s", agent_id="default")).agent_id == "default"
    assert submit(conn, "e").agent_id == "default"


def test_a_turn_is_stored_with_its_message(conn: sqlite3.Connection) -> None:
    submit(conn, "a", chat("s"))
    session = sessions.find(conn, "s")
    assert session is not None
    assert [item["text"] for item in sessions.history(conn, session.key, 10, None)] == ["hi"]
    assert story(conn, "a") == ["task.enqueued", "message.added"]


# -- claim ---------------------------------------------------------------------------------------------------------


@pytest.mark.spec("GC-QUE-101")
def test_the_claim_goes_by_due_instant_less_thirty_seconds_a_priority_then_by_submission(
    conn: sqlite3.Connection,
) -> None:
    submit(conn, "plain", now=0)
    submit(conn, "low", noop(priority=-1), now=1)
    submit(conn, "late", now=10_000)
    submit(conn, "high", noop(priority=1), now=20_000)
    submit(conn, "late too", now=10_000)
    submit(conn, "very late", noop(priority=1), now=35_000)
    order = [claimed.task.id for claimed in claim(conn, now=40_000)]
    assert order == ["high", "plain", "very late", "late", "late too", "low"]


@pytest.mark.spec("GC-QUE-110")
def test_each_agent_has_a_queue_of_its_own(conn: sqlite3.Connection) -> None:
    for n in range(5):
        submit(conn, f"flood {n}")
    submit(conn, "quiet", noop(agent_id="other"))
    assert [claimed.task.id for claimed in claim(conn, "other")] == ["quiet"]
    assert len(claim(conn, limit=3)) == 3
    assert len(claim(conn, limit=3)) == 2
    assert claim(conn) == []


def test_a_claim_writes_the_lease_and_charges_the_attempt(conn: sqlite3.Connection) -> None:
    submit(conn, "a")
    task = claim_one(conn, now=100).task
    assert (task.state, task.attempt, task.lease_owner, task.lease_token) == (TaskState.RUNNING, 1, "boot-1", 2)
    assert (task.lease_expires_at, task.policy_version) == (START + 30_100, "policy-1")
    assert task.run_id == "a.2"


@pytest.mark.spec("GC-QUE-111")
def test_a_fencing_token_is_new_at_every_claim(conn: sqlite3.Connection) -> None:
    submit(conn, "a", noop(max_attempts=9))
    tokens = []
    for _ in range(5):
        claimed = claim_one(conn)
        tokens.append(claimed.task.lease_token or 0)
        finish(conn, claimed, HandedBack())
    assert tokens == sorted(set(tokens))


@pytest.mark.spec("GC-QUE-112")
def test_delayed_tasks_are_not_claimed_before_their_time(conn: sqlite3.Connection) -> None:
    task = submit(conn, "a", noop(delay_ms=500))
    assert (task.state, task.wait_reason, task.available_at) == (TaskState.QUEUED, "delay", START + 500)
    assert claim(conn, now=600) == []
    done = commit(conn, upkeep.run_timers, START + 499)
    assert (done.ready, done.next_wake) == (frozenset(), START + 500)
    done = commit(conn, upkeep.run_timers, START + 500)
    assert (done.ready, done.next_wake) == (frozenset({"default"}), None)
    assert claim_one(conn).task.id == "a"


@pytest.mark.spec("GC-QUE-113")
@pytest.mark.parametrize("scope", [("all", ""), ("agent", "default"), ("kind", "noop")])
def test_a_pause_holds_the_claim_and_nothing_else(conn: sqlite3.Connection, scope: tuple[str, str]) -> None:
    submit(conn, "a")
    submit(conn, "other agent, other kind", exec_task(agent_id="other"))
    commit(conn, upkeep.pause, *scope, START)
    assert claim(conn) == []
    assert len(claim(conn, "other")) == (0 if scope == ("all", "") else 1)
    submit(conn, "b")
    commit(conn, upkeep.resume, *scope, START)
    commit(conn, upkeep.resume, *scope, START)
    assert [claimed.task.id for claimed in claim(conn)] == ["a", "b"]
    told = [event.event_type for event in events.read_after(conn, 0) if event.event_type.startswith("system.")]
    assert told == ["system.paused", "system.resumed"]


def die(conn: sqlite3.Connection, task_id: str, times: int) -> None:
    conn.execute("UPDATE task SET deaths = ? WHERE id = ?", (times, task_id))


@pytest.mark.spec("GC-QUE-114")
def test_a_task_with_two_deaths_runs_next_and_alone(conn: sqlite3.Connection) -> None:
    for name in ("a", "b", "suspect"):
        submit(conn, name, noop(agent_id="other" if name == "suspect" else None))
    busy = claim_one(conn)
    die(conn, "suspect", 2)
    assert claim(conn) == claim(conn, "other") == [], "it is next, and waits for what runs"
    done, ready = finish(conn, busy, Succeeded())
    assert "*" in ready, "its lane is another one than that which just became free"
    assert claim(conn) == []
    alone = claim(conn, "other")
    assert [claimed.task.id for claimed in alone] == ["suspect"]
    assert claim(conn) == [], "and alone"
    _, ready = finish(conn, alone[0], Succeeded())
    assert "*" in ready
    assert [claimed.task.id for claimed in claim(conn)] == ["b"]
    assert done.id == "a"


def test_two_suspects_run_one_after_the_other(conn: sqlite3.Connection) -> None:
    for name in ("a", "b"):
        submit(conn, name)
        die(conn, name, 2)
    assert [claimed.task.id for claimed in claim(conn)] == ["a"]
    assert claim(conn) == []


@pytest.mark.spec("GC-QUE-114")
@pytest.mark.parametrize("hold", ["pause", "unserved", "delay"])
def test_a_suspect_that_cannot_run_holds_nobody_up(conn: sqlite3.Connection, hold: str) -> None:
    submit(conn, "suspect", exec_task(agent_id="other", delay_ms=500 if hold == "delay" else 0))
    submit(conn, "a")
    die(conn, "suspect", 2)
    if hold == "pause":
        commit(conn, upkeep.pause, "kind", "exec", START)
    lanes = {"default": 1_000} if hold == "unserved" else HOLDER.lanes
    found = commit(conn, claiming.claim, "default", 9, replace(HOLDER, lanes=lanes), at())
    assert [claimed.task.id for claimed in found] == ["a"]


# -- sessions ------------------------------------------------------------------------------------------------------


@pytest.mark.spec("GC-QUE-115")
def test_a_session_has_one_turn_at_a_time_in_submission_order(conn: sqlite3.Connection) -> None:
    for name in ("one", "two", "three"):
        submit(conn, name, chat("s"))
    submit(conn, "elsewhere", chat("t"))
    submit(conn, "beside", noop(session_id="s"))
    assert tasks.by_id(conn, "two").task.wait_reason == "session"  # type: ignore[union-attr]
    first, elsewhere, beside = claim(conn)
    assert [first.task.id, elsewhere.task.id, beside.task.id] == ["one", "elsewhere", "beside"]
    _, ready = finish(conn, first, Succeeded())
    assert ready == {"default"}
    assert [claimed.task.id for claimed in claim(conn)] == ["two"]


@pytest.mark.spec("GC-QUE-115")
def test_a_head_holds_its_session_while_it_waits(conn: sqlite3.Connection) -> None:
    submit(conn, "one", chat("s"))
    submit(conn, "two", chat("s"))
    task, ready = finish(conn, claim_one(conn), Failed("E", "x"))
    assert (task.state, ready) == (TaskState.RETRY_WAIT, frozenset())
    assert claim(conn) == []
    commit(conn, upkeep.run_timers, START + 1_000)
    assert claim_one(conn).task.id == "one"


@pytest.mark.parametrize("end", [Succeeded(), Failed("E", "x", permanent=True), Canceled()])
def test_any_end_of_a_head_lets_the_next_turn_go(conn: sqlite3.Connection, end: Outcome) -> None:
    submit(conn, "one", chat("s"))
    submit(conn, "two", chat("s"))
    finish(conn, claim_one(conn), end)
    assert claim_one(conn).task.id == "two"


def test_a_waiting_turn_that_is_canceled_leaves_the_line(conn: sqlite3.Connection) -> None:
    for name in ("one", "two", "three"):
        submit(conn, name, chat("s"))
    head = claim_one(conn)
    commit(conn, operations.ask_cancel, "two", None, START)
    assert claim(conn) == []
    finish(conn, head, Succeeded())
    assert claim_one(conn).task.id == "three"


@pytest.mark.spec("GC-QUE-115")
def test_a_delayed_turn_takes_its_place_when_its_delay_is_over(conn: sqlite3.Connection) -> None:
    submit(conn, "delayed", NewTask(kind="chat", payload={"content": "x"}, session_id="s", delay_ms=500))
    submit(conn, "prompt", chat("s"))
    assert claim_one(conn).task.id == "prompt"
    assert commit(conn, upkeep.run_timers, START + 500).ready == frozenset()
    assert tasks.by_id(conn, "delayed").task.wait_reason == "session"  # type: ignore[union-attr]
    submit(conn, "later", chat("s"))
    commit(conn, operations.ask_cancel, "prompt", None, START)
    (held,) = [stored for stored in [tasks.by_id(conn, "prompt")] if stored]
    commit(conn, operations.finish, held, Canceled(), 0.0, START)
    assert claim_one(conn).task.id == "delayed"


# -- settle --------------------------------------------------------------------------------------------------------


@pytest.mark.spec("GC-STM-104")
def test_attempts_used_up_is_failed_and_dead_letter_in_one_commit(conn: sqlite3.Connection) -> None:
    submit(conn, "a", noop(max_attempts=2))
    for n in range(2):
        finish(conn, claim_one(conn), Failed("E", f"failure {n}"))
        commit(conn, upkeep.run_timers, START + 60_000)
    assert story(conn, "a") == [
        "task.enqueued",
        "task.claimed",
        "task.running",
        "task.retry_wait",
        "task.requeued",
        "task.claimed",
        "task.running",
        "task.failed",
        "task.dead_letter",
    ]
    failed, dead = events.read_task(conn, "a", 0)[-2:]
    assert (failed.state_from, failed.state_to) == ("RUNNING", "FAILED")
    assert (dead.state_from, dead.state_to, dead.event_id) == ("FAILED", "DEAD_LETTER", failed.event_id + 1)
    assert tasks.counts(conn)["dead_letters"] == 1


@pytest.mark.spec("GC-STM-110")
def test_a_stale_attempt_changes_nothing(conn: sqlite3.Connection) -> None:
    submit(conn, "a", noop(max_attempts=9))
    stale = claim_one(conn)
    finish(conn, stale, HandedBack())
    live = claim_one(conn)
    before = list(conn.iterdump())
    message = NewMessage(role="assistant", blocks=(Text("I was late"),))
    late = Succeeded(1, closing=Closing((End("u", StepState.DONE),), (message,)))
    task, ready = finish(conn, stale, late)
    assert (task.state, task.lease_token, ready) == (TaskState.RUNNING, live.task.lease_token, frozenset())
    for write, args in (
        (operations.record, ([UNSAFE], START)),
        (operations.report_progress, ({"done": 1}, START)),
    ):
        with pytest.raises(LeaseLost):
            commit(conn, write, stale.stored, *args)
    assert list(conn.iterdump()) == before


def test_what_an_attempt_closes_is_in_the_commit_that_settles_it(conn: sqlite3.Connection) -> None:
    submit(conn, "a", chat("s"))
    claimed = claim_one(conn)
    commit(conn, operations.record, claimed.stored, [UNSAFE], START)
    message = NewMessage(role="assistant", blocks=(Text("done"),))
    closing = Closing((End("u", StepState.DONE, {"exit": 0}),), (message,))
    task, _ = finish(conn, claimed, Succeeded({"text": "done"}, {"input": 3}, closing))
    assert (task.result, task.usage) == ({"text": "done"}, {"input": 3})
    assert story(conn, "a")[-3:] == ["step.done", "message.added", "task.succeeded"]


def test_a_closing_that_does_not_fit_the_journal_settles_nothing(conn: sqlite3.Connection) -> None:
    submit(conn, "a")
    claimed = claim_one(conn)
    with pytest.raises(JournalMismatch):
        finish(conn, claimed, Succeeded(closing=Closing((End("nobody", StepState.DONE),))))
    assert operations.find(conn, "a").task.state is TaskState.RUNNING


INTERRUPTED: list[Outcome] = [
    HandedBack(),
    Died(lease_lost=True),
    Failed("TIMEOUT", "too long"),
    Failed("E", "signal 9"),
]


@pytest.mark.spec("GC-STM-111")
@pytest.mark.parametrize("outcome", INTERRUPTED)
@pytest.mark.parametrize("kind", ["exec", "skill", "tool"])
def test_an_unsafe_call_that_had_begun_and_was_interrupted_is_unknown(
    conn: sqlite3.Connection, outcome: Outcome, kind: str
) -> None:
    payloads: dict[str, Any] = {"exec": {"argv": ["true"]}, "skill": {"skill": "x"}, "tool": {"name": "exec"}}
    submit(conn, "a", NewTask(kind=kind, payload=payloads[kind]))
    claimed = claim_one(conn)
    commit(conn, operations.record, claimed.stored, [UNSAFE], START)
    task, _ = finish(conn, claimed, outcome)
    assert (task.state, task.error_code) == (TaskState.FAILED, "OUTCOME_UNKNOWN")
    assert steps.load(conn, task.key)["u"].state is StepState.UNKNOWN
    assert claim(conn) == []


@pytest.mark.spec("GC-STM-111")
def test_a_known_bad_exit_is_an_ordinary_failure(conn: sqlite3.Connection) -> None:
    submit(conn, "a", exec_task())
    claimed = claim_one(conn)
    commit(conn, operations.record, claimed.stored, [UNSAFE], START)
    closing = Closing((End("u", StepState.FAILED, {"exit": 2}),))
    task, _ = finish(conn, claimed, Failed("EXIT", "exit code 2", closing=closing))
    assert (task.state, task.error_code) == (TaskState.RETRY_WAIT, "EXIT")


def test_an_unsafe_call_that_is_canceled_is_canceled(conn: sqlite3.Connection) -> None:
    submit(conn, "a", exec_task())
    claimed = claim_one(conn)
    commit(conn, operations.record, claimed.stored, [UNSAFE], START)
    commit(conn, operations.ask_cancel, "a", "stop", START)
    task, _ = finish(conn, claimed, HandedBack())
    assert (task.state, task.error) == (TaskState.CANCELED, "stop")
    assert steps.load(conn, task.key)["u"].state is StepState.UNKNOWN


@pytest.mark.parametrize("effect", [Effect.PURE, Effect.IDEMPOTENT, Effect.VERIFIABLE])
def test_a_call_that_may_be_repeated_is_handed_back(conn: sqlite3.Connection, effect: Effect) -> None:
    submit(conn, "a", exec_task())
    claimed = claim_one(conn)
    step = Intend(key="p", kind="tool", request={}, request_hash="h", tool="exec", effect=effect, running=True)
    commit(conn, operations.record, claimed.stored, [step], START)
    task, ready = finish(conn, claimed, HandedBack())
    assert (task.state, task.attempt, set(ready)) == (TaskState.QUEUED, 0, {"default"})
    assert claim_one(conn).steps["p"].state is StepState.RUNNING


def test_a_turn_that_is_handed_back_keeps_its_running_step_for_its_own_judgement(conn: sqlite3.Connection) -> None:
    submit(conn, "a", chat("s"))
    claimed = claim_one(conn)
    commit(conn, operations.record, claimed.stored, [UNSAFE], START)
    task, _ = finish(conn, claimed, HandedBack())
    assert task.state is TaskState.QUEUED
    assert claim_one(conn).steps["u"].state is StepState.RUNNING


@pytest.mark.spec("GC-QUE-116")
def test_the_end_of_one_task_and_the_claim_of_the_next_are_one_operation(conn: sqlite3.Connection) -> None:
    submit(conn, "a")
    submit(conn, "b")
    claimed = claim_one(conn)
    (settled,) = commit(conn, operations.settle_shared, [Ended(claimed.stored, Succeeded(), 0.0, HOLDER, at())])
    assert settled.task.state is TaskState.SUCCEEDED
    assert settled.following is not None
    assert (settled.following.task.id, settled.following.task.state) == ("b", TaskState.RUNNING)
    types = [event.event_type for event in events.read_after(conn, 4)]
    assert types == ["task.succeeded", "task.claimed", "task.running"]


def test_progress_is_an_event_of_its_run(conn: sqlite3.Connection) -> None:
    submit(conn, "a")
    claimed = claim_one(conn)
    commit(conn, operations.report_progress, claimed.stored, {"done": 0.5}, START)
    event = last(conn, "a")
    assert (event.event_type, event.payload, event.run_id) == ("task.progress", {"progress": {"done": 0.5}}, "a.2")
    assert operations.find(conn, "a").task.progress == {"done": 0.5}


# -- cancel --------------------------------------------------------------------------------------------------------


@pytest.mark.spec("GC-STM-107")
def test_a_queued_task_is_canceled_at_once_and_a_held_one_is_asked(conn: sqlite3.Connection) -> None:
    submit(conn, "a")
    submit(conn, "b")
    held = claim_one(conn)
    done, *_ = commit(conn, operations.ask_cancel, "b", "not needed", START)
    assert (done.task.state, done.task.error, done.task.error_code) == (TaskState.CANCELED, "not needed", "CANCELED")
    asked, *_ = commit(conn, operations.ask_cancel, "a", "stop", START)
    assert (asked.task.state, asked.task.cancel_requested) == (TaskState.RUNNING, True)
    task, _ = finish(conn, held, Canceled())
    assert (task.state, task.error) == (TaskState.CANCELED, "stop")
    assert last(conn, "a").payload == {"error_code": "CANCELED", "reason": "stop"}


def test_a_waiting_task_is_canceled_at_once(conn: sqlite3.Connection) -> None:
    submit(conn, "a")
    finish(conn, claim_one(conn), Failed("E", "x"))
    done, *_ = commit(conn, operations.ask_cancel, "a", None, START)
    assert done.task.state is TaskState.CANCELED
    assert commit(conn, upkeep.run_timers, START + 99_000).ready == frozenset()


def test_a_canceled_task_cannot_be_canceled_again(conn: sqlite3.Connection) -> None:
    submit(conn, "a")
    commit(conn, operations.ask_cancel, "a", None, START)
    head = events.head(conn)
    done, ready, *_ = commit(conn, operations.ask_cancel, "a", "again", START + 9)
    assert (done.task.state, done.task.finished_at, ready) == (TaskState.CANCELED, START, frozenset())
    assert events.head(conn) == head
    with pytest.raises(NotFound):
        commit(conn, operations.ask_cancel, "nobody", None, START)


def test_the_trigger_counts_what_is_queued(conn: sqlite3.Connection) -> None:
    for n in range(4):
        submit(conn, f"t{n}")
    first, second = claim(conn, limit=2)
    finish(conn, first, Failed("E", "x"))
    finish(conn, second, HandedBack())
    commit(conn, operations.ask_cancel, "t3", None, START)
    count = conn.execute("SELECT count(*) FROM task WHERE state = 'QUEUED'").fetchone()[0]
    assert tasks.depth(conn, "default") == count == 2
