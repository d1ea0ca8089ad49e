"""A consistent copy of the database while others write it, and connections that cannot change the file they read.

The copy is made by `VACUUM INTO` on a read-only connection of its own: one snapshot, compact, and no restart however
much is written meanwhile. SQLite's stepwise backup starts over whenever another connection commits; under load it was
measured never to finish (docs/backup.md).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from goclaw.db.damage import is_damage
from goclaw.errors import StoreCorrupt, StoreFull, StoreOpen

MOST_DAMAGE = 20
"""How many lines of SQLite's integrity check are kept."""


def copy_database(source: Path, target: Path) -> None:
    """Write a copy of `source`, as of one commit, to the new file `target`. Blocks; holds up no writer.

    While it runs the WAL is not taken up into the database, so it grows by what is written meanwhile. The copy is not
    synced. Raises StoreFull, StoreCorrupt or StoreOpen; what is left of the target is the caller's to remove.
    """
    try:
        with open_read_only(source) as conn:
            conn.execute("VACUUM INTO ?", (str(target),))
    except sqlite3.Error as error:
        raise _judged(error, source) from None


def check_integrity(path: Path) -> list[str]:
    """What SQLite's integrity check and foreign key check say against the file; empty when it is whole. Blocks."""
    try:
        with open_read_only(path) as conn:
            said = [str(row[0]) for row in conn.execute(f"PRAGMA integrity_check({MOST_DAMAGE})")]
            problems = [] if said == ["ok"] else said
            for row in conn.execute("PRAGMA foreign_key_check"):
                if len(problems) >= MOST_DAMAGE:
                    break
                problems.append(f"row {row[1]} of {row[0]} names a row of {row[2]} that is not there")
            return problems
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            return [str(error)]
        raise _judged(error, path) from None


def schema_of(path: Path) -> int:
    """The schema version of the file. Raises StoreCorrupt, StoreOpen."""
    try:
        with open_read_only(path) as conn:
            return int(conn.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.Error as error:
        raise _judged(error, path) from None


@contextmanager
def open_read_only(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection of its own that changes nothing, not even by the checkpoint that others make when they close."""
    # With no WAL beside it the file is complete in itself; `immutable` then keeps SQLite from making one.
    alone = not path.with_name(f"{path.name}-wal").exists()
    uri = f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if alone else ''}"
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)) as conn:
        conn.row_factory = sqlite3.Row
        yield conn


def _judged(error: sqlite3.Error, path: Path) -> StoreFull | StoreCorrupt | StoreOpen:
    if is_damage(error):
        return StoreCorrupt(f"{path.name} is damaged ({error})")
    if getattr(error, "sqlite_errorname", "") == "SQLITE_FULL":
        return StoreFull()
    return StoreOpen(f"{path} cannot be copied: {error}")
