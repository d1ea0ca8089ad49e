"""The two logs that are held together by hashes, walked from end to end: which row was changed, is missing or cut off.

Every chain value covers the one before it, so a row cannot be changed, taken out or put in without a trace. A log that
is cut off at its end looks whole; it shows against a head that was noted elsewhere: each log notes the other's head
(`goclaw.store.heads`), and every backup notes both. Not detectable: somebody who rewrites both logs, and every note of
their heads, from the changed row on.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from goclaw.db.queries import load_queries
from goclaw.store import audit, events
from goclaw.store.removed import PURGE, RETENTION, floor

_SQL = load_queries("verify")
PAGE = 500
"""Rows looked at in one snapshot: a few milliseconds."""
NOTED_EVENT = "log.noted"
"""The event that notes the head of the audit log."""
NOTED_CAPABILITY = "log.head"
"""The capability of the audit row that notes the head of the event log."""

LogName = Literal["event", "audit"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it must be: a table (or `file`), the row (an id, a name) and what is wrong with it."""

    table: str
    row: int | str
    what: str

    def __str__(self) -> str:
        return f"{self.table} {self.row}: {self.what}"


Found = Callable[[Finding], None]


@dataclass(frozen=True, slots=True)
class Head:
    """The newest row of a log and its chain value; 0 and zeros in an empty log."""

    id: int
    chain: bytes


@dataclass(frozen=True, slots=True)
class Log:
    """One of the two logs: its tables and how a row is linked."""

    name: LogName
    table: str
    page: str
    head: str
    chain: str
    link: Callable[[bytes, sqlite3.Row], bytes]


def _link_event(previous: bytes, row: sqlite3.Row) -> bytes:
    return events.link(previous, tuple(row)[:8], row["digest"])


def _link_audit(previous: bytes, row: sqlite3.Row) -> bytes:
    return audit.link(previous, tuple(row)[:-1])


EVENTS = Log("event", "event", _SQL.events, _SQL.event_head, _SQL.event_chain, _link_event)
AUDIT = Log("audit", "audit_log", _SQL.audit_rows, _SQL.audit_head, _SQL.audit_chain, _link_audit)


def head(conn: sqlite3.Connection, log: Log) -> Head:
    """Where the log ends."""
    row = conn.execute(log.head).fetchone()
    return Head(row["id"], row["chain"]) if row else Head(0, events.GENESIS)


def compare_noted(conn: sqlite3.Connection, log: Log, noted: Head, by: str) -> Finding | None:
    """Whether the log still holds the row that `by` has noted as its head, with that very chain value."""
    row = conn.execute(log.chain, {"id": noted.id}).fetchone()
    if row is not None:
        same = row["chain"] == noted.chain
        return None if same else Finding(log.table, noted.id, f"rewritten: {by} notes another chain value")
    end = head(conn, log).id
    if noted.id <= end or noted.id == 0:
        return None  # a hole in the middle is the walk's affair
    return Finding(log.table, end + 1, f"cut off: the log ends at {end}, but {by} notes {noted.id}")


