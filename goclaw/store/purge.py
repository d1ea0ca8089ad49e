"""Taking the content of conversations away for good, and proving it.

What stays says that something happened, never what: task rows with states, times and numbers, the kinds and ends of
steps, event rows without payload (the chain holds their digests), a session row without its id. `survey` looks on a
reader, `redact` takes away in one commit, then the file has to be rewritten (`space.rewrite`), since SQLite leaves
copies of moved rows in pages even with secure_delete. Both take several sessions, so that those which share a beginning
can go together.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from goclaw.core.event import NewEvent
from goclaw.db.queries import load_queries
from goclaw.errors import Conflict, NotFound
from goclaw.store import events, references, removed

_SQL = load_queries("purge")
_PAGE = 5_000
NEEDLES = 32
NEEDLE_CHARS = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a purge of these sessions would take away."""

    sessions: tuple[int, ...]
    tasks: tuple[tuple[int, str], ...]
    """(key, id) of every task of theirs."""
    decisions: tuple[removed.Row, ...]
    decided_upto: int
    """The audit log was looked at up to here."""
    names: frozenset[str]
    """What their texts refer to by a SHA-256: artifacts and prompt parts, perhaps."""
    needles: tuple[bytes, ...]
    """Samples of their texts, to be looked for in the file afterwards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Purged:
    """How many rows lost their content; messages and decisions are gone altogether."""

    messages: int
    tasks: int
    steps: int
    events: int
    decisions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a purge did. `copies` are files made before, which still hold the content."""

    rows: Purged
    artifacts: int
    prompt_parts: int
    log_lines: int
    scrubbed: bool
    """The database was rewritten; False: it is too large for that while the daemon runs."""
    samples: int
    """So many pieces of the content were looked for in the bytes of the database and its log."""
    found: int
    """So many of them are left there, those aside that other sessions say as well."""
    copies: tuple[str, ...]


