"""Is the file whole? Looked at before a daemon writes its first byte, and never with a connection that could write."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from goclaw.db.damage import is_damage
from goclaw.store import meta

CHECKED_AT_ONCE_BYTES = 64 * 1024 * 1024
"""quick_check takes about 2 ms a megabyte: up to here a start waits for it, and no longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a look at the file showed. `checked` is False when a check is due that takes too long for a start."""

    clean: bool
    damage: str | None
    checked: bool


def look(path: Path, *, suspect: bool = False) -> Found:
    """How the database at `path` was left, and whether it is whole where that is not certain.

    After a clean stop nothing is checked, unless the file is `suspect`: then it is checked at any size. A file that is
    absent, empty, not ours or cannot be read shows nothing here: the opening itself refuses it. Changes no byte.
    """
    try:
        if not path.stat().st_size:
            return Found(clean=True, damage=None, checked=True)
        with _reading(path) as conn:
            clean = meta.closed(conn)
            size = path.stat().st_size
            if clean and not suspect:
                return Found(clean=True, damage=None, checked=True)
            if size > CHECKED_AT_ONCE_BYTES and not suspect:
                return Found(clean=clean, damage=None, checked=False)
            return Found(clean=clean, damage=_whole(conn), checked=True)
    except (OSError, sqlite3.Error):
        return Found(clean=True, damage=None, checked=True)


def check_by_table(path: Path, stopped: Callable[[], bool]) -> str | None:
    """The first damage in the file, looked for table by table; None when there is none, or `stopped()` says so.

    Between two tables the snapshot is let go, so that the WAL can be taken up again. Not looked at: the list of free
    pages, and pages that two tables claim. A part of the file that cannot be read counts as damage. Blocks; call it on
    a thread of its own.
    """
    try:
        with _reading(path) as conn:
            for (name,) in conn.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
                if stopped():
                    return None
                if damage := _verdict(conn, f"PRAGMA quick_check({name})"):
                    return damage
    except sqlite3.DatabaseError as error:
        if is_damage(error) or "disk I/O" in str(error):
            return str(error)
        raise
    return None


def unclean_stops(path: Path) -> tuple[int, ...]:
    """The unclean stops recorded in the file that nobody serves; empty where it cannot be read."""
    with suppress(OSError, sqlite3.Error), _reading(path) as conn:
        return meta.unclean_stops(conn)
    return ()


def _whole(conn: sqlite3.Connection) -> str | None:
    try:
        return _verdict(conn, "PRAGMA quick_check(1)")
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            return str(error)
        raise


def _verdict(conn: sqlite3.Connection, pragma: str) -> str | None:
    rows = conn.execute(pragma).fetchall()
    told = str(rows[0][0]) if rows else "ok"
    return None if told == "ok" else told.replace("\n", "; ")[:500]


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that cannot write, not even the checkpoint that others make when they close."""
    # With no WAL beside it the file is complete in itself; `immutable` then keeps SQLite from making one.
    alone = not path.with_name(f"{path.name}-wal").exists()
    uri = f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if alone else ''}"
    conn = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    try:
        yield conn
    finally:
        conn.close()
