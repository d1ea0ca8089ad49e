"""Who of those that wait may be claimed: the heads of sessions, and as many of a name as may run at once.

A task that may not be claimed yet stands QUEUED with its wait_reason, outside of the claim index. Whoever makes room
lets the next one in, in the same transaction. How many hold a name is counted from the rows themselves, so there is
nothing that could leak.
"""

from __future__ import annotations

from goclaw.db import Connection
from goclaw.store import concurrency, tasks


def blocker(
    conn: Connection, session_key: int | None, place: int | None, name: str | None, order: tuple[int, int]
) -> str | None:
    """Why a task that enters the queue now may not be claimed: another one's session, or its name is taken.

    `place` is None unless it takes part in the order of its session. The task itself is not yet among the rows that
    stand in the queue. Of one name the first in claim order (`order`: rank, key) go first: one behind it that may be
    claimed makes way.
    """
    if place is not None and session_key is not None:
        head = tasks.session_head(conn, session_key)
        if head is not None and head[1] < place:
            return "session"
    if name is None or concurrency.room(conn, name) > 0:
        return None
    return None if concurrency.displace(conn, name, order) else "concurrency"


def next_of_session(conn: Connection, session_key: int) -> set[str]:
    """The session's head is gone: let the new one in; the agents that have new work."""
    head = tasks.session_head(conn, session_key)
    if head is None:
        return set()
    found = tasks.by_key(conn, head[0])
    if found.task.wait_reason != "session":
        return set()
    reason = blocker(conn, None, None, found.task.concurrency_key, (found.rank, found.task.key))
    agent = tasks.unblock(conn, head[0], reason)
    return {agent} if agent and reason is None else set()


def balance(conn: Connection, name: str) -> set[str]:
    """Let in as many of a name as there is room for, or let those wait that are too many; the agents that have new
    work. Who runs is left alone."""
    room = concurrency.room(conn, name)
    if room < 0:
        concurrency.park_surplus(conn, name, -room)
    return concurrency.admit(conn, name, room) if room > 0 else set()
