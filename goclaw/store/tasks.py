"""Task rows. The kernel's operations decide what to write; this module writes it and reads it back."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from goclaw.core.canonical import canonical_json
from goclaw.core.settle import Transition
from goclaw.core.task import TERMINAL, NewTask, Task, TaskState
from goclaw.db.queries import load_queries
from goclaw.store.sessions import NEWEST

_SQL = load_queries("tasks")


@dataclass(frozen=True, slots=True)
class Stored:
    """A task with the keys the store keeps to itself."""

    task: Task
    session_key: int | None
    place: int | None
    rank: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """What a claim writes. `until` is on the monotonic clock of this boot, `expires` on the wall clock."""

    owner: str
    token: int
    until: int
    expires: int
    policy_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFilter:
    """Which tasks to list; None means any."""

    state: TaskState | None = None
    kind: str | None = None
    session_id: str | None = None
    agent_id: str | None = None
    parent_task_id: str | None = None
    since: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """How a new task stands in the queue."""

    task_id: str
    session_key: int | None
    parent_key: int | None
    wait_reason: str | None
    place: int | None
    rank: int
    available_at: int
    deadline_at: int | None
    request_digest: str


def insert(conn: sqlite3.Connection, new: NewTask, at: Placement, now: int) -> int:
    """Store a QUEUED task and its input; its key."""
    timers = [at.deadline_at, at.available_at if at.wait_reason == "delay" else None]
    key = conn.execute(
        _SQL.insert,
        {
            "id": at.task_id,
            "kind": new.kind,
            "agent_id": new.agent_id,
            "session_key": at.session_key,
            "parent_key": at.parent_key,
            "wait_reason": at.wait_reason,
            "priority": new.priority,
            "rank": at.rank,
            "place": at.place,
            "available_at": at.available_at,
            "wake_at": min((timer for timer in timers if timer is not None), default=None),
            "deadline_at": at.deadline_at,
            "timeout_ms": new.timeout_ms,
            "max_attempts": new.max_attempts,
            "idempotency_key": new.idempotency_key,
            "request_digest": at.request_digest,
            "now": now,
        },
    ).lastrowid
    assert key is not None  # noqa: S101 (an INSERT that did not raise has a rowid)
    conn.execute(_SQL.insert_input, {"task_key": key, "payload_json": canonical_json(new.payload)})
    return key


def claim(conn: sqlite3.Connection, agent_id: str, lease: Lease, now: int) -> Stored | None:
    """Give the agent's next task this lease; None when nothing may be claimed."""
    row = conn.execute(_SQL.claim, _lease(lease, now) | {"agent_id": agent_id}).fetchone()
    return None if row is None else by_key(conn, row[0])


def claim_suspect(conn: sqlite3.Connection, key: int, lease: Lease, now: int) -> Stored | None:
    """Give this one task the lease."""
    row = conn.execute(_SQL.claim_suspect, _lease(lease, now) | {"key": key}).fetchone()
    return None if row is None else by_key(conn, row[0])


def suspect(conn: sqlite3.Connection, agents: Sequence[str]) -> tuple[int, str] | None:
    """Key and agent of the task that is to run alone next."""
    row = conn.execute(_SQL.suspect, {"agents": canonical_json(list(agents))}).fetchone()
    return None if row is None else (row[0], row[1])


def lone_suspect(conn: sqlite3.Connection) -> bool:
    """Whether a task that must run alone waits while nobody holds any."""
    return conn.execute(_SQL.lone_suspect).fetchone() is not None


def held(conn: sqlite3.Connection) -> tuple[int, int]:
    """How many tasks are held, and the highest number of deaths among them."""
    row = conn.execute(_SQL.held).fetchone()
    return row[0], row[1]


