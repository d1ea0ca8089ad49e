"""Which ids of the two chained logs are gone, and what the chain was at the end of each hole.

A log is verified over a hole by taking up the chain value that its range kept. The ranges themselves are held by a
seal: the XOR of a hash of each range, written into the audit log in the commit that changes them.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from goclaw.db.queries import load_queries
from goclaw.store import audit, meta

_SQL = load_queries("removed")
_SEAL = "removed_seal"
_PAGE = 1_000
RETENTION = "data.retention"
PURGE = "data.purge"

Log = Literal["event", "audit"]
Row = tuple[int, bytes]
"""(id, chain) of a row that goes."""


@dataclass(frozen=True, slots=True)
class Removed:
    """The ids `first` to `last` are gone; `chain` is the chain value of the row `last`."""

    first: int
    last: int
    chain: bytes

    @property
    def count(self) -> int:
        """How many rows: ids are consecutive."""
        return self.last - self.first + 1


def ranges(conn: sqlite3.Connection, log: Log) -> Iterator[Removed]:
    """The removed ranges of a log in order; they neither overlap nor touch."""
    cursor = 0
    while rows := conn.execute(_SQL.all, {"log": log, "cursor": cursor, "limit": _PAGE}).fetchall():
        for row in rows:
            yield Removed(row["first_id"], row["last_id"], row["chain"])
        cursor = rows[-1]["first_id"]


def floor(conn: sqlite3.Connection, log: Log = "event") -> int:
    """The highest id that was removed from the log, 0 when none was. A cursor below it may have missed something."""
    row = conn.execute(_SQL.highest, {"log": log}).fetchone()
    return int(row[0]) if row else 0


def seal(conn: sqlite3.Connection) -> str:
    """The seal of the ranges as they stand, computed from all of them."""
    value = 0
    logs: tuple[Log, ...] = ("event", "audit")
    for log in logs:
        for one in ranges(conn, log):
            value ^= _mark(log, one)
    return f"{value:064x}"


def note(conn: sqlite3.Connection, log: Log, rows: Sequence[Row], now: int) -> None:
    """Record that these rows (in the order of their ids) are gone. `tell` must follow in the same transaction."""
    value = int(meta.get(conn, _SEAL) or "0", 16)
    for one in _runs(rows):
        value ^= _merge(conn, log, one, now)
    meta.put(conn, _SEAL, f"{value:064x}")


def tell(conn: sqlite3.Connection, capability: str, resource: str, said: Sequence[str], now: int) -> None:
    """The audit row of a removal. `said` are words such as `tasks=3`; the seal of the ranges is added."""
    argv = [*said, f"seal={meta.get(conn, _SEAL) or '0' * 64}"]
    reason = "retention" if capability == RETENTION else "a person asked for it"
    audit.append(conn, (now, "goclaw", capability, resource, argv, "allow", reason, "", None, None))


def audit_head(conn: sqlite3.Connection) -> int:
    """The id of the newest audit row, 0 in an empty log."""
    return int(conn.execute(_SQL.last_audit).fetchone()[0] or 0)


def _runs(rows: Sequence[Row]) -> list[Removed]:
    """The rows as runs of consecutive ids."""
    if not rows:
        return []
    found, first = [], rows[0][0]
    for (row_id, chain), (following, _) in pairwise(rows):
        if following != row_id + 1:
            found.append(Removed(first, row_id, chain))
            first = following
    return [*found, Removed(first, *rows[-1])]


def _merge(conn: sqlite3.Connection, log: Log, one: Removed, now: int) -> int:
    """Store a range, joined with those it touches; how the seal changes."""
    change = 0
    row = conn.execute(_SQL.before, {"log": log, "id": one.first}).fetchone()
    if row is not None and row["last_id"] == one.first - 1:
        change ^= _forget(conn, log, row)
        one = Removed(row["first_id"], one.last, one.chain)
    row = conn.execute(_SQL["at"], {"log": log, "id": one.last + 1}).fetchone()
    if row is not None:
        change ^= _forget(conn, log, row)
        one = Removed(one.first, row["last_id"], row["chain"])
    given = {"log": log, "first_id": one.first, "last_id": one.last, "chain": one.chain, "now": now}
    conn.execute(_SQL.insert, given)
    return change ^ _mark(log, one)


def _forget(conn: sqlite3.Connection, log: Log, row: sqlite3.Row) -> int:
    conn.execute(_SQL.delete, {"log": log, "first_id": row["first_id"]})
    return _mark(log, Removed(row["first_id"], row["last_id"], row["chain"]))


def _mark(log: Log, one: Removed) -> int:
    text = f"{log} {one.first} {one.last} {one.chain.hex()}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")
