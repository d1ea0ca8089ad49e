"""What happens to tasks without a worker: timers, deadlines, redrive, a person's word."""

from __future__ import annotations

import sqlite3

import pytest

from goclaw.core.intake import chat_task
from goclaw.core.outcome import Failed, Outcome, Succeeded
from goclaw.core.step import Effect, End, Intend, JournalEntry, StepState
from goclaw.core.task import NewTask, Task, TaskState
from goclaw.errors import BadRequest, Conflict, NotFound
from goclaw.kernel import claiming, operations, submission, upkeep
from goclaw.kernel.claiming import Claimed
from goclaw.store import events, sessions, steps, tasks
from tests.fakes_clock import START
from tests.scratch import BOUNDS, HOLDER, at, commit, noop

EXEC = NewTask(kind="exec", payload={"argv": ["true"]})


def submit(conn: sqlite3.Connection, task_id: str, new: NewTask, now: int = 0) -> None:
    commit(conn, submission.submit, new, task_id, BOUNDS, START + now)


def claim(conn: sqlite3.Connection, now: int = 0) -> Claimed:
    (claimed,) = commit(conn, claiming.claim, "default", 1, HOLDER, at(now))
    return claimed


def end(conn: sqlite3.Connection, outcome: Outcome, now: int = 0) -> Task:
    done, _ = commit(conn, operations.finish, claim(conn, now).stored, outcome, 0.0, START + now)
    return done.task


def get(conn: sqlite3.Connection, task_id: str) -> Task:
    return operations.find(conn, task_id).task


def story(conn: sqlite3.Connection, task_id: str) -> list[str]:
    return [event.event_type for event in events.read_task(conn, task_id, 0)]


REST = Failed("E", "x", permanent=True)


# -- timers --------------------------------------------------------------------------------------------------------


def test_a_wait_ends_at_its_instant_and_not_before(conn: sqlite3.Connection) -> None:
    submit(conn, "a", noop())
    end(conn, Failed("E", "x"))
    early = commit(conn, upkeep.run_timers, START + 999)
    assert (early.ready, early.next_wake) == (frozenset(), START + 1_000)
    assert get(conn, "a").state is TaskState.RETRY_WAIT
    assert commit(conn, upkeep.run_timers, START + 1_000).ready == {"default"}
    task = get(conn, "a")
    assert (task.state, task.wait_reason, task.attempt) == (TaskState.QUEUED, None, 1)
    assert story(conn, "a")[-1] == "task.requeued"


@pytest.mark.spec("GC-STM-112")
def test_a_deadline_cancels_what_nobody_holds(conn: sqlite3.Connection) -> None:
    submit(conn, "queued", noop(deadline_ms=1_000))
    submit(conn, "delayed", noop(deadline_ms=1_000, delay_ms=5_000))
    submit(conn, "waiting", noop(deadline_ms=1_500, priority=5))
    end(conn, Failed("E", "x", retry_after_ms=60_000))
    done = commit(conn, upkeep.run_timers, START + 2_000)
    assert (done.overdue, done.next_wake) == ((), None)
    for name in ("queued", "delayed", "waiting"):
        task = get(conn, name)
        assert (task.state, task.error_code, task.error) == (TaskState.CANCELED, "DEADLINE", "the deadline passed")


@pytest.mark.spec("GC-STM-112")
def test_a_deadline_asks_the_holder_of_a_running_task_once(conn: sqlite3.Connection) -> None:
    submit(conn, "a", noop(deadline_ms=1_000))
    claimed = claim(conn)
    assert commit(conn, upkeep.run_timers, START + 999).next_wake == START + 1_000
    done = commit(conn, upkeep.run_timers, START + 1_000)
    assert (done.overdue, done.next_wake) == ((claimed.task.key,), None)
    assert commit(conn, upkeep.run_timers, START + 2_000).overdue == ()
    (task, state) = commit(conn, upkeep.recover_all, "boot-2", START + 3_000)[0]
    assert (task.id, state, get(conn, "a").error_code) == ("a", TaskState.CANCELED, "DEADLINE")


def test_a_round_is_bounded_and_the_next_one_goes_on(conn: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "TIMER_BATCH", 3)
    for n in range(5):
        submit(conn, f"t{n}", noop(delay_ms=1 + n))
    first = commit(conn, upkeep.run_timers, START + 100)
    assert first.next_wake == START + 4
    assert commit(conn, upkeep.run_timers, START + 100).next_wake is None
    assert len(commit(conn, claiming.claim, "default", 9, HOLDER, at(100))) == 5