def survey(conn: sqlite3.Connection, session_ids: Sequence[str]) -> Survey:
    """Look at everything the sessions have. Raises NotFound, or Conflict while a task or a schedule is theirs."""
    keys = tuple(_key(conn, session_id) for session_id in session_ids)
    tasks = tuple((row["key"], row["id"]) for key in keys for row in conn.execute(_SQL.tasks, {"key": key}))
    names: set[str] = set()
    samples: list[bytes] = []
    for text in _texts(conn, keys, tasks):
        names |= references.hashes(text)
        if len(text) >= NEEDLE_CHARS:
            middle = (len(text) - NEEDLE_CHARS) // 2
            samples.append(text[middle : middle + NEEDLE_CHARS].encode("utf-8", "surrogatepass"))
    decisions, upto = _decisions(conn, {task_id for _, task_id in tasks}, _first_decision(conn, keys))
    return Survey(
        sessions=keys,
        tasks=tasks,
        decisions=tuple(decisions),
        decided_upto=upto,
        names=frozenset(names),
        needles=tuple(samples[:: max(len(samples) // NEEDLES, 1)][:NEEDLES]),
    )


def redact(conn: sqlite3.Connection, seen: Survey, now: int) -> Purged:
    """Take the content away. Raises Conflict when something has begun in one of the sessions since the survey."""
    for key in seen.sessions:
        _refuse_open(conn, key)
    tasks = {row["key"] for key in seen.sessions for row in conn.execute(_SQL.tasks, {"key": key})}
    if tasks != {key for key, _ in seen.tasks}:
        raise Conflict("something was begun in the session meanwhile; try again")
    messages = sum(conn.execute(_SQL.drop_messages, {"key": key}).rowcount for key in seen.sessions)
    steps = told = 0
    for key, _ in seen.tasks:
        given = {"key": key}
        messages += conn.execute(_SQL.drop_task_messages, given).rowcount
        conn.execute(_SQL.blank_input, given)
        conn.execute(_SQL.blank_task, given)
        steps += conn.execute(_SQL.blank_steps, given).rowcount
        told += conn.execute(_SQL.blank_events_of_task, given).rowcount
    told += sum(conn.execute(_SQL.blank_events_of_session, {"key": key}).rowcount for key in seen.sessions)
    decisions = _drop_decisions(conn, seen, now)
    done = Purged(messages=messages, tasks=len(seen.tasks), steps=steps, events=told, decisions=decisions)
    for key in seen.sessions:
        _bury(conn, key, done, now)
    return done


def is_purged(conn: sqlite3.Connection, task_key: int) -> bool:
    """Whether the content of a task was purged; it cannot be run again then."""
    return conn.execute(_SQL.is_purged, {"key": task_key}).fetchone() is not None


def unscrubbed(conn: sqlite3.Connection) -> int:
    """How many purges wait for the file to be rewritten."""
    return int(conn.execute(_SQL.unscrubbed).fetchone()[0])


def mark_scrubbed(conn: sqlite3.Connection, now: int) -> None:
    """The file was rewritten after every purge up to `now`."""
    conn.execute(_SQL.scrubbed, {"now": now})


def _key(conn: sqlite3.Connection, session_id: str) -> int:
    row = conn.execute(_SQL.session, {"id": session_id}).fetchone()
    if row is None:
        raise NotFound(f"there is no session {session_id}", session_id=session_id)
    schedule = conn.execute(_SQL.schedule, {"id": session_id}).fetchone()
    if schedule is not None:
        raise Conflict(f"schedule {schedule['id']} speaks in the session; remove it first", schedule=schedule["id"])
    _refuse_open(conn, row["key"])
    return int(row["key"])


def _refuse_open(conn: sqlite3.Connection, key: int) -> None:
    task = conn.execute(_SQL.open_task, {"key": key}).fetchone()
    if task is not None:
        raise Conflict(
            f"task {task['id']} of the session is {task['state']}; wait for it or cancel it",
            task_id=task["id"],
            state=task["state"],
        )


def _texts(conn: sqlite3.Connection, keys: Sequence[int], tasks: Sequence[tuple[int, str]]) -> Iterator[str]:
    for key in keys:
        for row in conn.execute(_SQL.texts_of_session, {"key": key}):
            yield row["content_json"]
    for key, _ in tasks:
        for row in conn.execute(_SQL.texts_of_task, {"key": key}):
            yield row["text"]


def _first_decision(conn: sqlite3.Connection, keys: Sequence[int]) -> int:
    """The first audit row that may be about the sessions, by halving: its id rises with time."""
    began = min((conn.execute(_SQL.began_at, {"key": key}).fetchone()["created_at"] for key in keys), default=0)
    low, high = 1, removed.audit_head(conn) + 1
    while low < high:
        middle = (low + high) // 2
        row = conn.execute(_SQL.audit_from, {"id": middle}).fetchone()
        if row is None or row["at"] >= began:
            high = middle
        else:
            low = row["id"] + 1
    return low


def _decisions(conn: sqlite3.Connection, task_ids: set[str], first: int) -> tuple[list[removed.Row], int]:
    found: list[removed.Row] = []
    cursor = first - 1
    while rows := conn.execute(_SQL.audit_page, {"cursor": cursor, "limit": _PAGE}).fetchall():
        found += [(row["id"], row["chain"]) for row in rows if row["task_id"] in task_ids]
        cursor = rows[-1]["id"]
    return found, cursor


def _drop_decisions(conn: sqlite3.Connection, seen: Survey, now: int) -> int:
    """Take the decisions about the tasks out of the audit log: they hold paths and command lines."""
    late, _ = _decisions(conn, {task_id for _, task_id in seen.tasks}, seen.decided_upto + 1)
    gone = [*seen.decisions, *late]
    dropped = [row for row in gone if conn.execute(_SQL.drop_audit, {"id": row[0]}).rowcount]
    removed.note(conn, "audit", dropped, now)
    return len(dropped)


def _bury(conn: sqlite3.Connection, key: int, done: Purged, now: int) -> None:
    conn.execute(_SQL.bury_session, {"key": key, "now": now})
    conn.execute(_SQL.mark, {"key": key, "now": now})
    said = {"messages": done.messages, "tasks": done.tasks, "steps": done.steps, "decisions": done.decisions}
    events.append(conn, [NewEvent(type="session.purged", session_key=key, payload=said)], now)
    words = [f"{name}={count}" for name, count in said.items()]
    removed.tell(conn, removed.PURGE, f"purged-{key}", words, now)
