"""The tasks that rest and can be put back, for whoever puts back many."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from goclaw.db.queries import load_queries
from goclaw.store.tasks import TaskFilter

_SQL = load_queries("resting")


def page(conn: sqlite3.Connection, where: TaskFilter, above: int, until: int, limit: int) -> list[tuple[int, str]]:
    """Key and id of up to `limit` of them with keys above the one and up to the other, the oldest first."""
    given: Mapping[str, Any] = {
        "state": where.state,
        "kind": where.kind,
        "session_id": where.session_id,
        "agent_id": where.agent_id,
        "since": where.since,
        "above": above,
        "until": until,
        "limit": limit,
    }
    return [(row[0], row[1]) for row in conn.execute(_SQL.page, given).fetchall()]