def transition(
    conn: sqlite3.Connection, stored: Stored, change: Transition, now: int, *, rank: int, place: int | None
) -> bool:
    """Write a transition; False when the task is no longer where `stored` says (another end was first)."""
    task = stored.task
    waits = change.wait_reason is not None and change.state is TaskState.RETRY_WAIT
    finished = change.state in TERMINAL
    timers = [None if finished else task.deadline_at, change.available_at if waits else None]
    result = change.result
    cursor = conn.execute(
        _SQL.transition,
        {
            "key": task.key,
            "state_from": task.state,
            "token": task.lease_token,
            "state": change.state,
            "wait_reason": change.wait_reason,
            "available_at": change.available_at,
            "wake_at": min((timer for timer in timers if timer is not None), default=None),
            "rank": rank,
            "place": place,
            "attempt": change.attempt,
            "deaths": change.deaths,
            "fingerprint": change.fingerprint,
            "fingerprint_count": change.fingerprint_count,
            "cancel_requested": change.cancel_requested,
            "cancel_reason": change.cancel_reason,
            "now": now,
            "finished_at": now if finished else None,
            "error_code": change.error_code,
            "error": change.error,
            "usage_json": None if change.usage is None else canonical_json(change.usage),
            "result_json": None if result is None else canonical_json(result),
        },
    )
    return cursor.rowcount == 1


def lift_deadline(conn: sqlite3.Connection, key: int, now: int) -> None:
    """Take the deadline off if it has passed."""
    conn.execute(_SQL.lift_deadline, {"key": key, "now": now})


def by_key(conn: sqlite3.Connection, key: int) -> Stored:
    """The task with this key, which exists."""
    return _stored(conn.execute(_SQL.by_key, {"key": key}).fetchone())


def by_id(conn: sqlite3.Connection, task_id: str) -> Stored | None:
    """The task with this public id, or None."""
    row = conn.execute(_SQL.by_id, {"id": task_id}).fetchone()
    return None if row is None else _stored(row)


def by_idempotency_key(conn: sqlite3.Connection, key: str) -> tuple[int, str] | None:
    """Key and request digest of the task submitted with this idempotency key."""
    row = conn.execute(_SQL.by_idempotency_key, {"idempotency_key": key}).fetchone()
    return None if row is None else (row[0], row[1])


def page(conn: sqlite3.Connection, where: TaskFilter, limit: int, cursor: int | None) -> list[Task]:
    """Up to `limit` tasks, newest first, with keys below `cursor`."""
    given = {
        "state": where.state,
        "kind": where.kind,
        "session_id": where.session_id,
        "agent_id": where.agent_id,
        "parent_task_id": where.parent_task_id,
        "since": where.since,
        "limit": limit,
        "cursor": NEWEST if cursor is None else cursor,
    }
    return [_stored(row).task for row in conn.execute(_SQL.page, given)]


def depth(conn: sqlite3.Connection, agent_id: str) -> int:
    """How many tasks of the agent are QUEUED."""
    row = conn.execute(_SQL.depth, {"agent_id": agent_id}).fetchone()
    return row[0] if row else 0


def depths(conn: sqlite3.Connection) -> dict[str, int]:
    """How many tasks are QUEUED, by agent."""
    return {row[0]: row[1] for row in conn.execute(_SQL.depths)}


def counts(conn: sqlite3.Connection) -> dict[str, int]:
    """`running`, `retry_wait` and `dead_letters`."""
    return dict(conn.execute(_SQL.counts).fetchone())


def session_head(conn: sqlite3.Connection, session_key: int) -> int | None:
    """Key of the task whose turn it is."""
    row = conn.execute(_SQL.session_head, {"session_key": session_key}).fetchone()
    return None if row is None else int(row[0])


def unblock(conn: sqlite3.Connection, key: int) -> str | None:
    """Let a blocked head be claimed; its agent, or None when it was not blocked."""
    row = conn.execute(_SQL.unblock, {"key": key}).fetchone()
    return None if row is None else str(row[0])


def release(conn: sqlite3.Connection, key: int, wait_reason: str | None, place: int | None) -> bool:
    """End a delay."""
    given = {"key": key, "wait_reason": wait_reason, "place": place}
    return conn.execute(_SQL.release, given).fetchone() is not None


def due(conn: sqlite3.Connection, now: int, limit: int) -> list[int]:
    """Keys of tasks whose timer is over."""
    return [row[0] for row in conn.execute(_SQL.due, {"now": now, "limit": limit}).fetchall()]


