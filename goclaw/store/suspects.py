"""Tasks that may be what kills the daemon: held back for a while when it keeps dying."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from goclaw.core.event import NewEvent
from goclaw.db.queries import load_queries
from goclaw.store import events

_SQL = load_queries("suspects")


@dataclass(frozen=True, slots=True)
class Suspect:
    """A task with a death that could be claimed now."""

    key: int
    session_key: int | None
    concurrency_key: str | None


def died(conn: sqlite3.Connection) -> list[Suspect]:
    """Those who could be claimed now. Reads the whole claim index, which only a start after repeated deaths does."""
    return [Suspect(*row) for row in conn.execute(_SQL.died)]


def hold(conn: sqlite3.Connection, found: Sequence[Suspect], until: int, now: int) -> None:
    """Let them wait until `until`, each with its event."""
    for one in found:
        conn.execute(_SQL.hold, {"key": one.key, "until": until, "now": now})
    told = {"reason": "crash_loop", "available_at": until, "wait_reason": "delay"}
    events.append(
        conn,
        [NewEvent(type="task.held", task_key=one.key, session_key=one.session_key, payload=told) for one in found],
        now,
    )
