"""A conversation as its owner takes it along: every message in its order, as JSON or as Markdown."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from goclaw.db.queries import load_queries
from goclaw.store.sessions import Session

_SQL = load_queries("export")


def messages(conn: sqlite3.Connection, session_key: int, after: int, limit: int) -> list[dict[str, Any]]:
    """Up to `limit` messages behind the id `after`, oldest first, as the wire's items."""
    items = []
    for row in conn.execute(_SQL.messages, {"key": session_key, "after": after, "limit": limit}):
        item = dict(row)
        item["content"] = json.loads(item.pop("content_json"))
        items.append(item)
    return items


def head(session: Session) -> str:
    """The first lines of the Markdown."""
    return f"# Session {session.id}\n\nAgent {session.agent_id}, begun {_moment(session.created_at)}.\n"


def markdown(item: Mapping[str, Any]) -> str:
    """One message as Markdown: its words, and calls and results of tools as JSON in fences."""
    parts = [f"\n## {item['role']}, {_moment(item['created_at'])}\n"]
    for block in item["content"]:
        if block.get("type") == "text":
            parts.append(f"\n{block['text']}\n")
        else:
            body = json.dumps(block, ensure_ascii=False, indent=2)
            fence = _fence(body)
            parts.append(f"\n{fence}json\n{body}\n{fence}\n")
    return "".join(parts)


def _fence(body: str) -> str:
    """Longer than any row of backticks inside."""
    longest = run = 0
    for char in body:
        run = run + 1 if char == "`" else 0
        longest = max(longest, run)
    return "`" * max(3, longest + 1)


def _moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, tz=UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
