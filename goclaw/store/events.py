"""The event log: appended in the commit of what it tells, read by cursor, held together by a hash chain."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from goclaw.core.canonical import canonical_json
from goclaw.core.event import Event, NewEvent, Said
from goclaw.core.task import run_id
from goclaw.db.queries import load_queries

_SQL = load_queries("events")
GENESIS = bytes(32)
"""The chain value before the first row of a log."""
PAGE = 1_000


def append(conn: sqlite3.Connection, events: Sequence[NewEvent], now: int) -> int:
    """Append in order; the id of the last one. Ids are consecutive within a commit and never reused."""
    head, chain = _head(conn)
    rows = []
    for kind, task_key, session_key, state_from, state_to, token, payload_of in events:
        head += 1
        if not payload_of:
            payload, digest = None, None
        elif isinstance(payload_of, Said):
            payload, digest = payload_of
        else:
            payload = canonical_json(payload_of)
            digest = hashlib.sha256(payload.encode()).digest()
        columns = (head, kind, task_key, session_key, state_from, state_to, token, now)
        chain = link(chain, columns, digest)
        rows.append((*columns, digest, chain, payload))
    conn.executemany(_SQL.insert, rows)
    return head


def head(conn: sqlite3.Connection) -> int:
    """The id of the newest event, 0 in an empty log."""
    return _head(conn)[0]


def oldest(conn: sqlite3.Connection) -> int:
    """The id of the oldest event that is kept, 0 in an empty log."""
    row = conn.execute(_SQL.oldest).fetchone()
    return int(row[0]) if row else 0


def read_after(conn: sqlite3.Connection, cursor: int, limit: int = PAGE) -> list[Event]:
    """Up to `limit` events of the whole log with ids above `cursor`."""
    return [_event(row) for row in conn.execute(_SQL.after, {"cursor": cursor, "limit": limit})]


def read_session(conn: sqlite3.Connection, session_id: str, cursor: int, limit: int = PAGE) -> list[Event]:
    """Up to `limit` events of a session with ids above `cursor`."""
    given = {"session_id": session_id, "cursor": cursor, "limit": limit}
    return [_event(row) for row in conn.execute(_SQL.of_session, given)]


def read_session_to_head(conn: sqlite3.Connection, session_id: str, cursor: int, limit: int) -> tuple[list[Event], int]:
    """As `read_session`, with the head of the whole log in the same snapshot."""
    return read_session(conn, session_id, cursor, limit), head(conn)


def read_task(conn: sqlite3.Connection, task_id: str, cursor: int, limit: int = PAGE) -> list[Event]:
    """Up to `limit` events of a task with ids above `cursor`."""
    given = {"task_id": task_id, "cursor": cursor, "limit": limit}
    return [_event(row) for row in conn.execute(_SQL.of_task, given)]


def _head(conn: sqlite3.Connection) -> tuple[int, bytes]:
    row = conn.execute(_SQL.last).fetchone()
    return (row[0], row[1]) if row else (0, GENESIS)


def link(previous: bytes, columns: tuple[Any, ...], digest: bytes | None) -> bytes:
    """The chain value of a row: over the one before it, the row's first eight columns and its payload's digest."""
    # Columns are separated by a control character that none of them can hold; None is empty (keys begin at 1).
    row, kind, task, session, came_from, to, token, now = columns
    whose = f"{task or ''}\x1f{session or ''}\x1f{came_from or ''}\x1f{to or ''}\x1f{token or ''}"
    text = f"{row}\x1f{kind}\x1f{whose}\x1f{now}"
    return hashlib.sha256(previous + text.encode() + (digest or b"")).digest()


def _event(row: sqlite3.Row) -> Event:
    task_id = row["task_id"]
    payload = row["payload_json"]
    return Event(
        event_id=row["id"],
        event_type=row["type"],
        task_id=task_id,
        session_id=row["session_id"],
        state_from=row["state_from"],
        state_to=row["state_to"],
        run_id=run_id(task_id, row["token"]),
        trace_id=task_id.replace("-", "") if task_id else None,
        payload=json.loads(payload) if payload else {},
        created_at=row["created_at"],
    )
