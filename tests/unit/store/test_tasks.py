"""Task rows: what the schema itself refuses, and the reads."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from goclaw.core.outcome import Failed, Succeeded
from goclaw.core.settle import settle
from goclaw.core.task import TaskState
from goclaw.kernel import claiming, operations, submission
from goclaw.store import tasks
from goclaw.store.tasks import TaskFilter
from tests.fakes_clock import START
from tests.scratch import BOUNDS, HOLDER, at, commit, noop, scratch


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    conn = scratch(tmp_path / "d.db")
    yield conn
    conn.close()


def submit(conn: sqlite3.Connection, task_id: str, now: int = START, **fields: Any) -> None:
    commit(conn, submission.submit, noop(**fields), task_id, BOUNDS, now)


def claim(conn: sqlite3.Connection) -> claiming.Claimed:
    (claimed,) = commit(conn, claiming.claim, "default", 1, HOLDER, at())
    return claimed


@pytest.mark.spec("GC-DATA-113")
@pytest.mark.parametrize(
    "harm",
    [
        "state = 'PAUSED'",
        "state = 'RUNNING'",
        "state = 'SUCCEEDED'",
        "state = 'RETRY_WAIT'",
        "state = 'RETRY_WAIT', wait_reason = 'backoff'",
        "lease_token = 5",
        "finished_at = 5",
        "wait_reason = 'because'",
        "priority = 11",
        "attempt = -1",
        "max_attempts = 0",
        "session_key = 99",
        "parent_key = 99",
        "available_at = 'soon'",
    ],
)
def test_the_schema_refuses_a_row_that_makes_no_sense(conn: sqlite3.Connection, harm: str) -> None:
    submit(conn, "a")
    with pytest.raises(sqlite3.IntegrityError):
        conn.execute(f"UPDATE task SET {harm}")  # noqa: S608 (the harm is ours)


def test_the_states_of_the_schema_are_those_of_the_code(conn: sqlite3.Connection) -> None:
    sql = conn.execute("SELECT sql FROM sqlite_master WHERE name = 'task'").fetchone()[0]
    listed = sql.split("CHECK (state IN (")[1].split("))")[0]
    assert {name.strip().strip("'") for name in listed.split(",")} == set(TaskState)


def test_an_idempotency_key_is_unique_for_ever(conn: sqlite3.Connection) -> None:
    submit(conn, "a", idempotency_key="k")
    submit(conn, "b")
    with pytest.raises(sqlite3.IntegrityError):
        conn.execute("UPDATE task SET idempotency_key = 'k' WHERE id = 'b'")
    assert tasks.by_idempotency_key(conn, "k") is not None
    assert tasks.by_idempotency_key(conn, "j") is None


def test_a_row_reads_back_as_it_was_written(conn: sqlite3.Connection) -> None:
    submit(conn, "p")
    submit(
        conn,
        "a",
        payload={"result": {"é": [1]}},
        session_id="s",
        priority=3,
        max_attempts=7,
        timeout_ms=9,
        deadline_ms=5_000,
        idempotency_key="k",
        parent_task_id="p",
    )
    stored = tasks.by_id(conn, "a")
    assert stored is not None
    task = stored.task
    assert stored == tasks.by_key(conn, task.key)
    assert (task.payload, task.session_id, task.agent_id) == ({"result": {"é": [1]}}, "s", "default")
    assert (task.priority, task.max_attempts, task.timeout_ms, task.deadline_at) == (3, 7, 9, START + 5_000)
    assert (task.idempotency_key, task.parent_task_id, task.state) == ("k", "p", TaskState.QUEUED)
    assert stored.rank == START - 90_000
    assert tasks.by_id(conn, "nobody") is None


def test_a_transition_needs_the_state_and_the_lease_it_leaves(conn: sqlite3.Connection) -> None:
    submit(conn, "a")
    claimed = claim(conn).stored
    change = settle(claimed.task, Succeeded(1), START, 0.0)
    stale = claimed._replace(task=claimed.task._replace(lease_token=99))
    elsewhere = claimed._replace(task=claimed.task._replace(state=TaskState.CLAIMED))
    for wrong in (stale, elsewhere):
        assert not commit(conn, tasks.transition, wrong, change, START, rank=0, place=None)
    assert commit(conn, tasks.transition, claimed, change, START, rank=0, place=None)
    assert not commit(conn, tasks.transition, claimed, change, START, rank=0, place=None)


@pytest.mark.spec("GC-QUE-105")
def test_a_lease_is_extended_while_it_lives_and_not_revived_after(conn: sqlite3.Connection) -> None:
    submit(conn, "a")
    submit(conn, "b")
    first, second = claim(conn).task, claim(conn).task
    tokens = [first.lease_token or 0, second.lease_token or 0]
    start = at().monotonic
    assert commit(conn, tasks.renew, "boot-1", tokens[:1], (start + 30_000, START + 30_000), 30_000) == []
    until = dict(conn.execute("SELECT id, lease_until FROM task").fetchall())
    assert until == {"a": start + 60_000, "b": start + 30_000}
    expired = commit(conn, tasks.renew, "boot-1", tokens, (start + 30_001, START), 30_000)
    assert expired == tokens[1:]
    assert commit(conn, tasks.renew, "boot-2", tokens, (start + 99_999, START), 30_000) == []


def test_a_wall_clock_that_jumps_moves_no_lease(conn: sqlite3.Connection) -> None:
    submit(conn, "a")
    token = claim(conn).task.lease_token or 0
    for wall in (START - 10**9, START + 10**9):
        assert commit(conn, tasks.renew, "boot-1", [token], (at().monotonic + 1, wall), 30_000) == []


def test_progress_is_recorded_for_the_holder_only(conn: sqlite3.Connection) -> None:
    submit(conn, "a")
    task = claim(conn).task
    assert commit(conn, tasks.progress, task.key, task.lease_token, {"done": 1}, START)
    assert not commit(conn, tasks.progress, task.key, 99, {"done": 2}, START)
    assert tasks.by_key(conn, task.key).task.progress == {"done": 1}


def test_lists_are_filtered_and_paged_newest_first(conn: sqlite3.Connection) -> None:
    for n in range(6):
        submit(conn, f"t{n}", START + n, session_id="s" if n % 2 else None, agent_id="other" if n > 3 else None)
    conn.execute("UPDATE task SET parent_key = 1 WHERE id = 't5'")

    def ids(limit: int = 10, cursor: int | None = None, **where: Any) -> list[str]:
        return [task.id for task in tasks.page(conn, TaskFilter(**where), limit, cursor)]

    assert ids() == ["t5", "t4", "t3", "t2", "t1", "t0"]
    assert ids(2) == ["t5", "t4"]
    assert ids(2, 5) == ["t3", "t2"]
    assert ids(session_id="s") == ["t5", "t3", "t1"]
    assert ids(agent_id="other") == ["t5", "t4"]
    assert ids(since=START + 4) == ["t5", "t4"]
    assert ids(parent_task_id="t0") == ["t5"]
    assert ids(kind="exec") == ids(state=TaskState.RUNNING) == []
    assert ids(kind="noop", state=TaskState.QUEUED, session_id="s", agent_id="default") == ["t3", "t1"]


@pytest.mark.spec("GC-QUE-106")
def test_the_numbers_of_the_status_page_are_those_of_the_rows(conn: sqlite3.Connection) -> None:
    for n, agent in enumerate(["default", "default", "default", "other"]):
        submit(conn, f"t{n}", agent_id=agent)
    assert tasks.depths(conn) == {"default": 3, "other": 1}
    commit(conn, operations.finish, claim(conn).stored, Failed("E", "x"), 0.0, START)
    commit(conn, operations.finish, claim(conn).stored, Failed("E", "x", permanent=True), 0.0, START)
    claim(conn)
    assert (tasks.depth(conn, "default"), tasks.depth(conn, "other"), tasks.depth(conn, "nobody")) == (0, 1, 0)
    assert tasks.counts(conn) == {"running": 1, "retry_wait": 1, "dead_letters": 0}
    assert tasks.held(conn) == (1, 0)


def test_a_pause_is_one_row(conn: sqlite3.Connection) -> None:
    commit(conn, tasks.pause, "agent", "other")
    commit(conn, tasks.pause, "agent", "other")
    assert tasks.pauses(conn) == [("agent", "other")]
    assert commit(conn, tasks.resume, "agent", "other")
    assert not commit(conn, tasks.resume, "agent", "other")


def test_the_promised_names_can_be_read(conn: sqlite3.Connection) -> None:
    submit(conn, "a", session_id="s")
    for name in ("sessions", "tasks", "task_events"):
        assert conn.execute(f"SELECT * FROM {name}").fetchone() is not None  # noqa: S608
    for name in ("messages", "steps", "audit_log", "policy_versions", "skill_registry", "schema_migrations"):
        conn.execute(f"SELECT * FROM {name}").fetchall()  # noqa: S608
    row = conn.execute("SELECT * FROM tasks").fetchone()
    assert (row["id"], row["session_id"], row["payload_json"], row["state"]) == ("a", "s", "{}", "QUEUED")
    event = conn.execute("SELECT * FROM task_events WHERE event_type = 'task.enqueued'").fetchone()
    assert (event["task_id"], event["state_from"], event["state_to"]) == ("a", None, "QUEUED")
