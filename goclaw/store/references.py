"""Who still refers to an artifact or a part of a prompt: both are named by a SHA-256 in the texts that are kept.

There is no table of references: it would cost a write with every step, and is needed once in a while.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Collection, Sequence
from typing import Literal

from goclaw.db.queries import load_queries
from goclaw.store.sessions import NEWEST

_SQL = load_queries("references")
_SHA256 = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
PAGE = 200
Where = Literal["steps", "messages", "inputs", "results"]
WHERE: tuple[Where, ...] = ("steps", "messages", "inputs", "results")
"""Where references stand."""


def hashes(text: str) -> set[str]:
    """Everything in a text that may be such a name."""
    return set(_SHA256.findall(text))


def referred(
    conn: sqlite3.Connection, where: Where, names: Collection[str], below: int = NEWEST
) -> tuple[set[str], int | None]:
    """Which of `names` a page of texts refers to, from `below` down; and where the next page begins, None at the
    end."""
    texts, following = _texts(conn, where, below)
    return {one for text in texts for one in hashes(text) if one in names}, following


def said(
    conn: sqlite3.Connection, where: Where, pieces: Collection[str], below: int = NEWEST
) -> tuple[set[str], int | None]:
    """As `referred`, for any pieces of text."""
    texts, following = _texts(conn, where, below)
    return {piece for piece in pieces if any(piece in text for text in texts)}, following


def _texts(conn: sqlite3.Connection, where: Where, below: int) -> tuple[list[str], int | None]:
    sql = {"steps": _SQL.steps, "messages": _SQL.messages, "inputs": _SQL.inputs, "results": _SQL.results}[where]
    rows = conn.execute(sql, {"below": below, "limit": PAGE}).fetchall()
    texts = [text for row in rows for text in tuple(row)[1:] if text is not None]
    return texts, rows[-1]["key"] if len(rows) == PAGE else None


def parts(conn: sqlite3.Connection, after: str = "") -> dict[str, str]:
    """Up to 200 prompt parts behind the name `after`, in the order of their names; what each says."""
    return {row["hash"]: row["body"] for row in conn.execute(_SQL.parts, {"after": after, "limit": PAGE})}


def newest_step(conn: sqlite3.Connection) -> int:
    """The highest id of a step: where a later look goes on."""
    return int(conn.execute(_SQL.newest_step).fetchone()[0] or 0)


def remove_parts(conn: sqlite3.Connection, names: Sequence[str], seen: int) -> int:
    """Take away prompt parts that nothing referred to when the step `seen` was the newest. How many went.

    None goes while a turn runs, or when too much has been written since: the next look decides.
    """
    if conn.execute(_SQL.turn_runs).fetchone() is not None:
        return 0
    found, below = referred(conn, "steps", names)
    if below is not None and below > seen:
        return 0
    return sum(conn.execute(_SQL.drop_part, {"hash": name}).rowcount for name in names if name not in found)
