"""Facts about the database itself: the id of its log, whether it was closed in peace, and how often it was not."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass

from goclaw.db.queries import load_queries

_SQL = load_queries("meta")
STOPS_KEPT = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What a start finds: the id of the log, how the last stop was, and the unclean stops kept (milliseconds since
    1970 UTC, oldest first; the instant of one is that of the start that found it)."""

    log_id: str
    clean: bool
    unclean_stops: tuple[int, ...]


def get(conn: sqlite3.Connection, name: str) -> str | None:
    """The value, or None."""
    row = conn.execute(_SQL["get"], {"name": name}).fetchone()
    return None if row is None else str(row[0])


def put(conn: sqlite3.Connection, name: str, value: str) -> None:
    """Set the value."""
    conn.execute(_SQL.put, {"name": name, "value": value})


def open_log(conn: sqlite3.Connection, fresh_id: str, now: int) -> Opened:
    """Open this event log, which gets `fresh_id` when it has no id yet.

    From here to `close_log` the database counts as open: a crash leaves it so, and the next start writes it down. At
    most 20 unclean stops are kept. One that lies ahead of `now` is forgotten: the wall clock was set back, and how
    long ago it was is not known.
    """
    log_id = get(conn, "log_id")
    if log_id is None:
        put(conn, "log_id", fresh_id)
    clean = get(conn, "open") in (None, "0")
    stops = [stop for stop in unclean_stops(conn) if stop <= now]
    if not clean:
        stops = [*stops, now][-STOPS_KEPT:]
        put(conn, "unclean_stops", json.dumps(stops))
    put(conn, "open", "1")
    return Opened(log_id=log_id or fresh_id, clean=clean, unclean_stops=tuple(stops))


def close_log(conn: sqlite3.Connection) -> None:
    """Record a clean stop."""
    put(conn, "open", "0")


def closed(conn: sqlite3.Connection) -> bool:
    """Whether the last stop was clean, or there was none yet."""
    return get(conn, "open") in (None, "0")


def unclean_stops(conn: sqlite3.Connection) -> tuple[int, ...]:
    """The unclean stops that are kept, oldest first."""
    return tuple(json.loads(get(conn, "unclean_stops") or "[]"))
