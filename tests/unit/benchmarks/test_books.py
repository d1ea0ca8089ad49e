"""A run that lost, doubled or invented something is an error, not a figure."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import books, depth, ours, raw
from benchmarks.books import WrongBooks

TASKS = 12


@pytest.fixture
def worked(tmp_path: Path) -> Path:
    """A database whose tasks have all succeeded, by the bare statements."""
    path = tmp_path / "bench.db"
    depth.prefill(path, TASKS)
    raw.work(path, TASKS, 5)
    return path


@pytest.fixture
def tamper(worked: Path) -> Iterator[sqlite3.Connection]:
    conn = sqlite3.connect(worked, isolation_level=None)
    yield conn
    conn.close()


@pytest.mark.spec("GC-PERF-111")
def test_the_books_of_an_honest_run_are_in_order(worked: Path) -> None:
    books.audit(worked, succeeded=TASKS)


@pytest.mark.spec("GC-PERF-111")
@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("DELETE FROM event WHERE id = (SELECT max(id) FROM event)", "events by type"),
        ("UPDATE task SET state = 'QUEUED', finished_at = NULL WHERE key = 3", "tasks by state"),
        ("UPDATE event SET type = 'task.claimed' WHERE type = 'task.running' AND task_key = 2", "events by type"),
        ("UPDATE event SET created_at = created_at + 1 WHERE id = 7", "event 7: row changed"),
        ("UPDATE queue_depth SET queued = queued + 1", "queue depth"),
        ("DELETE FROM task_input WHERE task_key = 4", "input"),
    ],
)
def test_a_row_that_does_not_belong_is_told(
    worked: Path, tamper: sqlite3.Connection, statement: str, what: str
) -> None:
    assert tamper.execute(statement).rowcount == 1
    with pytest.raises(WrongBooks, match=what):
        books.audit(worked, succeeded=TASKS)


@pytest.mark.spec("GC-PERF-111")
def test_a_task_too_few_is_told(worked: Path) -> None:
    with pytest.raises(WrongBooks, match="tasks by state"):
        books.audit(worked, succeeded=TASKS + 1)


@pytest.mark.spec("GC-PERF-111")
def test_a_connection_that_does_not_wait_for_the_disk_is_told(tmp_path: Path) -> None:
    conn = sqlite3.connect(tmp_path / "peer.db")
    conn.execute("PRAGMA journal_mode = WAL")
    conn.execute("PRAGMA synchronous = NORMAL")
    with pytest.raises(WrongBooks, match="synchronous"):
        books.expect_full(conn)
    conn.execute("PRAGMA synchronous = FULL")
    books.expect_full(conn)
    conn.close()


@pytest.mark.spec("GC-PERF-110")
def test_the_ceiling_leaves_what_the_kernel_leaves(tmp_path: Path) -> None:
    """The same statements: else the ratio would compare two different things."""
    depth.prefill(tmp_path / "raw.db", TASKS)
    raw.work(tmp_path / "raw.db", TASKS, 5)
    asyncio.run(ours.work(tmp_path / "ours.db", TASKS, 5))
    assert _shape(tmp_path / "raw.db") == _shape(tmp_path / "ours.db")


@pytest.mark.spec("GC-PERF-110")
def test_the_ceiling_submits_what_the_kernel_submits(tmp_path: Path) -> None:
    raw.submits(tmp_path / "raw.db", TASKS, 5)
    asyncio.run(ours.submits(tmp_path / "ours.db", TASKS, 5))
    assert _shape(tmp_path / "raw.db") == _shape(tmp_path / "ours.db")


ONE_OF_A_KIND = {"id", "chain", "token", "rank", "request_digest", "lease_owner", "policy_version"}
"""Columns that name an instant, a chance or a run; that they are set must agree, what they hold need not."""


def _shape(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every row of tasks, inputs, events and depth; of what differs from run to run, whether it is there."""
    conn = sqlite3.connect(path)
    found = {}
    for table in ("task", "task_input", "event", "queue_depth"):
        rows = conn.execute(f"SELECT * FROM {table}")  # noqa: S608 (our own words)
        names = [column[0] for column in rows.description]
        varying = {name for name in names if name in ONE_OF_A_KIND or name.endswith("_at")}
        shaped = [
            tuple(value is not None if name in varying else value for name, value in zip(names, row, strict=True))
            for row in rows
        ]
        found[table] = sorted(shaped, key=repr)
    conn.close()
    return found
