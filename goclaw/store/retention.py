"""What may go, and taking it away in bounded pieces. Plain transactions; `kernel.retention` decides when.

Rows are found by a reader and judged again by the writer, in the commit that takes them away. Nothing here scans a
growing table: ages are found by halving the keys, which rise with time. Where the wall clock was set back, a row may
stay longer, never shorter.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from goclaw.db.queries import load_queries
from goclaw.store import events, removed

_SQL = load_queries("retention")
ROWS = 200
"""Rows that one write takes away, about: a task goes whole, and the last one may be longer."""
PAGES = 256
"""Pages that one write frees, about: each is overwritten and goes through the log. 512 KiB."""
KEPT_POLICIES = 50


@dataclass(frozen=True, slots=True)
class Due:
    """What may go: rows from before the instant `before`, and rows with keys up to `surplus`. 0 of both: nothing."""

    before: int = 0
    surplus: int = 0


@dataclass(frozen=True, slots=True)
class Gone:
    """What one write took away. `looked`: how many of the keys it was given it has dealt with; `more`: a next write
    will probably find something at once."""

    rows: int = 0
    tasks: int = 0
    looked: int = 0
    more: bool = False


def bounds(conn: sqlite3.Connection, log: str, before: int, rows: int) -> tuple[Due, int]:
    """What is due of `task`, `event` or `audit` when everything from `before` on and the newest `rows` are kept
    (0: no such limit); and the first key that need not be looked at."""
    newest = conn.execute(_SQL.newest).fetchone()[log] or 0
    surplus = max(newest - rows, 0) if rows else 0
    return Due(before, surplus), max(_first_at(conn, log, before, newest), surplus + 1)


def due_tasks(conn: sqlite3.Connection, due: Due, below: int, limit: int) -> list[int]:
    """Keys of tasks that may go, from `below` down: children before their parents."""
    given = {"below": below, "before": due.before, "surplus": due.surplus, "limit": limit}
    return [row[0] for row in conn.execute(_SQL.due_tasks, given)]


def remove_tasks(conn: sqlite3.Connection, keys: Sequence[int], due: Due, now: int) -> Gone:
    """Take away tasks with all that is theirs, as many of `keys` as make about 200 rows or 512 KiB; one at least.

    The task of the newest event stays: ids must go on from it. Messages stay with their session.
    """
    gone: list[removed.Row] = []
    rows = tasks = looked = 0
    head, freed = events.head(conn), _free_pages(conn)
    for key in keys:
        if rows >= ROWS or _free_pages(conn) - freed >= PAGES:
            break
        looked += 1
        if conn.execute(_SQL.is_due, {"key": key, "before": due.before, "surplus": due.surplus}).fetchone() is None:
            continue
        told = [(row["id"], row["chain"]) for row in conn.execute(_SQL.events_of_task, {"key": key})]
        if told and told[-1][0] == head:
            continue
        gone += told
        tasks += 1
        rows += _remove_task(conn, key)
    if tasks:
        removed.note(conn, "event", sorted(gone), now)
        removed.tell(conn, removed.RETENTION, "tasks", [f"tasks={tasks}", f"rows={rows}"], now)
    return Gone(rows, tasks, looked)


def _remove_task(conn: sqlite3.Connection, key: int) -> int:
    given = {"key": key}
    conn.execute(_SQL.detach_messages, given)
    order = (_SQL.drop_occurrences, _SQL.drop_steps, _SQL.drop_task_events, _SQL.drop_input, _SQL.drop_task)
    return sum(conn.execute(sql, given).rowcount for sql in order)


def due_events(conn: sqlite3.Connection, after: int, below: int, limit: int) -> list[int]:
    """Ids of events of no task that may go, in order, behind `after`."""
    given = {"after": after, "below": below, "limit": limit}
    return [row[0] for row in conn.execute(_SQL.due_events, given)]


def remove_events(conn: sqlite3.Connection, after: int, below: int, now: int) -> Gone:
    """Take away up to 200 events of no task between the two ids, never the newest of the log."""
    given = {"after": after, "below": min(below, events.head(conn)), "limit": ROWS}
    gone = [(row["id"], row["chain"]) for row in conn.execute(_SQL.due_events, given).fetchall()]
    _remove_events(conn, gone, "events", now)
    return Gone(len(gone), more=len(gone) == ROWS)


def _remove_events(conn: sqlite3.Connection, gone: Sequence[removed.Row], resource: str, now: int) -> None:
    if gone:
        conn.executemany(_SQL.drop_event, [{"id": row_id} for row_id, _ in gone])
        removed.note(conn, "event", gone, now)
        removed.tell(conn, removed.RETENTION, resource, [f"rows={len(gone)}"], now)


def due_audit(conn: sqlite3.Connection, below: int) -> bool:
    """Whether an audit row below this id may go."""
    return _audit(conn, below, 1) != []


def remove_audit(conn: sqlite3.Connection, below: int, now: int) -> Gone:
    """Take away up to 200 of the oldest audit rows below an id, never the newest."""
    gone = _audit(conn, below, ROWS)
    if gone:
        conn.execute(_SQL.drop_audit, {"upto": gone[-1][0]})
        removed.note(conn, "audit", gone, now)
        removed.tell(conn, removed.RETENTION, "audit", [f"rows={len(gone)}"], now)
    return Gone(len(gone), more=len(gone) == ROWS)


def _audit(conn: sqlite3.Connection, below: int, limit: int) -> list[removed.Row]:
    given = {"below": min(below, removed.audit_head(conn)), "limit": limit}
    return [(row["id"], row["chain"]) for row in conn.execute(_SQL.due_audit, given).fetchall()]


def next_job(conn: sqlite3.Connection, after: str) -> str | None:
    """The next job behind `after` that has a history."""
    found: str | None = conn.execute(_SQL.next_job, {"after": after}).fetchone()[0]
    return found


def due_occurrences(conn: sqlite3.Connection, job_id: str, before: int, rows: int) -> Due | None:
    """What is due of a job's instants that led to no task, None when nothing is."""
    row = conn.execute(_SQL.surplus_occurrence, {"job_id": job_id, "rows": rows}).fetchone() if rows else None
    due = Due(before, row[0] if row else -(2**62))
    found = conn.execute(_SQL.due_occurrences, _instants(job_id, due, 1)).fetchone()[0]
    return due if found else None


