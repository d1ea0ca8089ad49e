"""Facts about the database itself: the id of its log, and whether it was closed in peace."""

from __future__ import annotations

import sqlite3

from goclaw.db.queries import load_queries

_SQL = load_queries("meta")


def get(conn: sqlite3.Connection, name: str) -> str | None:
    """The value, or None."""
    row = conn.execute(_SQL["get"], {"name": name}).fetchone()
    return None if row is None else str(row[0])


def put(conn: sqlite3.Connection, name: str, value: str) -> None:
    """Set the value."""
    conn.execute(_SQL.put, {"name": name, "value": value})


def open_log(conn: sqlite3.Connection, fresh_id: str) -> tuple[str, bool]:
    """The id of this event log (`fresh_id` when it has none yet) and whether the last stop was clean.

    From here to `close_log` the database counts as open: a crash leaves it so.
    """
    log_id = get(conn, "log_id")
    if log_id is None:
        put(conn, "log_id", fresh_id)
    clean = get(conn, "open") in (None, "0")
    put(conn, "open", "1")
    return log_id or fresh_id, clean


def close_log(conn: sqlite3.Connection) -> None:
    """Record a clean stop."""
    put(conn, "open", "0")


def quick_check(conn: sqlite3.Connection) -> str | None:
    """The first damage SQLite's quick_check finds, or None. Takes about 3 ms a megabyte."""
    row = conn.execute("PRAGMA quick_check(1)").fetchone()
    return None if row is None or row[0] == "ok" else str(row[0])
