"""Tasks with deaths wait in a crash loop; nobody else does."""

from __future__ import annotations

import sqlite3

import pytest

from goclaw.core.task import NewTask, TaskState
from goclaw.kernel import claiming, submission, upkeep
from goclaw.kernel.suspects import hold_suspects
from goclaw.store import tasks
from goclaw.store.chains import first_break
from tests.fakes_clock import START
from tests.scratch import BOUNDS, HOLDER, at, commit, noop

NOW = START + 1_000
UNTIL = NOW + 10_000


def submitted(conn: sqlite3.Connection, new: NewTask, task_id: str) -> None:
    commit(conn, submission.submit, new, task_id, BOUNDS, START)


def died(conn: sqlite3.Connection, count: int = 1) -> None:
    """The next tasks run while the daemon dies, and are recovered."""
    claimed = commit(conn, claiming.claim, "default", count, HOLDER, at())
    assert len(claimed) == count
    commit(conn, upkeep.recover_all, "boot-2", NOW)


def find(conn: sqlite3.Connection, task_id: str) -> tuple[str, str | None, int]:
    stored = tasks.by_id(conn, task_id)
    assert stored is not None
    return stored.task.state, stored.task.wait_reason, stored.task.available_at


def claimable(conn: sqlite3.Connection) -> list[str]:
    done = commit(conn, claiming.claim, "default", 10, HOLDER, at(2_000))
    return [one.task.id for one in done]


@pytest.mark.spec("GC-REL-212")
def test_only_a_task_that_has_died_waits_and_its_event_says_why(conn: sqlite3.Connection) -> None:
    submitted(conn, noop(), "suspect")
    died(conn)
    submitted(conn, noop(), "other")
    assert commit(conn, hold_suspects, UNTIL, NOW) == 1
    assert find(conn, "suspect") == (TaskState.QUEUED, "delay", UNTIL)
    last = conn.execute("SELECT event_type, payload_json FROM task_events WHERE task_id = 'suspect'").fetchall()[-1]
    assert last["event_type"] == "task.held"
    assert "crash_loop" in last["payload_json"]
    assert claimable(conn) == ["other"]
    assert first_break(conn) is None


@pytest.mark.spec("GC-REL-212")
def test_when_the_wait_is_over_it_may_be_claimed_and_a_deadline_comes_first(conn: sqlite3.Connection) -> None:
    submitted(conn, noop(), "suspect")
    submitted(conn, noop(deadline_ms=5_000), "hasty")
    died(conn, 2)
    assert commit(conn, hold_suspects, UNTIL, NOW) == 2
    done = commit(conn, upkeep.run_timers, START + 5_000)
    assert find(conn, "hasty")[0] == TaskState.CANCELED
    assert done.next_wake == UNTIL
    assert commit(conn, upkeep.run_timers, UNTIL).ready == {"default"}
    assert claimable(conn) == ["suspect"]


@pytest.mark.spec("GC-REL-212")
def test_a_turn_that_waits_keeps_its_place_in_its_session(conn: sqlite3.Connection) -> None:
    for name in ("first", "second"):
        submitted(conn, NewTask(kind="chat", payload={"content": name}, session_id="s"), name)
    died(conn)
    commit(conn, hold_suspects, UNTIL, NOW)
    assert find(conn, "second")[1] == "session"
    assert claimable(conn) == [], "the session waits with its head"
    commit(conn, upkeep.run_timers, UNTIL)
    assert find(conn, "first")[1] is None
    assert claimable(conn) == ["first"]


@pytest.mark.spec("GC-REL-212")
def test_a_task_that_leaves_a_name_lets_the_next_one_in(conn: sqlite3.Connection) -> None:
    submitted(conn, noop(concurrency_key="name"), "suspect")
    submitted(conn, noop(concurrency_key="name"), "other")
    died(conn)
    commit(conn, hold_suspects, UNTIL, NOW)
    assert claimable(conn) == ["other"]
    assert find(conn, "suspect")[1] == "delay"


def test_nothing_is_written_where_nobody_has_died(conn: sqlite3.Connection) -> None:
    submitted(conn, noop(), "other")
    before = conn.total_changes
    assert commit(conn, hold_suspects, UNTIL, NOW) == 0
    assert conn.total_changes == before
