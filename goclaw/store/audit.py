"""Who was allowed or refused what, by which version of the policy. Append only, held together by a hash chain."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from goclaw.core.canonical import canonical_json
from goclaw.db.queries import load_queries
from goclaw.store.sessions import NEWEST

_SQL = load_queries("audit")
_GENESIS = bytes(32)

Entry = tuple[int, str, str, str, Sequence[str], str, str, str, str | None, str | None]
"""(at, subject, capability, resource, argv, verdict, reason, policy_version, pinned_version, task_id)"""


def append(conn: sqlite3.Connection, entry: Entry) -> None:
    """Add one decision at the end of the chain."""
    last = conn.execute(_SQL.last).fetchone()
    row_id, chain = (last["id"] + 1, last["chain"]) if last else (1, _GENESIS)
    columns = (row_id, *entry[:4], canonical_json(list(entry[4])), *entry[5:])
    conn.execute(_SQL.insert, (*columns, link(chain, columns)))


def tail(conn: sqlite3.Connection, limit: int, before: int | None = None) -> list[dict[str, Any]]:
    """The newest decisions, oldest first."""
    rows = conn.execute(_SQL.tail, {"limit": limit, "before": NEWEST if before is None else before}).fetchall()
    shown = []
    for row in reversed(rows):
        item = dict(row)
        item["argv"] = json.loads(item.pop("argv_json"))
        shown.append(item)
    return shown


def keep_policy(conn: sqlite3.Connection, version: str, rules_json: str, now: int) -> None:
    """Remember the rules behind a version."""
    conn.execute(_SQL.keep_policy, {"version": version, "rules_json": rules_json, "now": now})


def policies(conn: sqlite3.Connection, limit: int) -> dict[str, str]:
    """The most recent versions with their rules as JSON."""
    return {row["version"]: row["rules_json"] for row in conn.execute(_SQL.policies, {"limit": limit})}


def link(previous: bytes, columns: Sequence[Any]) -> bytes:
    """The chain value of a row: over the one before it and the row's other columns."""
    text = "\x1f".join("" if column is None else str(column) for column in columns)
    return hashlib.sha256(previous + text.encode("utf-8", "surrogatepass")).digest()
