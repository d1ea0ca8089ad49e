"""Names that bound how many tasks run at once. Counted from the task rows; only the limits are rows of their own."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from goclaw.db.queries import load_queries

_SQL = load_queries("concurrency")
SHOWN_NAMES = 100
COUNTED = 10_000


@dataclass(frozen=True, slots=True)
class Name:
    """How one name stands. `ready` may be claimed and have not been; `waiting` is counted up to 10,000."""

    name: str
    limit: int
    running: int
    ready: int
    waiting: int


def room(conn: sqlite3.Connection, name: str) -> int:
    """How many more tasks of this name may be claimed; negative after its limit was lowered."""
    return int(conn.execute(_SQL.room, {"name": name}).fetchone()[0])


def displace(conn: sqlite3.Connection, name: str, order: tuple[int, int]) -> bool:
    """Park the last of those that may be claimed if it comes after `order` (rank, key); False when there is none."""
    row = conn.execute(_SQL.last_in, (name,)).fetchone()
    if row is None or (row[1], row[0]) <= order:
        return False
    return conn.execute(_SQL.park, (row[0],)).rowcount == 1


def admit(conn: sqlite3.Connection, name: str, count: int) -> set[str]:
    """Let the next `count` of a name be claimed; their agents."""
    keys = [row[0] for row in conn.execute(_SQL.waiting, (name, count)).fetchall()]
    admitted = [conn.execute(_SQL.admit, (key,)).fetchone() for key in keys]
    return {row[0] for row in admitted if row is not None}


def park_surplus(conn: sqlite3.Connection, name: str, count: int) -> None:
    """Let `count` of those that may be claimed wait again, the last ones first."""
    for _ in range(count):
        row = conn.execute(_SQL.last_in, (name,)).fetchone()
        if row is None:
            return
        conn.execute(_SQL.park, (row[0],))


def names(conn: sqlite3.Connection) -> list[str]:
    """The names that unfinished tasks have."""
    return [row[0] for row in conn.execute(_SQL.names).fetchall()]


def limits(conn: sqlite3.Connection) -> dict[str, int]:
    """How many of each configured name may run at once."""
    return {row[0]: row[1] for row in conn.execute(_SQL.limits)}


def set_limits(conn: sqlite3.Connection, given: Mapping[str, int]) -> None:
    """Replace the configured limits."""
    conn.execute(_SQL.drop_limits)
    conn.executemany(_SQL.set_limit, list(given.items()))


def overview(conn: sqlite3.Connection) -> list[Name]:
    """The first hundred names that unfinished tasks have. Costs as much with a million tasks as with a thousand."""
    found: list[Name] = []
    limited, name = limits(conn), ""
    while len(found) < SHOWN_NAMES:
        row = conn.execute(_SQL.next_name, (name,)).fetchone()
        if row is None:
            break
        name = row[0]
        running, ready = conn.execute(_SQL.taking, (name,)).fetchone()
        waiting = conn.execute(_SQL.awaiting, {"name": name, "most": COUNTED}).fetchone()[0]
        found.append(Name(name, limited.get(name, 1), running, ready, waiting))
    return found