def remove_occurrences(conn: sqlite3.Connection, job_id: str, due: Due) -> Gone:
    """Take away up to 200 instants of a job that led to no task. Its watermark stays: none of them comes again."""
    rows = conn.execute(_SQL.drop_due_occurrences, _instants(job_id, due, ROWS)).rowcount
    return Gone(rows, more=rows == ROWS)


def _instants(job_id: str, due: Due, limit: int) -> dict[str, object]:
    return {"job_id": job_id, "before": due.before, "surplus": due.surplus, "limit": limit}


def due_session(conn: sqlite3.Connection, after: int, before: int) -> int | None:
    """The next session that has been still since `before` and has no task left."""
    row = conn.execute(_SQL.due_session, {"after": after, "before": before}).fetchone()
    return None if row is None else int(row[0])


def remove_session(conn: sqlite3.Connection, key: int, before: int, now: int) -> Gone:
    """Take away up to 200 messages or 512 KiB of a session, then up to 200 of its events, then the session; call it
    until it has no `more`. The newest event of the log stays, and its session with it."""
    given = {"key": key, "before": before, "limit": ROWS}
    if conn.execute(_SQL.is_due_session, given).fetchone() is None:
        return Gone()
    if rows := _remove_messages(conn, key):
        return Gone(rows, more=True)
    told = [(row["id"], row["chain"]) for row in conn.execute(_SQL.events_of_session, given).fetchall()]
    gone = [row for row in told if row[0] != events.head(conn)]
    _remove_events(conn, gone, "sessions", now)
    if len(gone) < len(told):
        return Gone(len(gone))
    if len(told) == ROWS:
        return Gone(len(gone), more=True)
    conn.execute(_SQL.drop_purge, given)
    return Gone(len(gone) + conn.execute(_SQL.drop_session, given).rowcount)


def _remove_messages(conn: sqlite3.Connection, key: int) -> int:
    rows, freed = 0, _free_pages(conn)
    for row in conn.execute(_SQL.messages_of_session, {"key": key, "limit": ROWS}).fetchall():
        if _free_pages(conn) - freed >= PAGES:
            break
        rows += conn.execute(_SQL.drop_message, {"id": row["id"]}).rowcount
    return rows


def _free_pages(conn: sqlite3.Connection) -> int:
    return int(conn.execute("PRAGMA freelist_count").fetchone()[0])


def due_policies(conn: sqlite3.Connection, before: int) -> list[str]:
    """Versions of the policy that were replaced before `before` and before anything that is kept; the newest 50 stay.

    A task or an audit row names only a version that was in force when or after it was made.
    """
    first = [conn.execute(sql, {"key": 0}).fetchone() for sql in (_SQL.task_from, _SQL.audit_from)]
    limit = min([before, *(row["at"] for row in first if row is not None)])
    listed = conn.execute(_SQL.policies).fetchall()[KEPT_POLICIES:]
    return [row["version"] for row in listed if row["replaced_at"] is not None and row["replaced_at"] < limit]


def remove_policies(conn: sqlite3.Connection, versions: Sequence[str], before: int) -> Gone:
    """Take away these versions, unless one was loaded again since `before`."""
    gone = [conn.execute(_SQL.drop_policy, {"version": one, "before": before}).rowcount for one in versions[:ROWS]]
    return Gone(sum(gone), more=len(versions) > ROWS)


def _first_at(conn: sqlite3.Connection, log: str, instant: int, newest: int) -> int:
    """The first key whose row is from `instant` or later, by halving; one above all when there is none."""
    sql = {"task": _SQL.task_from, "event": _SQL.event_from, "audit": _SQL.audit_from}[log]
    low, high = 1, newest + 1
    while low < high:
        middle = (low + high) // 2
        row = conn.execute(sql, {"key": middle}).fetchone()
        if row is None or row["at"] >= instant:
            high = middle
        else:
            low = row["key"] + 1
    return low
