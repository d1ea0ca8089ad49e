"""Sessions and what is said in them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from goclaw.core.canonical import canonical_json
from goclaw.core.chat import Message, NewMessage, Text, decode_block, encode_block
from goclaw.core.event import NewEvent
from goclaw.db.queries import load_queries
from goclaw.store import events

_SQL = load_queries("sessions")
NEWEST = 2**62
"""A cursor above every key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One conversation."""

    key: int
    id: str
    agent_id: str
    created_at: int
    updated_at: int
    ended_at: int | None


def find(conn: sqlite3.Connection, session_id: str) -> Session | None:
    """The session, or None."""
    row = conn.execute(_SQL.by_id, {"id": session_id}).fetchone()
    return None if row is None else Session(**dict(row))


def ensure(conn: sqlite3.Connection, session_id: str, agent_id: str, now: int) -> Session:
    """The session; made, with its event, if absent."""
    known = find(conn, session_id)
    if known is not None:
        return known
    conn.execute(_SQL.ensure, {"id": session_id, "agent_id": agent_id, "now": now})
    made = find(conn, session_id)
    assert made is not None  # noqa: S101 (inserted in the line above)
    events.append(conn, [NewEvent(type="session.started", session_key=made.key, payload={"agent_id": agent_id})], now)
    return made


def end(conn: sqlite3.Connection, session: Session, now: int) -> None:
    """Mark the session ended; a later message opens it again."""
    conn.execute(_SQL.end, {"key": session.key, "now": now})
    events.append(conn, [NewEvent(type="session.ended", session_key=session.key)], now)


def end_named(conn: sqlite3.Connection, session_id: str, now: int) -> bool:
    """As `end`, by id; False when there is no such session."""
    session = find(conn, session_id)
    if session is not None:
        end(conn, session, now)
    return session is not None


def page(conn: sqlite3.Connection, limit: int, cursor: int | None) -> list[Session]:
    """Up to `limit` sessions, newest first, with keys below `cursor`."""
    given = {"cursor": NEWEST if cursor is None else cursor, "limit": limit}
    return [Session(**dict(row)) for row in conn.execute(_SQL.page, given)]


def add_messages(
    conn: sqlite3.Connection, session_key: int, task_key: int, messages: Sequence[NewMessage], now: int
) -> None:
    """Store messages of a task in order, each with its event. Those of a turn that began stand in that turn."""
    turn = turn_bounds(conn, session_key, task_key)[0] or None
    _add(conn, (session_key, task_key, turn), messages, now)


def add_note(conn: sqlite3.Connection, session_key: int, task_key: int, place: int, text: str, now: int) -> None:
    """Store a notice of the house about a task where the conversation stands now.

    `place` is the id of the event that caused it: turns are numbered by event ids, so it comes after every turn that
    has begun, and no prompt that was pinned before holds it.
    """
    _add(conn, (session_key, task_key, place), [NewMessage(role="system", blocks=(Text(text),))], now)


def _add(conn: sqlite3.Connection, at: tuple[int, int, int | None], messages: Sequence[NewMessage], now: int) -> None:
    session_key, task_key, turn = at
    told = []
    for message in messages:
        text = "".join(block.text for block in message.blocks if isinstance(block, Text))
        cursor = conn.execute(
            _SQL.add_message,
            {
                "session_key": session_key,
                "task_key": task_key,
                "turn": turn,
                "role": message.role,
                "tokens": message.tokens,
                "now": now,
                "text": text,
                "content_json": canonical_json([encode_block(block) for block in message.blocks]),
            },
        )
        payload = {"message_id": cursor.lastrowid, "role": message.role}
        told.append(NewEvent(type="message.added", task_key=task_key, session_key=session_key, payload=payload))
    if told:
        events.append(conn, told, now)
        conn.execute(_SQL.touch, {"key": session_key, "now": now})


def history(conn: sqlite3.Connection, session_key: int, limit: int, before: int | None) -> list[dict[str, Any]]:
    """The newest page of messages below `before`, ascending, as the wire's items."""
    given = {"session_key": session_key, "limit": limit, "before": NEWEST if before is None else before}
    rows = conn.execute(_SQL.history, given).fetchall()
    items = []
    for row in reversed(rows):
        item = dict(row)
        item["content"] = json.loads(item.pop("content_json"))
        items.append(item)
    return items


def open_turn(conn: sqlite3.Connection, task_key: int, turn: int) -> None:
    """Give the input of a turn its place in the conversation; a turn that began before keeps its own."""
    conn.execute(_SQL.open_turn, {"task_key": task_key, "turn": turn})


def turn_bounds(conn: sqlite3.Connection, session_key: int, task_key: int) -> tuple[int, int]:
    """(turn, newest message id): together they name what the turn is told, for ever."""
    row = conn.execute(_SQL.turn_bounds, {"session_key": session_key, "task_key": task_key}).fetchone()
    return row["turn"] or 0, row["upto"] or 0


def turn_history(conn: sqlite3.Connection, session_key: int, turn: int, upto: int) -> tuple[Message, ...]:
    """The messages within those bounds, the turn's own input last. Inputs that wait are not among them."""
    rows = conn.execute(_SQL.of_turn, {"session_key": session_key, "turn": turn, "upto": upto})
    return tuple(
        Message(row["role"], tuple(decode_block(block) for block in json.loads(row["content_json"]))) for row in rows
    )


def pin_part(conn: sqlite3.Connection, part_hash: str, body: str) -> None:
    """Keep a prompt part."""
    conn.execute(_SQL.pin_part, {"hash": part_hash, "body": body})


def prompt_part(conn: sqlite3.Connection, part_hash: str) -> str | None:
    """A kept prompt part, or None."""
    row = conn.execute(_SQL.part, {"hash": part_hash}).fetchone()
    return None if row is None else str(row[0])
