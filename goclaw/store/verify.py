"""Is everything in the database explained? Both logs by their chains, each task by its events, each count by its rows.

`Verification.step` looks at one page in the caller's snapshot, so the same code runs on a file that nobody serves, on
the copy in a backup, and beside a working daemon without ever holding a snapshot long. What it keeps is one task's
steps and the first findings, however large the database is.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from goclaw.core.replay import Replay, StepRow, TaskRow, Told
from goclaw.core.task import TaskState
from goclaw.db.queries import load_queries
from goclaw.store import removed
from goclaw.store.chains import AUDIT, EVENTS, ChainWalk, Finding, Found, Head, compare_noted, head, parsed, seal_of

_SQL = load_queries("verify")
PAGE_TASKS = 100
PAGE_EVENTS = 500
SPAN_TASKS = 10_000
MOST_FINDINGS = 100
"""How many are kept; all are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """The heads of both logs as somebody outside of the database has noted them, for instance a backup."""

    by: str
    event: Head
    audit: Head


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was looked at and what was found. `found` counts all findings, `findings` holds the first of them."""

    events: int
    audit_rows: int
    tasks: int
    event_head: Head
    audit_head: Head
    found: int
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Nothing was found."""
        return self.found == 0

    @property
    def chain_broken(self) -> bool:
        """Whether one of the findings is about the logs themselves."""
        return any(one.table in (EVENTS.table, AUDIT.table, "removed_range") for one in self.findings)

    def as_json(self) -> dict[str, Any]:
        """As the wire and the command line show it."""
        return {
            "ok": self.ok,
            "events": self.events,
            "audit_rows": self.audit_rows,
            "tasks": self.tasks,
            "event_head": {"id": self.event_head.id, "chain": self.event_head.chain.hex()},
            "audit_head": {"id": self.audit_head.id, "chain": self.audit_head.chain.hex()},
            "found": self.found,
            "findings": [{"table": one.table, "row": one.row, "what": one.what} for one in self.findings],
        }


class Verification:
    """One verification, page by page. Call `step` until it answers False, then read `report`."""

    def __init__(self, anchors: Sequence[Anchor] = ()) -> None:
        self._anchors = anchors
        self._events = ChainWalk(EVENTS)
        self._audit = ChainWalk(AUDIT)
        self._tasks = _TaskWalk()
        self._heads = (Head(0, b""), Head(0, b""))
        self._stage = 0
        self._found = 0
        self._findings: list[Finding] = []

    def step(self, conn: sqlite3.Connection) -> bool:
        """Look at the next page; False when all is done. A file that SQLite cannot read is a finding and the end."""
        stages = (self._begin, self._events.page, self._audit.page, self._tasks.page, self._end)
        try:
            if not stages[self._stage](conn, self._keep):
                self._stage += 1
        except sqlite3.DatabaseError as error:
            self._keep(Finding("file", "goclaw.db", str(error)))
            return False
        return self._stage < len(stages)

    @property
    def report(self) -> Report:
        """What was found so far."""
        return Report(
            events=self._events.rows,
            audit_rows=self._audit.rows,
            tasks=self._tasks.rows,
            event_head=self._heads[0],
            audit_head=self._heads[1],
            found=self._found,
            findings=tuple(self._findings),
        )

    def _keep(self, finding: Finding) -> None:
        self._found += 1
        if len(self._findings) < MOST_FINDINGS:
            self._findings.append(finding)

    def _begin(self, conn: sqlite3.Connection, found: Found) -> bool:
        self._heads = (head(conn, EVENTS), head(conn, AUDIT))
        for anchor in self._anchors:
            for log, noted in ((EVENTS, anchor.event), (AUDIT, anchor.audit)):
                if finding := compare_noted(conn, log, noted, anchor.by):
                    found(finding)
        return False

    def _end(self, conn: sqlite3.Connection, found: Found) -> bool:
        _check_seal(conn, self._audit, found)
        _check_depths(conn, found)
        return False


def verify(conn: sqlite3.Connection, anchors: Sequence[Anchor] = ()) -> Report:
    """The whole of a database that nobody writes."""
    verification = Verification(anchors)
    while verification.step(conn):
        pass
    return verification.report


def damaged(problems: Sequence[str]) -> Report:
    """The report on a file that SQLite itself finds damaged: nothing in it can be trusted."""
    found = tuple(Finding("file", "goclaw.db", problem) for problem in problems)
    none = Head(0, b"")
    return Report(events=0, audit_rows=0, tasks=0, event_head=none, audit_head=none, found=len(found), findings=found)


