"""The numbers of the status page, from one snapshot."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from goclaw.store import concurrency, events, purge, rates, removed, space, tasks
from goclaw.store.concurrency import Name
from goclaw.store.rates import Rate
from goclaw.store.space import Space


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """How the queue stands. `queued` is by agent; `pauses` are (scope, name)."""

    queued: dict[str, int]
    running: int
    retry_wait: int
    dead_letters: int
    pauses: tuple[tuple[str, str], ...]
    head: int
    removed_upto: int
    """The highest event id that retention has removed."""
    space: Space
    names: tuple[Name, ...]
    """The concurrency_keys of unfinished tasks."""
    rates: tuple[Rate, ...]
    unscrubbed: int
    """Purges after which the file was not rewritten yet."""


def overview(conn: sqlite3.Connection) -> Overview:
    """All numbers by index, none by scanning the table."""
    counts = tasks.counts(conn)
    return Overview(
        queued=tasks.depths(conn),
        running=counts["running"],
        retry_wait=counts["retry_wait"],
        dead_letters=counts["dead_letters"],
        pauses=tuple(tasks.pauses(conn)),
        head=events.head(conn),
        removed_upto=removed.floor(conn),
        space=space.measure(conn),
        names=tuple(concurrency.overview(conn)),
        rates=tuple(rates.limits(conn)),
        unscrubbed=purge.unscrubbed(conn),
    )


def sqlite_version() -> str:
    """The SQLite library of this process."""
    return sqlite3.sqlite_version
