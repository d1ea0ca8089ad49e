"""In a crash loop, tasks that were running at an unclean stop wait, so that others get done first. One transaction."""

from __future__ import annotations

from goclaw.db import Connection
from goclaw.kernel import admission
from goclaw.store import suspects


def hold_suspects(conn: Connection, until: int, now: int) -> int:
    """Let every queued task with a death wait until `until`, visibly; how many there are.

    A turn keeps its place: its session waits with it. A task that leaves a name (concurrency_key) lets the next one in,
    which waits too if it has died.
    """
    held = 0
    while found := suspects.died(conn):
        suspects.hold(conn, found, until, now)
        for name in {one.concurrency_key for one in found if one.concurrency_key is not None}:
            admission.balance(conn, name)
        held += len(found)
    return held
