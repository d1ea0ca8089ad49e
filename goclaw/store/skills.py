"""What is remembered of skills beyond restarts: faults in a row, and quarantine."""

from __future__ import annotations

import sqlite3

from goclaw.db.queries import load_queries

_SQL = load_queries("skills")


def record_fault(conn: sqlite3.Connection, name: str, version: str, limit: int, now: int) -> int:
    """Count one fault of this version; the faults in a row, this one included."""
    given = {"name": name, "hash": version, "limit": limit, "now": now}
    return int(conn.execute(_SQL.fault, given).fetchone()[0])


def clear(conn: sqlite3.Connection, name: str, now: int) -> None:
    """Forget the faults of a skill."""
    conn.execute(_SQL.clear, {"name": name, "now": now})


def states(conn: sqlite3.Connection) -> list[tuple[str, str, int, bool]]:
    """(name, version, faults, quarantined) of every skill that ever failed."""
    rows = conn.execute(_SQL.all)
    return [(row["name"], row["hash"], row["faults"], row["state"] == "quarantined") for row in rows]