def test_a_deadline_lets_the_next_turn_of_a_session_go(conn: sqlite3.Connection) -> None:
    submit(conn, "one", NewTask(kind="chat", payload={"content": "x"}, session_id="s", deadline_ms=1_000))
    submit(conn, "two", chat_task("y", agent_id=None, session_id="s"))
    assert commit(conn, upkeep.run_timers, START + 1_000).ready == {"default"}
    assert claim(conn).task.id == "two"


# -- redrive -------------------------------------------------------------------------------------------------------


@pytest.mark.spec("GC-STM-113")
@pytest.mark.parametrize(
    ("outcome", "most"), [(REST, 3), (Failed("E", "x"), 1), (Failed("E", "x"), 3)], ids=["failed", "one", "waits"]
)
def test_only_what_rests_can_be_put_back(conn: sqlite3.Connection, outcome: Outcome, most: int) -> None:
    submit(conn, "a", noop(max_attempts=most))
    with pytest.raises(Conflict, match="QUEUED task cannot be retried"):
        commit(conn, upkeep.ask_redrive, "a", START)
    state = end(conn, outcome).state
    if state is TaskState.RETRY_WAIT:
        with pytest.raises(Conflict, match="RETRY_WAIT"):
            commit(conn, upkeep.ask_redrive, "a", START)
        return
    stored, ready = commit(conn, upkeep.ask_redrive, "a", START + 9)
    assert (stored.task.state, stored.task.attempt, set(ready)) == (TaskState.QUEUED, 0, {"default"})
    assert end(conn, Succeeded()).state is TaskState.SUCCEEDED
    with pytest.raises(Conflict, match="SUCCEEDED"):
        commit(conn, upkeep.ask_redrive, "a", START)
    with pytest.raises(NotFound):
        commit(conn, upkeep.ask_redrive, "nobody", START)


def test_counters_and_fingerprints_start_again(conn: sqlite3.Connection) -> None:
    submit(conn, "a", noop(max_attempts=9))
    for _ in range(3):
        task = end(conn, Failed("E", "same"))
        commit(conn, upkeep.run_timers, START + 99_000)
    assert (task.state, task.error_code, task.fingerprint_count) == (TaskState.DEAD_LETTER, "POISON", 3)
    commit(conn, upkeep.ask_redrive, "a", START + 99_000)
    fresh = get(conn, "a")
    assert (fresh.attempt, fresh.deaths, fresh.fingerprint, fresh.error, fresh.finished_at) == (0, 0, None, None, None)
    assert end(conn, Failed("E", "same")).state is TaskState.RETRY_WAIT


def test_the_journal_is_kept(conn: sqlite3.Connection) -> None:
    submit(conn, "a", EXEC)
    claimed = claim(conn)
    step = Intend(key="p", kind="tool", request={}, request_hash="h", tool="exec", effect=Effect.PURE)
    commit(conn, operations.record, claimed.stored, [step], START)
    commit(conn, operations.finish, claimed.stored, REST, 0.0, START)
    commit(conn, upkeep.ask_redrive, "a", START)
    assert claim(conn).steps.keys() == {"p"}


@pytest.mark.spec("GC-QUE-115")
def test_a_turn_that_is_put_back_goes_to_the_tail(conn: sqlite3.Connection) -> None:
    for name in ("one", "two", "three"):
        submit(conn, name, chat_task(name, agent_id=None, session_id="s"))
    end(conn, REST)
    stored, _ = commit(conn, upkeep.ask_redrive, "one", START)
    assert stored.task.wait_reason == "session"
    assert [end(conn, Succeeded()).id for _ in range(3)] == ["two", "three", "one"]


def test_the_rank_of_what_is_put_back_is_that_of_a_new_task(conn: sqlite3.Connection) -> None:
    submit(conn, "old", noop(priority=1))
    end(conn, REST)
    submit(conn, "new", noop(), now=50_000)
    commit(conn, upkeep.ask_redrive, "old", START + 90_000)
    assert [claim(conn).task.id for _ in range(2)] == ["new", "old"]


@pytest.mark.spec("GC-STM-113")
def test_a_deadline_that_passed_does_not_cancel_what_a_person_put_back(conn: sqlite3.Connection) -> None:
    submit(conn, "a", noop(deadline_ms=1_000))
    commit(conn, upkeep.run_timers, START + 1_000)
    commit(conn, upkeep.ask_redrive, "a", START + 2_000)
    assert commit(conn, upkeep.run_timers, START + 2_001).next_wake is None
    assert end(conn, Succeeded(), 2_001).state is TaskState.SUCCEEDED


def test_a_deadline_to_come_still_holds(conn: sqlite3.Connection) -> None:
    submit(conn, "a", noop(deadline_ms=9_000))
    end(conn, REST)
    commit(conn, upkeep.ask_redrive, "a", START + 1)
    assert commit(conn, upkeep.run_timers, START + 2).next_wake == START + 9_000


