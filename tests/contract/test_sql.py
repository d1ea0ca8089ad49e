"""Every named query against the migrated schema: it compiles, it is used, and the hot ones use their index."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from goclaw.db.queries import load_queries
from tests.scratch import scratch

ROOT = Path(__file__).parents[2]
STORE = ROOT / "goclaw" / "store"
FILES = sorted(path.stem for path in STORE.glob("*.sql"))
QUERIES = [(file, name) for file in FILES for name in load_queries(file)]

GROWING = ("task", "task_input", "event", "step", "message", "session", "audit_log", "occurrence", "prompt_part")
"""Tables that grow with use: no query may read one of them from end to end."""

HOT = {
    "tasks.claim": ["task USING INTEGER PRIMARY KEY (rowid=?)"],
    "tasks.next_of_kind": ["task USING INDEX task_claim (agent_id=? AND kind=?)"],
    "tasks.succeed": ["task USING INTEGER PRIMARY KEY (rowid=?)"],
    "tasks.suspects": ["task USING INDEX task_suspect"],
    "tasks.lane": ["task USING INDEX task_held (agent_id=?)"],
    "tasks.by_unique_key": ["task USING INDEX task_unique (unique_key=?)"],
    "tasks.claimed": ["t USING INTEGER PRIMARY KEY (rowid=?)"],
    "concurrency.room": ["task USING INDEX task_concurrency (concurrency_key=? AND wait_reason=?)"],
    "concurrency.last_in": ["task USING INDEX task_concurrency (concurrency_key=? AND wait_reason=?)"],
    "concurrency.waiting": ["task USING INDEX task_concurrency (concurrency_key=? AND wait_reason=?)"],
    "steps.of_tasks": ["step USING INDEX sqlite_autoindex_step_1 (task_key=?)"],
    "tasks.suspect": ["task USING INDEX task_suspect"],
    "tasks.held": ["task USING INDEX task_held"],
    "tasks.due": ["task USING COVERING INDEX task_wake (wake_at<?)"],
    "tasks.next_wake": ["task USING COVERING INDEX task_wake (wake_at>?)"],
    "tasks.session_head": ["task USING INDEX task_session (session_key=? AND place>?)"],
    "tasks.renew": ["task USING INDEX task_held"],
    "tasks.expired": ["task USING INDEX task_held"],
    "tasks.orphans": ["task USING INDEX task_held"],
    "tasks.transition": ["task USING INTEGER PRIMARY KEY (rowid=?)"],
    "tasks.holds": ["task USING INTEGER PRIMARY KEY (rowid=?)"],
    "tasks.by_id": ["t USING INDEX sqlite_autoindex_task_1 (id=?)"],
    "tasks.by_idempotency_key": ["t USING INDEX task_idempotency (idempotency_key=?)"],
    "tasks.depth": ["queue_depth USING PRIMARY KEY (agent_id=?)"],
    "tasks.counts": [
        "task USING INDEX task_held",
        "task USING INDEX task_wake (wake_at>?)",
        "task USING INDEX task_dead",
    ],
    "events.after": ["e USING INTEGER PRIMARY KEY (rowid>?)"],
    "events.of_task": ["e USING INDEX event_task (task_key=? AND rowid>?)"],
    "events.of_session": ["e USING INDEX event_session (session_key=? AND rowid>?)"],
    "steps.of_task": ["step USING INDEX sqlite_autoindex_step_1 (task_key=?)"],
    "steps.running_unsafe": ["step USING INDEX sqlite_autoindex_step_1 (task_key=?)"],
    "sessions.by_id": ["session USING INDEX sqlite_autoindex_session_1 (id=?)"],
    "sessions.of_turn": ["message USING INDEX message_session (session_key=?"],
    "sessions.history": ["m USING INDEX message_session (session_key=? AND rowid<?)"],
}
NEWEST_ROW = {"events.last", "events.oldest", "audit.last"}
"""One row from an end of the table: a scan that stops at once."""

SORTED = {"steps.of_task", "steps.of_tasks", "steps.running_unsafe", "sessions.of_turn"}
"""The rows of one task or one session are sorted in memory; nothing else is."""


@pytest.fixture(scope="module")
def conn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    with closing(scratch(tmp_path_factory.mktemp("sql") / "d.db")) as conn:
        yield conn


def plan(conn: sqlite3.Connection, sql: str) -> list[str]:
    names = set(re.findall(r":([a-z_]+)", sql))
    given: Any = dict.fromkeys(names) if names else [None] * sql.count("?")
    return [row["detail"] for row in conn.execute(f"EXPLAIN QUERY PLAN {sql}", given)]


def aliases(sql: str) -> dict[str, str]:
    """The names under which a statement reads its tables."""
    named = re.findall(
        r"\b(?:FROM|JOIN|UPDATE|INTO)\s+(\w+)(?:\s+(?!ON\b|SET\b|WHERE\b|INDEXED\b|LEFT\b|JOIN\b)(\w+))?", sql
    )
    return {alias or table: table for table, alias in named} | {table: table for table, _ in named}


@pytest.mark.spec("GC-DATA-114")
@pytest.mark.parametrize(("file", "name"), QUERIES)
def test_a_query_fits_the_schema_and_reads_no_growing_table_from_end_to_end(
    conn: sqlite3.Connection, file: str, name: str
) -> None:
    sql = load_queries(file)[name]
    scans = [re.match(r"SCAN (\w+)(?! USING)\b", detail) for detail in plan(conn, sql)]
    tables = {aliases(sql).get(scan.group(1), scan.group(1)) for scan in scans if scan and " USING" not in scan.string}
    assert f"{file}.{name}" in NEWEST_ROW or not tables & set(GROWING)


@pytest.mark.spec("GC-DATA-114")
@pytest.mark.parametrize("query", HOT)
def test_a_hot_query_uses_its_index(conn: sqlite3.Connection, query: str) -> None:
    file, _, name = query.partition(".")
    details = plan(conn, load_queries(file)[name])
    for wanted in HOT[query]:
        assert any(wanted in detail for detail in details), details
    assert query in SORTED or not [detail for detail in details if "TEMP B-TREE" in detail], details


@pytest.mark.parametrize("query", sorted(NEWEST_ROW))
def test_a_scan_for_one_row_stops_at_once(query: str) -> None:
    file, _, name = query.partition(".")
    assert re.search(r"ORDER BY id( DESC)? LIMIT 1$", load_queries(file)[name])


@pytest.mark.parametrize("file", FILES)
def test_every_query_is_used_and_every_used_one_is_there(file: str) -> None:
    modules = [path.read_text() for path in STORE.glob("*.py") if f'load_queries("{file}")' in path.read_text()]
    assert modules, "nobody loads it"
    used = {first or second for text in modules for first, second in re.findall(r'_SQL(?:\.(\w+)|\["(\w+)"\])', text)}
    assert used == set(load_queries(file))


@pytest.mark.parametrize("file", FILES)
def test_every_query_says_what_it_is_for(file: str) -> None:
    blocks = re.findall(r"^-- name: (\w+)\n((?:--.*\n)+)", (STORE / f"{file}.sql").read_text(), re.MULTILINE)
    assert [name for name, intent in blocks if len(intent) < 12 or not intent.rstrip().endswith(".")] == []


def test_the_plans_are_the_same_in_a_large_table(conn: sqlite3.Connection) -> None:
    """Statistics must not talk SQLite out of the claim index: `PRAGMA optimize` runs at every clean stop."""
    conn.execute("SAVEPOINT large")
    conn.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)"
        " INSERT INTO task (id, kind, agent_id, state, priority, rank, available_at, max_attempts, created_at,"
        " updated_at, finished_at) SELECT 't' || i, 'noop', 'default', iif(i % 10, 'SUCCEEDED', 'QUEUED'), 0, i, i,"
        " 3, i, i, iif(i % 10, i, NULL) FROM n"
    )
    conn.execute("ANALYZE")
    try:
        for query, indexes in HOT.items():
            if query.startswith("tasks."):
                details = plan(conn, load_queries("tasks")[query.partition(".")[2]])
                for wanted in indexes:
                    assert any(wanted.split(" (")[0] in detail for detail in details), (query, details)
    finally:
        conn.execute("ROLLBACK TO large")
        conn.execute("RELEASE large")
