"""The database rewritten while nobody serves it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from goclaw.core.ports import Clock
from goclaw.db import open_checked
from goclaw.store import purge, space


def compact(path: Path, clock: Clock) -> tuple[int, int]:
    """Rewrite the database at `path`; its size before and after, with its write-ahead log, in bytes.

    The caller holds the lock of the home. Brings an older database up to date first and raises what opening one
    raises. Free pages can be given back in steps from now on, also in a database made before that was so.
    """
    before = _size(path)
    with closing(open_checked(path, clock)) as conn:
        space.rewrite(conn)
        conn.execute("BEGIN IMMEDIATE")
        purge.mark_scrubbed(conn, clock.wall())
        conn.execute("COMMIT")
    return before, _size(path)


def _size(path: Path) -> int:
    return path.stat().st_size + space.wal_bytes(path)
