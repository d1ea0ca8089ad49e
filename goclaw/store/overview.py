"""The numbers of the status page, from one snapshot."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from goclaw.store import events, tasks


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """How the queue stands. `queued` is by agent; `pauses` are (scope, name)."""

    queued: dict[str, int]
    running: int
    retry_wait: int
    dead_letters: int
    pauses: tuple[tuple[str, str], ...]
    head: int


def overview(conn: sqlite3.Connection) -> Overview:
    """All numbers by index, none by scanning the table."""
    counts = tasks.counts(conn)
    return Overview(
        queued=tasks.depths(conn),
        running=counts["running"],
        retry_wait=counts["retry_wait"],
        dead_letters=counts["dead_letters"],
        pauses=tuple(tasks.pauses(conn)),
        head=events.head(conn),
    )


def sqlite_version() -> str:
    """The SQLite library of this process."""
    return sqlite3.sqlite_version