class ChainWalk:
    """Walks one log up to the head it had at the first page. Constant memory.

    `rows` counts what was seen; `seal` is that of the last audit row that seals the removed ranges.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._upto: int | None = None
        self._cursor = 0
        # What the next row may follow; None where that is not known. After a row that does not fit there are two:
        # what it says itself and what it should have said, so that the row after it is not blamed as well.
        self._previous: tuple[bytes, ...] | None = (events.GENESIS,)
        self.rows = 0
        self.seal = "0" * 64

    @property
    def cursor(self) -> int:
        """The last id that was seen, or is known to be gone."""
        return self._cursor

    def page(self, conn: sqlite3.Connection, found: Found) -> bool:
        """Look at the next rows in the caller's snapshot; False when the end is reached."""
        if self._upto is None:
            self._upto = head(conn, self._log).id
            removed = floor(conn, self._log.name)
            if removed > self._upto:
                found(Finding("removed_range", removed, f"lies behind the end of {self._log.table}"))
        behind = self._cursor
        rows = conn.execute(self._log.page, {"cursor": self._cursor, "limit": PAGE}).fetchall()
        if not rows:
            return False
        holes = self._holes(conn, rows[-1]["id"])
        for row in rows:
            holes = self._cross(row["id"], holes, found)
            self._check(conn, row, found)
        self.rows += len(rows)
        if self._log is EVENTS:
            _find_strays(conn, behind, self._cursor, found)
        return len(rows) == PAGE and self._cursor < self._upto

    def _holes(self, conn: sqlite3.Connection, upto: int) -> list[sqlite3.Row]:
        given = {"log": self._log.name, "cursor": self._cursor, "upto": upto}
        return conn.execute(_SQL.holes, given).fetchall()

    def _cross(self, row_id: int, holes: list[sqlite3.Row], found: Found) -> list[sqlite3.Row]:
        """Go on to the row, over the ranges that are known to be gone; the ranges that lie behind it."""
        for number, hole in enumerate(holes):
            if hole["first_id"] > row_id:
                holes = holes[number:]
                break
            if hole["last_id"] >= row_id:
                found(Finding(self._log.table, row_id, "is there, although it is recorded as removed"))
                continue
            self._miss(hole["first_id"] - 1, found)
            self._cursor, self._previous = hole["last_id"], (hole["chain"],)
        else:
            holes = []
        self._miss(row_id - 1, found)
        return holes

    def _miss(self, upto: int, found: Found) -> None:
        if upto <= self._cursor:
            return
        first = self._cursor + 1
        many = "missing" if upto == first else f"missing, up to {upto}"
        found(Finding(self._log.table, first, many))
        self._cursor, self._previous = upto, None

    def _check(self, conn: sqlite3.Connection, row: sqlite3.Row, found: Found) -> None:
        links = [self._log.link(one, row) for one in self._previous or ()]
        self._cursor = row["id"]
        self._previous = (row["chain"],)
        if links and row["chain"] not in links:
            found(Finding(self._log.table, row["id"], "row changed"))
            self._previous = (row["chain"], links[0])
        if self._log is EVENTS:
            problem = _payload_problem(conn, row)
            if problem is not None:
                found(Finding("event", row["id"], problem))
            elif row["type"] == NOTED_EVENT:
                _look(conn, AUDIT, _noted_audit(row["payload_json"]), f"event {row['id']}", found)
        elif row["capability"] == NOTED_CAPABILITY:
            _look(conn, EVENTS, _noted_event(row["resource"]), f"audit row {row['id']}", found)
        elif row["capability"] in (RETENTION, PURGE):
            self.seal = seal_of(row["argv_json"]) or self.seal


def seal_of(argv_json: str) -> str | None:
    """The seal of the removed ranges in the arguments of an audit row, or None."""
    words = parsed(argv_json)
    found = [word for word in words if str(word).startswith("seal=")] if isinstance(words, list) else []
    return str(found[-1]).removeprefix("seal=") if found else None


def parsed(text: str | None) -> Any:
    """JSON from a row that may have been changed by hand; None where it is none: the chain tells of that row."""
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return None


def walk(conn: sqlite3.Connection, log: Log, limit: int = 100) -> list[Finding]:
    """Everything that is wrong with one log, at most `limit` of it. For a database that nobody writes."""
    findings: list[Finding] = []
    chain = ChainWalk(log)
    while chain.page(conn, findings.append) and len(findings) < limit:
        pass
    return findings[:limit]


def first_break(conn: sqlite3.Connection) -> Finding | None:
    """The first thing that is wrong with the two logs, or None. For tests and drills."""
    return next(_breaks(conn), None)


def _breaks(conn: sqlite3.Connection) -> Iterator[Finding]:
    for log in (EVENTS, AUDIT):
        yield from walk(conn, log, 1)


def _look(conn: sqlite3.Connection, log: Log, noted: Head | None, by: str, found: Found) -> None:
    finding = None if noted is None else compare_noted(conn, log, noted, by)
    if finding is not None:
        found(finding)


def _noted_event(resource: str) -> Head | None:
    """The head of the event log as an audit row notes it: event:ID:CHAIN."""
    words = resource.split(":")
    return _head_of(*words[1:]) if len(words) == 3 else None


def _noted_audit(payload: str | None) -> Head | None:
    said = parsed(payload)
    return _head_of(said.get("audit_id"), said.get("audit_chain")) if isinstance(said, dict) else None


def _head_of(number: Any, chain: Any) -> Head | None:
    try:
        return Head(int(number), bytes.fromhex(chain))
    except (ValueError, TypeError):
        return None


def _payload_problem(conn: sqlite3.Connection, row: sqlite3.Row) -> str | None:
    payload, digest = row["payload_json"], row["digest"]
    if payload is not None:
        whole = hashlib.sha256(payload.encode("utf-8", "surrogatepass")).digest() == digest
        return None if whole else "payload changed"
    if digest is None:
        return None
    given = {"session_key": row["session_key"], "task_key": row["task_key"]}
    return None if conn.execute(_SQL.purged, given).fetchone() else "payload missing"


def _find_strays(conn: sqlite3.Connection, behind: int, upto: int, found: Found) -> None:
    for row in conn.execute(_SQL.strays, {"cursor": behind, "upto": upto}):
        found(Finding("event", row["id"], f"names task {row['task_key']}, which is not there"))