def next_wake(conn: sqlite3.Connection) -> int | None:
    """The earliest timer of all tasks."""
    row = conn.execute(_SQL.next_wake).fetchone()
    return None if row is None else int(row[0])


def request_cancel(conn: sqlite3.Connection, key: int, reason: str | None) -> bool:
    """Ask the holder to end; False when nobody holds the task."""
    return conn.execute(_SQL.request_cancel, {"key": key, "reason": reason}).rowcount == 1


def renew(
    conn: sqlite3.Connection, owner: str, tokens: Sequence[int], clocks: tuple[int, int], lease_ms: int
) -> list[int]:
    """Extend the leases of `tokens`; those of `owner` that have run out meanwhile. `clocks` = (monotonic, wall)."""
    monotonic, wall = clocks
    given = {
        "owner": owner,
        "tokens": canonical_json(list(tokens)),
        "now": monotonic,
        "until": monotonic + lease_ms,
        "expires": wall + lease_ms,
    }
    conn.execute(_SQL.renew, given)
    return [row[0] for row in conn.execute(_SQL.expired, {"owner": owner, "now": monotonic}).fetchall()]


def holds(conn: sqlite3.Connection, key: int, token: int | None) -> bool:
    """Whether the attempt with this token still runs."""
    return conn.execute(_SQL.holds, {"key": key, "token": token}).fetchone() is not None


def progress(conn: sqlite3.Connection, key: int, token: int | None, value: Any, now: int) -> bool:
    """Record progress; False when the attempt no longer counts."""
    given = {"key": key, "token": token, "progress_json": canonical_json(value), "now": now}
    return conn.execute(_SQL.progress, given).rowcount == 1


def orphans(conn: sqlite3.Connection, owner: str) -> list[int]:
    """Keys of tasks that another boot held."""
    return [row[0] for row in conn.execute(_SQL.orphans, {"owner": owner}).fetchall()]


def pause(conn: sqlite3.Connection, scope: str, name: str) -> None:
    """Hold the claim."""
    conn.execute(_SQL.pause, {"scope": scope, "name": name})


def resume(conn: sqlite3.Connection, scope: str, name: str) -> bool:
    """End a pause; False when there was none."""
    return conn.execute(_SQL.resume, {"scope": scope, "name": name}).rowcount == 1


def pauses(conn: sqlite3.Connection) -> list[tuple[str, str]]:
    """The pauses in force as (scope, name)."""
    return [(row[0], row[1]) for row in conn.execute(_SQL.pauses)]


def _lease(lease: Lease, now: int) -> dict[str, Any]:
    return {
        "owner": lease.owner,
        "token": lease.token,
        "until": lease.until,
        "expires": lease.expires,
        "policy_version": lease.policy_version,
        "now": now,
    }


def _value(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def _stored(row: sqlite3.Row) -> Stored:
    task = Task(
        key=row["key"],
        id=row["id"],
        kind=row["kind"],
        session_id=row["session_id"],
        agent_id=row["agent_id"],
        state=TaskState(row["state"]),
        priority=row["priority"],
        attempt=row["attempt"],
        max_attempts=row["max_attempts"],
        deaths=row["deaths"],
        available_at=row["available_at"],
        wait_reason=row["wait_reason"],
        payload=json.loads(row["payload_json"]),
        result=_value(row["result_json"]),
        error=row["error"],
        error_code=row["error_code"],
        progress=_value(row["progress_json"]),
        lease_owner=row["lease_owner"],
        lease_token=row["lease_token"],
        lease_expires_at=row["lease_expires_at"],
        cancel_requested=bool(row["cancel_requested"]),
        cancel_reason=row["cancel_reason"],
        idempotency_key=row["idempotency_key"],
        parent_task_id=row["parent_task_id"],
        policy_version=row["policy_version"],
        usage=_value(row["usage_json"]),
        timeout_ms=row["timeout_ms"],
        deadline_at=row["deadline_at"],
        fingerprint=row["fingerprint"],
        fingerprint_count=row["fingerprint_count"],
        trace_id=row["id"].replace("-", ""),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        finished_at=row["finished_at"],
    )
    return Stored(task, row["session_key"], row["place"], row["rank"])
