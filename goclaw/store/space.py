"""The size of the file: what is free inside it, giving that back, and leaving no trace of what was removed."""

from __future__ import annotations

import sqlite3
import struct
from dataclasses import dataclass
from pathlib import Path

_MAGIC = b"SQLite format 3\x00"
INCREMENTAL = 2
"""`PRAGMA auto_vacuum`: free pages can be given back in steps."""
STEP_PAGES = 256
SLACK_PAGES = 2_048
"""Free pages that are not worth a write: the next rows take them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """Sizes in bytes: the database as it is after a checkpoint, and what is free inside it."""

    file_bytes: int
    free_bytes: int
    returnable: bool
    """Whether free pages can be given back without rewriting the file."""


def measure(conn: sqlite3.Connection) -> Space:
    """How large the file is, and how much of it is free."""
    size, pages, free = (_pragma(conn, name) for name in ("page_size", "page_count", "freelist_count"))
    returnable = _pragma(conn, "auto_vacuum") == INCREMENTAL
    return Space(file_bytes=size * pages, free_bytes=size * free, returnable=returnable)


def header(path: Path) -> Space | None:
    """The same from the first bytes of the file (SQLite file format, 1.3), as of its last checkpoint; None where there
    is no database. Opens nothing that a daemon could notice. Raises OSError."""
    try:
        with path.open("rb") as file:
            head = file.read(100)
    except FileNotFoundError:
        return None
    if len(head) < 100 or not head.startswith(_MAGIC):
        return None
    size = struct.unpack(">H", head[16:18])[0]
    pages, free = (struct.unpack(">I", head[at : at + 4])[0] for at in (28, 36))
    returnable = any(head[52:56]) and any(head[64:68])
    size = 65_536 if size == 1 else size
    return Space(file_bytes=size * pages, free_bytes=size * free, returnable=returnable)


def excess(conn: sqlite3.Connection) -> int:
    """Free pages that should be given back: those beyond a tenth of the file and 2,048; 0 when they cannot be."""
    if _pragma(conn, "auto_vacuum") != INCREMENTAL:
        return 0
    slack = max(SLACK_PAGES, _pragma(conn, "page_count") // 10)
    return max(_pragma(conn, "freelist_count") - slack, 0)


def give_back(conn: sqlite3.Connection) -> int:
    """Cut up to 256 free pages off the end of the file, in a transaction of the writer; how many are still too many."""
    for _ in range(min(STEP_PAGES, excess(conn))):
        # A page each: the statement has no columns, so Python takes the first step of it for all.
        conn.execute("PRAGMA incremental_vacuum(1)")
    return excess(conn)


def take_up(conn: sqlite3.Connection) -> None:
    """Checkpoint, outside of a transaction: only now does the file become shorter."""
    conn.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def rewrite(conn: sqlite3.Connection) -> bool:
    """Write the whole file anew and empty the write-ahead log, so that neither holds a byte of what was removed.

    Outside of a transaction; the writer does nothing else meanwhile: about 1 s for 100 MB. It takes as much room on the
    disk again. False when a reader kept the old log in use: then it is to be done again.
    """
    conn.execute("PRAGMA auto_vacuum = INCREMENTAL")
    # In a file: in memory it would take as much of that as the database is large.
    conn.execute("PRAGMA temp_store = FILE")
    try:
        conn.execute("VACUUM")
    finally:
        conn.execute("PRAGMA temp_store = MEMORY")
    busy = conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    return not busy


def wal_bytes(path: Path) -> int:
    """The size of the write-ahead log beside a database."""
    log = path.with_name(f"{path.name}-wal")
    return log.stat().st_size if log.exists() else 0


def _pragma(conn: sqlite3.Connection, name: str) -> int:
    return int(conn.execute(f"PRAGMA {name}").fetchone()[0])
