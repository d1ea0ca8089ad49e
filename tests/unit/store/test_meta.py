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
    assert commit(conn, meta.open_log, "log-1") == ("log-1", True)
    assert commit(conn, meta.open_log, "log-2") == ("log-1", False), "nobody closed it"
    commit(conn, meta.close_log)
    assert commit(conn, meta.open_log, "log-3") == ("log-1", True)
