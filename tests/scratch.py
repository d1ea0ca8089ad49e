"""A migrated database for a test, and the shortest ways to put work into it."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from goclaw.clock import SystemClock
from goclaw.core.event import NewEvent
from goclaw.core.task import NewTask, Task, TaskState
from goclaw.db.migrate import connect, open_checked
from goclaw.kernel.claiming import Holder, Now
from goclaw.store import events
from tests.fakes_clock import START

P = ParamSpec("P")
T = TypeVar("T")

BOUNDS = {"default": 1_000, "other": 1_000}
HOLDER = Holder("boot-1", 30_000, "policy-1", {"default": 1_000, "other": 1_000})


@cache
def _migrated() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "template.db"
        open_checked(path, SystemClock()).close()
        return path.read_bytes()


def scratch(path: Path) -> sqlite3.Connection:
    """A fresh migrated database at `path`. Not synced to disk: a test that kills nothing needs no fsync."""
    path.write_bytes(_migrated())
    return reopen(path)


def reopen(path: Path) -> sqlite3.Connection:
    """The read-write connection, without fsync."""
    conn = connect(path)
    conn.execute("PRAGMA synchronous = OFF")
    return conn


def commit(
    conn: sqlite3.Connection,
    function: Callable[Concatenate[sqlite3.Connection, P], T],
    *args: P.args,
    **named: P.kwargs,
) -> T:
    """`function(conn, ...)` in a transaction of its own, undone if it raises."""
    conn.execute("BEGIN IMMEDIATE")
    try:
        result = function(conn, *args, **named)
    except BaseException:
        conn.execute("ROLLBACK")
        raise
    conn.execute("COMMIT")
    return result


def at(wall: int = 0) -> Now:
    """The instant `wall` milliseconds after the start of the fake clocks."""
    return Now(START + wall, 1_000_000 + wall)


def tell(conn: sqlite3.Connection, count: int) -> None:
    """So many events in one commit, every other one with a payload."""
    told = [NewEvent(type="policy.loaded", payload={"n": n} if n % 2 else {}) for n in range(count)]
    commit(conn, events.append, told, START)


def noop(**fields: Any) -> NewTask:
    """A task that does nothing."""
    payload: Mapping[str, Any] = fields.pop("payload", {})
    return NewTask(kind="noop", payload=payload, **fields)


def running(**fields: Any) -> Task:
    """A RUNNING task in its first attempt, for the pure judgements."""
    known: dict[str, Any] = {
        "key": 1,
        "id": "01990000-0000-7000-8000-000000000001",
        "kind": "noop",
        "session_id": None,
        "agent_id": "default",
        "state": TaskState.RUNNING,
        "priority": 0,
        "attempt": 1,
        "max_attempts": 3,
        "deaths": 0,
        "available_at": START,
        "wait_reason": None,
        "payload": {},
        "result": None,
        "error": None,
        "error_code": None,
        "progress": None,
        "lease_owner": "boot-1",
        "lease_token": 2,
        "lease_expires_at": START + 30_000,
        "cancel_requested": False,
        "cancel_reason": None,
        "idempotency_key": None,
        "parent_task_id": None,
        "policy_version": "policy-1",
        "usage": None,
        "timeout_ms": None,
        "deadline_at": None,
        "fingerprint": None,
        "fingerprint_count": 0,
        "created_at": START,
        "updated_at": START,
        "finished_at": None,
        "concurrency_key": None,
        "unique_key": None,
    }
    return Task(**(known | fields))
