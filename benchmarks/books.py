"""The books of a run: rows by state, events by type, the queue's depth, the chain. Wrong books are no figure."""

from __future__ import annotations

import sqlite3
from collections import Counter
from pathlib import Path

from goclaw.store import tasks
from goclaw.store.verify import verify

FULL = 2


class WrongBooks(Exception):
    """A run that lost, doubled or invented something; its rate says nothing."""


def expect(what: str, seen: object, wanted: object) -> None:
    """Raise WrongBooks unless the two are equal."""
    if seen != wanted:
        raise WrongBooks(f"{what}: {seen}, expected {wanted}")


def expect_full(conn: sqlite3.Connection) -> None:
    """Raise WrongBooks unless the connection commits as goclaw does: in WAL, with synchronous=FULL."""
    expect("journal_mode", conn.execute("PRAGMA journal_mode").fetchone()[0], "wal")
    expect("synchronous", conn.execute("PRAGMA synchronous").fetchone()[0], FULL)


def audit(path: Path, *, succeeded: int = 0, queued: int = 0, running: int = 0, attempts: int | None = None) -> None:
    """Compare a goclaw database with what was asked of it.

    Every task tells of its own past: enqueued once, claimed and started once an attempt, succeeded once. `attempts` is
    for runs with kills, where a task was begun more than once.
    """
    conn = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    conn.row_factory = sqlite3.Row
    try:
        wanted = {"SUCCEEDED": succeeded, "QUEUED": queued, "RUNNING": running}
        expect("tasks by state", _by_state(conn), {state: count for state, count in wanted.items() if count})
        begun = succeeded + running if attempts is None else attempts
        _audit_events(conn, succeeded + queued + running, begun, succeeded)
        expect("tasks with an input", _count(conn, "tasks WHERE payload_json IS NOT NULL"), sum(wanted.values()))
        expect("queue depth", sum(tasks.depths(conn).values()), queued)
        expect("what goclaw verify finds", [str(one) for one in verify(conn).findings], [])
    finally:
        conn.close()


def _by_state(conn: sqlite3.Connection) -> dict[str, int]:
    return dict(tuple(row) for row in conn.execute("SELECT state, count(*) FROM tasks GROUP BY state"))


def _audit_events(conn: sqlite3.Connection, total: int, begun: int, succeeded: int) -> None:
    wanted = Counter(
        {
            ("task.enqueued", None, "QUEUED"): total,
            ("task.claimed", "QUEUED", "CLAIMED"): begun,
            ("task.running", "CLAIMED", "RUNNING"): begun,
            ("task.succeeded", "RUNNING", "SUCCEEDED"): succeeded,
        }
    )
    told = conn.execute(
        "SELECT event_type, state_from, state_to, count(*) FROM task_events"
        " WHERE event_type LIKE 'task.%' AND event_type <> 'task.recovered' GROUP BY 1, 2, 3"
    )
    seen = Counter({(kind, came_from, to): count for kind, came_from, to, count in told})
    expect("events by type", dict(seen), dict(+wanted))


def _count(conn: sqlite3.Connection, what: str) -> int:
    found: int = conn.execute(f"SELECT count(*) FROM {what}").fetchone()[0]  # noqa: S608 (our own words)
    return found
