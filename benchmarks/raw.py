"""The ceiling: the kernel's own statements on its own schema, straight on SQLite.

One thread, no asyncio, nobody to answer: what is left is SQL, the hash chain and the fsync. The statements are read
from goclaw's own .sql files, so a change there is a change here; a test compares the rows they leave with the kernel's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import books
from benchmarks.stopwatch import Stopwatch, Took
from goclaw.clock import SystemClock, new_id
from goclaw.core.settle import static_rank
from goclaw.db.migrate import open_checked
from goclaw.db.queries import load_queries
from goclaw.store.events import GENESIS, link

TASKS = load_queries("tasks")
EVENTS = load_queries("events")
AGENT = "default"
KIND = "noop"
BOOT = "bench"
LEASE_MS = 30_000
CHECKPOINT_CHANGES = 8_192
"""Rows changed between two checkpoints: about 4 MiB of WAL, as the writer's."""
ENQUEUED = json.dumps({"agent_id": AGENT, "kind": KIND}, separators=(",", ":"))
CLAIMED = json.dumps({"attempt": 1}, separators=(",", ":"))
Held = tuple[int, int]
"""A running task: its key and its lease's token."""


class Raw:
    """The write connection with the head of the event chain and the highest task key in hand."""

    def __init__(self, path: Path) -> None:
        self.clock = SystemClock()
        self.conn = open_checked(path, self.clock)
        books.expect_full(self.conn)
        self.conn.row_factory = None
        row = self.conn.execute(EVENTS.last).fetchone()
        self.head: int = row[0] if row else 0
        self.chain: bytes = row[1] if row else GENESIS
        row = self.conn.execute(TASKS.last_key).fetchone()
        self.last_key: int = row[0] if row else 0
        self._events: list[tuple[Any, ...]] = []
        self._checkpointed = self.conn.total_changes

    def close(self) -> None:
        self.conn.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        self.conn.close()

    def begin(self) -> None:
        self.conn.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        self.conn.executemany(EVENTS.insert, self._events)
        self._events.clear()
        self.conn.execute("COMMIT")
        if self.conn.total_changes - self._checkpointed >= CHECKPOINT_CHANGES:
            self.conn.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            self._checkpointed = self.conn.total_changes

    def submit(self, count: int, now: int, payload: str = "{}") -> None:
        """So many QUEUED tasks with their inputs and events."""
        keys = range(self.last_key + 1, self.last_key + 1 + count)
        self.last_key += count
        rank = static_rank(now, 0)
        self.conn.executemany(TASKS.insert, [_new(key, new_id(self.clock), rank, now) for key in keys])
        self.conn.executemany(TASKS.insert_input, [(key, payload) for key in keys])
        self.conn.execute(TASKS.shift_depth, (AGENT, KIND, count))
        for key in keys:
            self._tell(("task.enqueued", key, None, "QUEUED", None), ENQUEUED, now)

    def claim(self, count: int, now: int) -> list[Held]:
        """Lease and start the next tasks, and read what a handler needs of them."""
        keys = [row[1] for row in self.conn.execute(TASKS.next_of_kind, (AGENT, KIND, count))]
        if not keys:
            return []
        held = [(key, self.head + 1 + 2 * place) for place, key in enumerate(keys)]
        until = (now + LEASE_MS, now + LEASE_MS, "bench", now)
        self.conn.executemany(TASKS.claim, [(BOOT, token, *until, key) for key, token in held])
        self.conn.execute(TASKS.claimed, (json.dumps(keys),)).fetchall()
        self.conn.execute(TASKS.shift_depth, (AGENT, KIND, -len(keys)))
        for key, token in held:
            self._tell(("task.claimed", key, "QUEUED", "CLAIMED", token), CLAIMED, now)
            self._tell(("task.running", key, "CLAIMED", "RUNNING", token), None, now)
        return held

    def succeed(self, held: Sequence[Held], now: int) -> None:
        """End running tasks."""
        ends = json.dumps([(key, token, None, None) for key, token in held])
        rows = self.conn.execute(TASKS.succeed, {"ends": ends, "now": now}).fetchall()
        books.expect("tasks that succeeded", len(rows), len(held))
        for key, token in held:
            self._tell(("task.succeeded", key, "RUNNING", "SUCCEEDED", token), None, now)

    def _tell(self, told: tuple[str, int, str | None, str, int | None], payload: str | None, now: int) -> None:
        """Put one event of (type, task, state before, state after, token) into the commit."""
        self.head += 1
        kind, key, came_from, to, token = told
        columns = (self.head, kind, key, None, came_from, to, token, now)
        digest = hashlib.sha256(payload.encode()).digest() if payload else None
        self.chain = link(self.chain, columns, digest)
        self._events.append((*columns, digest, self.chain, payload))


def submits(path: Path, count: int, group: int) -> Took:
    """Seconds for `count` submissions, `group` a commit."""
    raw = Raw(path)
    watch = Stopwatch()
    fill(raw, count, group)
    took = watch.read()
    raw.close()
    return took


def fill(raw: Raw, count: int, group: int, payload: str = "{}") -> None:
    """Queue `count` tasks, `group` a commit."""
    for start in range(0, count, group):
        raw.begin()
        raw.submit(min(group, count - start), raw.clock.wall(), payload)
        raw.commit()


def work(path: Path, count: int, group: int) -> Took:
    """Seconds until `count` queued tasks have succeeded: the ends of a group and the next claims in one commit."""
    raw = Raw(path)
    held: list[Held] = []
    done = 0
    watch = Stopwatch()
    while done < count:
        now = raw.clock.wall()
        raw.begin()
        if held:
            raw.succeed(held, now)
            done += len(held)
        held = raw.claim(group, now)
        raw.commit()
    took = watch.read()
    raw.close()
    return took


def _new(key: int, task_id: str, rank: int, now: int) -> tuple[Any, ...]:
    """The columns of tasks.insert for a noop that asks for nothing."""
    session, parent, reason, priority, place, wake, deadline, timeout = None, None, None, 0, None, None, None, None
    attempts, idempotency, digest, concurrency, unique = 3, None, None, None, None
    return (
        key, task_id, KIND, AGENT, session, parent, reason, priority, rank, place, now, wake, deadline, timeout,
        attempts, idempotency, digest, now, now, concurrency, unique,
    )  # fmt: skip