# -- a person's word ------------------------------------------------------------------------------------------------


def unknown(conn: sqlite3.Connection, *keys: str) -> None:
    submit(conn, "a", EXEC)
    claimed = claim(conn)
    entries = [
        Intend(key=key, kind="tool", request={}, request_hash="h", tool="exec", effect=Effect.UNSAFE, running=True)
        for key in keys
    ]
    commit(conn, operations.record, claimed.stored, entries, START)
    commit(conn, upkeep.recover_all, "boot-2", START)
    assert get(conn, "a").error_code == "OUTCOME_UNKNOWN"


@pytest.mark.spec("GC-STM-114")
@pytest.mark.parametrize(("happened", "state"), [(True, StepState.DONE), (False, StepState.INTENDED)])
def test_an_unknown_step_is_settled_before_the_task_is_put_back(
    conn: sqlite3.Connection, happened: bool, state: StepState
) -> None:
    unknown(conn, "u")
    with pytest.raises(Conflict, match=r"task\.resolve"):
        commit(conn, upkeep.ask_redrive, "a", START)
    task = commit(conn, upkeep.settle_step, "a", None, happened, {"exit": 0}, START)
    assert task.state is TaskState.FAILED, "a person's word about a step changes no task"
    step = steps.load(conn, task.key)["u"]
    assert (step.state, step.result) == (state, {"exit": 0})
    commit(conn, upkeep.ask_redrive, "a", START)
    assert claim(conn).steps["u"].state is state
    with pytest.raises(Conflict, match="running"):
        commit(conn, upkeep.settle_step, "a", None, True, None, START)


@pytest.mark.spec("GC-STM-114")
@pytest.mark.parametrize(("happened", "state"), [(True, StepState.DONE), (False, StepState.FAILED)])
def test_what_a_model_was_told_of_a_step_stays_and_the_word_is_said_in_the_session(
    conn: sqlite3.Connection, happened: bool, state: StepState
) -> None:
    submit(conn, "a", chat_task("go", agent_id=None, session_id="s"))
    claimed = claim(conn)
    llm = Intend(key="l", kind="llm", request={}, request_hash="h", running=True)
    unsafe = Intend(
        key="u", kind="tool", request={"argv": ["pay"]}, request_hash="h", tool="exec", effect=Effect.UNSAFE
    )
    told: list[JournalEntry] = [
        unsafe,
        End("u", StepState.UNKNOWN, {"text": "nobody knows"}),
        llm,
        End("l", StepState.DONE, {}),
    ]
    commit(conn, operations.record, claimed.stored, told, START)
    commit(conn, operations.finish, claimed.stored, REST, 0.0, START)
    commit(conn, upkeep.settle_step, "a", None, happened, {"data": {"result": "receipt 7"}}, START)
    step = steps.load(conn, claimed.task.key)["u"]
    assert (step.state, step.result) == (state, {"text": "nobody knows"})
    key = claimed.stored.session_key
    assert key is not None
    note = sessions.history(conn, key, 10, None)[-1]
    assert note["role"] == "system"
    assert "pay" in note["text"]
    assert "receipt 7" in note["text"]
    commit(conn, upkeep.ask_redrive, "a", START)
    bounds = sessions.turn_bounds(conn, key, claimed.task.key)
    assert [message.text for message in sessions.turn_history(conn, key, *bounds)] == ["go"], (
        "its own prompt is as it was"
    )


def test_several_unknown_steps_are_settled_by_name(conn: sqlite3.Connection) -> None:
    unknown(conn, "u", "v")
    with pytest.raises(BadRequest) as refused:
        commit(conn, upkeep.settle_step, "a", None, True, None, START)
    assert refused.value.data["steps"] == [1, 2]
    commit(conn, upkeep.settle_step, "a", 2, True, None, START)
    assert [step.state.value for step in steps.load(conn, 1).values()] == ["unknown", "done"]
    with pytest.raises(Conflict, match="no unknown step"):
        commit(conn, upkeep.settle_step, "a", 2, True, None, START)


def test_a_task_without_an_unknown_step_has_nothing_to_settle(conn: sqlite3.Connection) -> None:
    submit(conn, "a", noop())
    with pytest.raises(Conflict, match="no unknown step"):
        commit(conn, upkeep.settle_step, "a", None, True, None, START)


def test_an_idle_queue_has_no_timer(conn: sqlite3.Connection) -> None:
    submit(conn, "a", noop())
    assert commit(conn, upkeep.run_timers, START).next_wake is None
    assert tasks.next_wake(conn) is None
