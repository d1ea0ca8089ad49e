"""Facts about the database itself."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from goclaw.store import meta
from tests.scratch import commit, scratch


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    conn = scratch(tmp_path / "d.db")
    yield conn
    conn.close()


def test_a_value_can_be_set_and_set_again(conn: sqlite3.Connection) -> None:
    assert meta.get(conn, "a") is None
    commit(conn, meta.put, "a", "1")
    commit(conn, meta.put, "a", "2")
    assert meta.get(conn, "a") == "2"


@pytest.mark.spec("GC-DATA-112")
def test_a_log_keeps_its_id_and_knows_how_the_last_stop_was(conn: sqlite3.Connection) -> None:
    first = commit(conn, meta.open_log, "log-1", 10)
    assert (first.log_id, first.clean) == ("log-1", True)
    assert not meta.closed(conn)
    second = commit(conn, meta.open_log, "log-2", 20)
    assert (second.log_id, second.clean) == ("log-1", False), "nobody closed it"
    commit(conn, meta.close_log)
    assert meta.closed(conn)
    third = commit(conn, meta.open_log, "log-3", 30)
    assert (third.log_id, third.clean) == ("log-1", True)


@pytest.mark.spec("GC-REL-210")
def test_unclean_stops_are_kept_with_the_instant_of_the_start_that_found_them(conn: sqlite3.Connection) -> None:
    assert commit(conn, meta.open_log, "log", 10).unclean_stops == ()
    assert commit(conn, meta.open_log, "log", 20).unclean_stops == (20,)
    assert commit(conn, meta.open_log, "log", 30).unclean_stops == (20, 30)
    commit(conn, meta.close_log)
    assert commit(conn, meta.open_log, "log", 40).unclean_stops == (20, 30)
    assert meta.unclean_stops(conn) == (20, 30)


@pytest.mark.spec("GC-REL-210")
def test_unclean_stops_are_bounded_and_those_ahead_of_the_clock_are_forgotten(conn: sqlite3.Connection) -> None:
    for now in range(100, 100 + meta.STOPS_KEPT + 6):
        opened = commit(conn, meta.open_log, "log", now)
    assert len(opened.unclean_stops) == meta.STOPS_KEPT
    assert opened.unclean_stops[-1] == 100 + meta.STOPS_KEPT + 5
    assert commit(conn, meta.open_log, "log", 7).unclean_stops == (7,), "the wall clock was set back"