class _TaskWalk:
    """Every task, in the order of keys, up to the newest one at the first page."""

    def __init__(self) -> None:
        self._upto: int | None = None
        self._cursor = 0
        # The task whose events did not fit into one page: its key, its story so far, its last event.
        self._open: tuple[int, Replay, int] | None = None
        self.rows = 0

    def page(self, conn: sqlite3.Connection, found: Found) -> bool:
        """Look at the next tasks in the caller's snapshot; False when the end is reached."""
        if self._upto is None:
            self._upto = conn.execute(_SQL.newest_task).fetchone()[0]
        given = {"cursor": self._cursor, "upto": self._upto, "limit": PAGE_TASKS}
        left = PAGE_EVENTS
        rows = conn.execute(_SQL.tasks, given).fetchall()
        for row in rows:
            left = self._look(conn, row, left, found)
            if left <= 0:
                return True
        return len(rows) == PAGE_TASKS

    def _look(self, conn: sqlite3.Connection, row: sqlite3.Row, left: int, found: Found) -> int:
        """Go on with one task; how many events the page still holds, 0 when it ended within this task."""
        key, replay, after = row["key"], Replay(), 0
        if self._open is not None and self._open[0] == key:
            _, replay, after = self._open
        given = {"task_key": key, "cursor": after, "limit": left}
        told = conn.execute(_SQL.task_events, given).fetchall()
        for event in told:
            replay.take(_told(event))
        if len(told) == left:
            self._open = (key, replay, told[-1]["id"])
            return 0
        self._open, self._cursor = None, key
        self.rows += 1
        for problem in replay.compare(_task_row(row), _step_rows(conn, key)):
            found(Finding("task", row["id"], problem))
        if misplaced := _order_problem(conn, row):
            found(Finding("task", row["id"], misplaced))
        return left - max(len(told), 1)


def _order_problem(conn: sqlite3.Connection, row: sqlite3.Row) -> str | None:
    """The head of a session is not blocked by it; whoever is behind the head is blocked by something."""
    if row["place"] is None or row["finished_at"] is not None or row["session_key"] is None:
        return None
    (first,) = conn.execute(_SQL.session_head, {"session_key": row["session_key"]}).fetchone()
    if first == row["key"]:
        return "it is the head of its session and waits for it" if row["wait_reason"] == "session" else None
    if row["state"] == TaskState.QUEUED and row["wait_reason"] is not None:
        return None
    return f"it is {row['state']} although task key {first} is before it in its session"


def _check_depths(conn: sqlite3.Connection, found: Found) -> None:
    """The kept depths against the rows: the one thing that needs all tasks in one snapshot (24 ms for 100,000)."""
    counted: Counter[str] = Counter()
    for cursor in range(0, conn.execute(_SQL.newest_task).fetchone()[0], SPAN_TASKS):
        for row in conn.execute(_SQL.queued, {"cursor": cursor, "upto": cursor + SPAN_TASKS}):
            counted[f"{row['agent_id']}/{row['kind']}"] += row["queued"]
    kept = {f"{row['agent_id']}/{row['kind']}": row["queued"] for row in conn.execute(_SQL.depths)}
    for name in sorted(kept.keys() | counted.keys()):
        if kept.get(name, 0) != counted[name]:
            found(Finding("queue_depth", name, f"says {kept.get(name, 0)} queued, but {counted[name]} tasks are"))


def _check_seal(conn: sqlite3.Connection, walked: ChainWalk, found: Found) -> None:
    """The removed ranges against the newest audit row that seals them, which may have come after the walk."""
    seal: str | None = walked.seal
    for row in conn.execute(_SQL.seals, {"cursor": walked.cursor}):
        seal = seal_of(row["argv_json"]) or seal
    if removed.seal(conn) != seal:
        found(Finding("removed_range", "all", "the ranges are not those that the audit log seals"))


def _told(row: sqlite3.Row) -> Told:
    said = parsed(row["payload_json"]) if row["digest"] is not None else {}
    payload = said if isinstance(said, dict) else None
    return Told(row["id"], row["type"], row["state_from"], row["state_to"], row["token"], row["created_at"], payload)


def _task_row(row: sqlite3.Row) -> TaskRow:
    return TaskRow(
        state=row["state"],
        attempt=row["attempt"],
        deaths=row["deaths"],
        wait_reason=row["wait_reason"],
        available_at=row["available_at"],
        lease_token=row["lease_token"],
        finished_at=row["finished_at"],
        error_code=row["error_code"],
        error=row["error"],
        has_result=bool(row["has_result"]),
    )


def _step_rows(conn: sqlite3.Connection, key: int) -> Iterator[StepRow]:
    for row in conn.execute(_SQL.task_steps, {"task_key": key}):
        text = row["result_json"]
        result = None if text is None else hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        yield StepRow(
            key=row["step_key"],
            seq=row["seq"],
            state=row["state"],
            request_hash=row["request_hash"],
            result_digest=result,
        )
