"""Everything the database knows of an incident: one task, one session, or a span of time.

Bounded; what people, tools and models said only if asked for.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from goclaw.db.queries import load_queries
from goclaw.errors import BadRequest, NotFound

_SQL = load_queries("incident")
TASKS = 200
ROWS = 5_000
AROUND_MS = 60_000
"""How much before and after a task is looked at for what else happened."""
_CONTENT = ("payload", "result", "progress", "request", "evidence", "argv", "resource")
_TELLING = frozenset(
    {
        "code",
        "decision",
        "digest",
        "effect",
        "error_code",
        "key",
        "kind",
        "model",
        "policy_version",
        "provider",
        "request_digest",
        "result_digest",
        "role",
        "state",
        "status",
        "tool",
        "verdict",
        "version",
        "wait_reason",
    }
)
"""Names in an event's payload whose texts are words of ours or ids, never what somebody said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What it is about: a task, a session, or what happened between two instants (milliseconds since 1970 UTC)."""

    task_id: str | None = None
    session_id: str | None = None
    since: int | None = None
    until: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Rows by table, the tables that have more than fits, and the span of time they are from."""

    rows: Mapping[str, list[dict[str, Any]]]
    cut: tuple[str, ...]
    since: int
    until: int
    task_ids: frozenset[str]


@dataclass(slots=True)
class _Shelf:
    """Rows on their way, each table bounded."""

    content: bool
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)

    def room(self, name: str) -> int:
        """How many more rows fit, and one that shows that there are more."""
        return ROWS - len(self.rows.setdefault(name, [])) + 1

    def add(self, name: str, found: list[sqlite3.Row]) -> None:
        """Put rows under a name, as far as they fit."""
        kept = self.rows.setdefault(name, [])
        if len(kept) + len(found) > ROWS:
            self.cut.add(name)
        kept += [_shown(row, self.content) for row in found[: ROWS - len(kept)]]


def query_of(task_id: str | None, session_id: str | None, since: int | None, until: int | None) -> Query:
    """What was asked for. Raises BadRequest unless it is exactly one of a task, a session and a beginning in time."""
    if sum(one is not None for one in (task_id, session_id, since)) != 1:
        raise BadRequest("name one of task_id, session_id and since", field="task_id")
    if until is not None and (since is None or until < since):
        raise BadRequest("until comes with since and is not before it", field="until")
    return Query(task_id=task_id, session_id=session_id, since=since, until=until)


def facts(query: Query, found: Found, now: int, content: bool) -> dict[str, Any]:
    """What the manifest says of the question and how it was answered."""
    asked = {name: value for name, value in asdict(query).items() if value is not None}
    return {
        "format": "goclaw.incident.1",
        "asked": asked,
        "made_at": now,
        "since": found.since,
        "until": found.until,
        "content": content,
        "more_than_fits": list(found.cut),
        "sqlite": sqlite3.sqlite_version,
    }


def collect(conn: sqlite3.Connection, query: Query, now: int, *, content: bool = False) -> Found:
    """Tasks, steps, events and decisions. Raises NotFound for a task or a session that is not there.

    Without `content` a text that somebody wrote, or that a tool or a model gave, is replaced by its length.
    """
    keys, since, until = _span(conn, query, now)
    shelf = _Shelf(content)
    if len(keys) > TASKS:
        shelf.cut.add("tasks")
    for key in keys[:TASKS]:
        shelf.add("tasks", conn.execute(_SQL.task_row, {"key": key}).fetchall())
        shelf.add("steps", conn.execute(_SQL.steps, {"key": key, "limit": shelf.room("steps")}).fetchall())
        shelf.add("events", conn.execute(_SQL.task_events, {"key": key, "limit": shelf.room("events")}).fetchall())
    ids = frozenset(row["id"] for row in shelf.rows.get("tasks", []))
    given = {**_ids(conn, "event", since, until), "limit": shelf.room("other_events")}
    shelf.add("other_events", conn.execute(_SQL.other_events, given).fetchall())
    given = {**_ids(conn, "audit", since, until), "limit": ROWS + 1}
    decisions = conn.execute(_SQL.decisions, given).fetchall()
    about = [row for row in decisions if row["task_id"] is None or row["task_id"] in ids]
    shelf.add("decisions", about)
    if len(decisions) > ROWS:
        shelf.cut.add("decisions")
    return Found(rows=shelf.rows, cut=tuple(sorted(shelf.cut)), since=since, until=until, task_ids=ids)


def _span(conn: sqlite3.Connection, query: Query, now: int) -> tuple[list[int], int, int]:
    """Which tasks, from when, until when."""
    if query.task_id is not None:
        row = conn.execute(_SQL.task, {"id": query.task_id}).fetchone()
        if row is None:
            raise NotFound(f"there is no task {query.task_id}", task_id=query.task_id)
        children = conn.execute(_SQL.children, {"key": row["key"], "limit": TASKS})
        keys = [row["key"], *(child["key"] for child in children)]
        return keys, row["created_at"] - AROUND_MS, (row["finished_at"] or now) + AROUND_MS
    if query.session_id is not None:
        rows = conn.execute(_SQL.of_session, {"id": query.session_id, "limit": TASKS + 1}).fetchall()
        if not rows:
            raise NotFound(f"there is no task of a session {query.session_id}", session_id=query.session_id)
        ends = [row["finished_at"] or now for row in rows]
        return [row["key"] for row in rows], rows[-1]["created_at"] - AROUND_MS, max(ends) + AROUND_MS
    since, until = query.since or 0, now if query.until is None else query.until
    touched = conn.execute(_SQL.touched, {**_ids(conn, "event", since, until), "limit": TASKS + 1})
    return [row["key"] for row in touched], since, until


def _ids(conn: sqlite3.Connection, log: str, since: int, until: int) -> dict[str, int]:
    """The ids of a log that lie between two instants."""
    top = (conn.execute(_SQL.heads).fetchone()[log] or 0) + 1
    sql = {"event": _SQL.event_from, "audit": _SQL.audit_from}[log]
    return {"first": _first_at(conn, sql, since, top), "below": _first_at(conn, sql, until + 1, top)}


def _first_at(conn: sqlite3.Connection, sql: str, instant: int, top: int) -> int:
    """The first id from an instant or later, by halving: ids rise with time."""
    low, high = 1, top
    while low < high:
        middle = (low + high) // 2
        row = conn.execute(sql, {"id": middle}).fetchone()
        if row is None or row["at"] >= instant:
            high = middle
        else:
            low = row["id"] + 1
    return low


def _shown(row: sqlite3.Row, content: bool) -> dict[str, Any]:
    """A row with its JSON read, and without content unless that was asked for."""
    shown: dict[str, Any] = {}
    for name in row.keys():  # noqa: SIM118 (a Row iterates over its values)
        value = row[name]
        if name.endswith("_json") and value is not None:
            name, value = name.removesuffix("_json"), json.loads(value)
        else:
            name = name.removesuffix("_json")
        if value is None:
            continue
        if not content and name in _CONTENT:
            value = outline(value, telling="event_type" in row.keys())  # noqa: SIM118
        shown[name] = value
    return shown


def outline(value: Any, *, telling: bool = False, name: str = "") -> Any:
    """A JSON value with its shape and numbers, its texts replaced by their lengths; with `telling` some words stay."""
    if isinstance(value, str):
        return value if telling and name in _TELLING else f"({len(value)} characters)"
    if isinstance(value, dict):
        return {key: outline(part, telling=telling, name=key) for key, part in value.items()}
    if isinstance(value, list):
        return [outline(part, telling=telling, name=name) for part in value[:100]]
    return value
