"""Task rows. The kernel's operations decide what to write; this module writes it and reads it back."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from goclaw.core.canonical import canonical_json
from goclaw.core.settle import Transition
from goclaw.core.task import TERMINAL, NewTask, Task, TaskState
from goclaw.db.queries import load_queries
from goclaw.store.rates import Rate
from goclaw.store.sessions import NEWEST

_SQL = load_queries("tasks")


class Stored(NamedTuple):
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


class Lane(NamedTuple):
    """What an agent has to do, and how far it is busy: the kinds it has queued with their rates, if they have one."""

    kinds: Mapping[str, Rate | None]
    held: int
    suspects: bool


class Placement(NamedTuple):
    """How a new task stands in the queue."""

    task_id: str
    agent_id: str
    session_id: str | None
    session_key: int | None
    parent_key: int | None
    wait_reason: str | None
    place: int | None
    rank: int
    available_at: int
    deadline_at: int | None
    request_digest: str | None


def insert_many(conn: sqlite3.Connection, rows: Sequence[tuple[NewTask, Placement, str]], now: int) -> list[Stored]:
    """Store QUEUED tasks with their inputs, each given with where it stands and its payload as canonical JSON."""
    first = last_key(conn) + 1
    stored, inputs, values = [], [], []
    depths: Counter[tuple[str, str]] = Counter()
    for key, (new, at, payload) in enumerate(rows, first):
        wake_at, agent_id = at.deadline_at, at.agent_id
        if at.wait_reason == "delay" and (wake_at is None or at.available_at < wake_at):
            wake_at = at.available_at
        values.append(
            (
                key, at.task_id, new.kind, agent_id, at.session_key, at.parent_key, at.wait_reason, new.priority,
                at.rank, at.place, at.available_at, wake_at, at.deadline_at, new.timeout_ms, new.max_attempts,
                new.idempotency_key, at.request_digest, now, now, new.concurrency_key, new.unique_key,
            )
        )  # fmt: skip
        inputs.append((key, payload))
        depths[agent_id, new.kind] += 1
        task = Task(
            key, at.task_id, new.kind, at.session_id, agent_id, TaskState.QUEUED, new.priority, 0, new.max_attempts, 0,
            at.available_at, at.wait_reason, new.payload, None, None, None, None, None, None, None, False, None,
            new.idempotency_key, new.parent_task_id, None, None, new.timeout_ms, at.deadline_at, None, 0, now, now,
            None, new.concurrency_key, new.unique_key,
        )  # fmt: skip
        stored.append(Stored(task, at.session_key, at.place, at.rank))
    conn.executemany(_SQL.insert, values)
    conn.executemany(_SQL.insert_input, inputs)
    _shift_depths(conn, depths)
    return stored


def next_keys(conn: sqlite3.Connection, agent_id: str, limits: Mapping[str, int], limit: int) -> list[int]:
    """Keys of up to `limit` tasks of an agent in claim order, of each kind at most as many as `limits` says."""
    found: list[tuple[int, int]] = []
    for kind, most in limits.items():
        found += [tuple(row) for row in conn.execute(_SQL.next_of_kind, (agent_id, kind, min(most, limit)))]
    if len(limits) > 1:
        found.sort()
    return [key for _, key in found[:limit]]


def lane(conn: sqlite3.Connection, agent_id: str) -> Lane | None:
    """What a claim has to know of an agent; None when it has nothing that could be claimed."""
    rows = conn.execute(_SQL.lane, {"agent_id": agent_id}).fetchall()
    if not rows:
        return None
    kinds = {kind: None if most is None else Rate(agent_id, kind, most, due) for kind, most, due, _, _ in rows}
    return Lane(kinds, rows[0][3], bool(rows[0][4]))


def claim(conn: sqlite3.Connection, keys: Sequence[int], lease: Lease, now: int) -> tuple[list[Stored], list[int]]:
    """Give these queued tasks leases and start them. Their tokens are `lease.token` and every second number after it:
    the ids of their claims' events, which the caller appends next. With the keys of those that have a journal.
    """
    tokens = range(lease.token, lease.token + 2 * len(keys), 2)
    given = (lease.until, lease.expires, lease.policy_version, now)
    cursor = conn.executemany(
        _SQL.claim, [(lease.owner, token, *given, key) for key, token in zip(keys, tokens, strict=True)]
    )
    if cursor.rowcount != len(keys):
        raise RuntimeError("a task that was to be claimed is not claimable")
    rows = conn.execute(_SQL.claimed, (json.dumps(keys),)).fetchall()
    claimed = [_stored(row[:-1]) for row in rows]
    _shift_depths(conn, _leaving(stored.task for stored in claimed))
    return claimed, [row[0] for row in rows if row[-1]]


def suspect(conn: sqlite3.Connection, agents: Sequence[str]) -> list[tuple[int, str, str]]:
    """Key, agent and kind of the tasks that are to run alone next, in claim order; a hundred of them."""
    return [tuple(row) for row in conn.execute(_SQL.suspect, {"agents": canonical_json(list(agents))})]


def any_suspect(conn: sqlite3.Connection) -> bool:
    """Whether a task that must run alone waits or runs."""
    return conn.execute(_SQL.suspects).fetchone() is not None


def held(conn: sqlite3.Connection) -> tuple[int, int]:
    """How many tasks are held, and the highest number of deaths among them."""
    row = conn.execute(_SQL.held).fetchone()
    return row[0], row[1]


def succeed(
    conn: sqlite3.Connection, ends: Sequence[tuple[int, int, str | None, str | None]], now: int
) -> dict[int, Any]:
    """End running tasks, each given as (key, token, result as JSON, usage as JSON); by key the progress they made.

    One whose lease is gone, or that was asked to cancel, is left out and left alone.
    """
    rows = conn.execute(_SQL.succeed, {"ends": json.dumps(ends), "now": now}).fetchall()
    return {row[0]: _value(row[1]) for row in rows}


def transition(
    conn: sqlite3.Connection, stored: Stored, change: Transition, now: int, *, rank: int, place: int | None
) -> bool:
    """Write a transition; False when the task is no longer where `stored` says (another end was first)."""
    task = stored.task
    waits = change.state is TaskState.RETRY_WAIT or change.wait_reason == "delay"
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
    if cursor.rowcount != 1:
        return False
    entering, leaving = change.state is TaskState.QUEUED, task.state is TaskState.QUEUED
    if entering != leaving:
        _shift_depths(conn, {(task.agent_id, task.kind): entering - leaving})
    return True


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


def by_unique_key(conn: sqlite3.Connection, key: str) -> int | None:
    """Key of the unfinished task with this unique key."""
    row = conn.execute(_SQL.by_unique_key, (key,)).fetchone()
    return None if row is None else int(row[0])


def descendants(conn: sqlite3.Connection, key: int) -> list[int]:
    """Keys of the unfinished tasks below this one, children before their children."""
    return [row[0] for row in conn.execute(_SQL.descendants, (key,)).fetchall()]


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


def last_key(conn: sqlite3.Connection) -> int:
    """The highest key any task ever had."""
    row = conn.execute(_SQL.last_key).fetchone()
    return row[0] if row else 0


def depth(conn: sqlite3.Connection, agent_id: str) -> int:
    """How many tasks of the agent are QUEUED."""
    return int(conn.execute(_SQL.depth, {"agent_id": agent_id}).fetchone()[0])


def depths(conn: sqlite3.Connection) -> dict[str, int]:
    """How many tasks are QUEUED, by agent."""
    return {row[0]: row[1] for row in conn.execute(_SQL.depths)}


def counts(conn: sqlite3.Connection) -> dict[str, int]:
    """`running`, `retry_wait` and `dead_letters`."""
    return dict(conn.execute(_SQL.counts).fetchone())


def session_head(conn: sqlite3.Connection, session_key: int) -> tuple[int, int] | None:
    """Key and place of the task whose turn it is."""
    row = conn.execute(_SQL.session_head, {"session_key": session_key}).fetchone()
    return None if row is None else (row[0], row[1])


def unblock(conn: sqlite3.Connection, key: int, wait_reason: str | None) -> str | None:
    """A blocked head has its session and waits for `wait_reason` at most; its agent, or None when it was not
    blocked."""
    row = conn.execute(_SQL.unblock, {"key": key, "wait_reason": wait_reason}).fetchone()
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
    return sorted(row[0] for row in conn.execute(_SQL.orphans, {"owner": owner}).fetchall())


def pause(conn: sqlite3.Connection, scope: str, name: str) -> None:
    """Hold the claim."""
    conn.execute(_SQL.pause, {"scope": scope, "name": name})


def resume(conn: sqlite3.Connection, scope: str, name: str) -> bool:
    """End a pause; False when there was none."""
    return conn.execute(_SQL.resume, {"scope": scope, "name": name}).rowcount == 1


def pauses(conn: sqlite3.Connection) -> list[tuple[str, str]]:
    """The pauses in force as (scope, name)."""
    return [(row[0], row[1]) for row in conn.execute(_SQL.pauses)]


def _leaving(tasks: Iterable[Task]) -> dict[tuple[str, str], int]:
    """What the queue is shorter by when these have left it."""
    left: Counter[tuple[str, str]] = Counter()
    for task in tasks:
        left[task.agent_id, task.kind] -= 1
    return left


def _shift_depths(conn: sqlite3.Connection, by: Mapping[tuple[str, str], int]) -> None:
    conn.executemany(_SQL.shift_depth, [(agent_id, kind, count) for (agent_id, kind), count in by.items()])


def _value(text: str | None) -> Any:
    return None if text is None else json.loads(text)


_STATES = {str(state): state for state in TaskState}


def _stored(row: Sequence[Any]) -> Stored:
    """The columns stand in the order of the fields of Task, then the store's own."""
    *columns, session_key, place, rank = row
    columns[5] = _STATES[columns[5]]
    columns[12] = {} if columns[12] == "{}" else json.loads(columns[12])
    columns[13] = _value(columns[13])
    columns[16] = _value(columns[16])
    columns[20] = bool(columns[20])
    columns[25] = _value(columns[25])
    return Stored(Task(*columns), session_key, place, rank)
