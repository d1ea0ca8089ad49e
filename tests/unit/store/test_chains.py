"""The two logs are held together by hashes: what was changed, put in or taken out shows, and nothing else is blamed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from goclaw.core.event import NewEvent
from goclaw.store import audit, events, sessions
from goclaw.store.chains import AUDIT, EVENTS, PAGE, ChainWalk, Finding, first_break, walk
from tests.fakes_clock import START
from tests.scratch import commit, scratch, tell


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    conn = scratch(tmp_path / "d.db")
    yield conn
    conn.close()


@pytest.mark.spec("GC-DATA-109")
@pytest.mark.parametrize(
    ("harm", "found"),
    [
        ("UPDATE event SET payload_json = '{\"n\":9}' WHERE id = 4", [Finding("event", 4, "payload changed")]),
        ("UPDATE event SET payload_json = NULL, digest = NULL WHERE id = 4", [Finding("event", 4, "row changed")]),
        ("UPDATE event SET payload_json = NULL WHERE id = 4", [Finding("event", 4, "payload missing")]),
        ("UPDATE event SET type = 'policy.denied' WHERE id = 3", [Finding("event", 3, "row changed")]),
        ("UPDATE event SET created_at = created_at + 1 WHERE id = 3", [Finding("event", 3, "row changed")]),
        ("UPDATE event SET state_to = 'FAILED' WHERE id = 3", [Finding("event", 3, "row changed")]),
        ("UPDATE event SET chain = zeroblob(32) WHERE id = 3", [Finding("event", 3, "row changed")]),
        ("DELETE FROM event WHERE id = 3", [Finding("event", 3, "missing")]),
        ("DELETE FROM event WHERE id = 1", [Finding("event", 1, "missing")]),
        ("DELETE FROM event WHERE id BETWEEN 3 AND 700", [Finding("event", 3, "missing, up to 700")]),
        ("UPDATE event SET type = 'b' WHERE id = 1200", [Finding("event", 1200, "row changed")]),
    ],
)
def test_a_row_that_was_changed_or_is_missing_shows(conn: sqlite3.Connection, harm: str, found: list[Finding]) -> None:
    tell(conn, 3 * PAGE)
    assert walk(conn, EVENTS) == []
    assert conn.execute(harm).rowcount >= 1
    assert walk(conn, EVENTS) == found
    assert first_break(conn) == found[0]


@pytest.mark.spec("GC-DATA-109")
def test_after_a_row_whose_own_chain_value_is_lost_too_the_next_cannot_be_trusted_either(
    conn: sqlite3.Connection,
) -> None:
    tell(conn, 5)
    conn.execute("UPDATE event SET type = 'b', chain = zeroblob(32) WHERE id = 2")
    assert walk(conn, EVENTS) == [Finding("event", 2, "row changed"), Finding("event", 3, "row changed")]


@pytest.mark.spec("GC-DATA-109")
def test_a_row_that_moved_to_the_end_is_missing_where_it_was_and_strange_where_it_is(conn: sqlite3.Connection) -> None:
    tell(conn, 5)
    conn.execute("UPDATE event SET id = 9 WHERE id = 3")
    assert [str(one) for one in walk(conn, EVENTS)] == ["event 3: missing", "event 6: missing, up to 8"]


@pytest.mark.spec("GC-DATA-109")
def test_a_row_that_was_rewritten_with_its_own_link_shows_at_the_next(conn: sqlite3.Connection) -> None:
    tell(conn, 5)
    row = conn.execute("SELECT * FROM event WHERE id = 3").fetchone()
    (before,) = conn.execute("SELECT chain FROM event WHERE id = 2").fetchone()
    columns = (3, "policy.denied", *tuple(row)[2:8])
    chain = events.link(before, columns, row["digest"])
    conn.execute("UPDATE event SET type = 'policy.denied', chain = ? WHERE id = 3", (chain,))
    assert walk(conn, EVENTS) == [Finding("event", 4, "row changed")]


@pytest.mark.spec("GC-DATA-109")
def test_an_inserted_row_shows(conn: sqlite3.Connection) -> None:
    tell(conn, 5)
    conn.execute("INSERT INTO event (id, type, created_at, chain) VALUES (6, 'a', 0, zeroblob(32))")
    assert walk(conn, EVENTS) == [Finding("event", 6, "row changed")]


@pytest.mark.spec("GC-DATA-109")
def test_neighbouring_columns_cannot_be_moved_into_each_other(conn: sqlite3.Connection) -> None:
    commit(conn, sessions.ensure, "s", "default", START)
    told = NewEvent(type="a", session_key=1, state_to="QUEUED")
    commit(conn, events.append, [told], START)
    conn.execute("UPDATE event SET state_from = state_to, state_to = NULL WHERE id = 2")
    assert walk(conn, EVENTS) == [Finding("event", 2, "row changed")]


@pytest.mark.spec("GC-DATA-203")
def test_the_audit_log_is_held_in_the_same_way(conn: sqlite3.Connection) -> None:
    for n in range(PAGE + 5):
        entry = (START + n, "client", "acp.mutate", f"r{n}", ["a"], "allow", "it is allowed", "v", None, None)
        commit(conn, audit.append, entry)
    assert walk(conn, AUDIT) == []
    conn.execute("UPDATE audit_log SET resource = 'other' WHERE id = 7")
    conn.execute("DELETE FROM audit_log WHERE id = 503")
    assert [str(one) for one in walk(conn, AUDIT)] == ["audit_log 7: row changed", "audit_log 503: missing"]


def test_an_empty_log_is_whole(conn: sqlite3.Connection) -> None:
    assert walk(conn, EVENTS) == walk(conn, AUDIT) == []
    assert first_break(conn) is None


def test_a_walk_stops_at_the_head_it_found(conn: sqlite3.Connection) -> None:
    tell(conn, 2 * PAGE)
    chain, found = ChainWalk(EVENTS), list[Finding]()
    pages = 1
    while chain.page(conn, found.append):
        tell(conn, PAGE)
        pages += 1
    assert (pages, chain.rows, found) == (2, 2 * PAGE, [])
