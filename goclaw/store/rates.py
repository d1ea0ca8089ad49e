"""Rate limits: how many attempts of an agent and kind may start in a minute.

The generic cell rate algorithm (ITU-T I.371, annex A): one instant for each limit says from when on the next start is
on time. An idle minute allows a burst of one minute's starts. The instant is a row, so a restart does not forget it;
one that a turned-back clock has left too far ahead counts as one minute ahead at most.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from goclaw.db.queries import load_queries

_SQL = load_queries("rates")
MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class Rate:
    """A limit in force. `due_at`: when the next start is on time, in milliseconds since 1970 UTC."""

    agent_id: str
    kind: str
    per_minute: int
    due_at: float

    def room(self, now: int) -> int:
        """How many may start now."""
        ahead = min(max(self.due_at - now, 0.0), MINUTE_MS)
        # A thousandth of a millisecond makes up for what binary fractions lose.
        return int((MINUTE_MS - ahead + 0.001) * self.per_minute / MINUTE_MS)

    def is_ahead(self, now: int) -> bool:
        """Whether the clock was turned back: no start that was allowed leads further ahead than a minute."""
        return self.due_at > now + MINUTE_MS

    def opens_at(self, now: int) -> int:
        """The first instant from `now` on at which one may start."""
        ahead = min(max(self.due_at - now, 0.0), MINUTE_MS)
        return now + max(0, math.ceil(ahead + MINUTE_MS / self.per_minute - MINUTE_MS))


def room(conn: sqlite3.Connection, agent_id: str, kind: str, now: int, most: int) -> int:
    """How many attempts may start now, up to `most`."""
    row = conn.execute(_SQL.of_agent_and_kind, (agent_id, kind)).fetchone()
    return most if row is None else min(most, Rate(agent_id, kind, *row).room(now))


def charge(conn: sqlite3.Connection, rate: Rate, starts: int, now: int) -> None:
    """Count so many starts."""
    ahead = min(max(rate.due_at - now, 0.0), MINUTE_MS)
    conn.execute(_SQL.charge, (now + ahead + starts * MINUTE_MS / rate.per_minute, rate.agent_id, rate.kind))


def pull_back(conn: sqlite3.Connection, now: int) -> None:
    """After the clock was turned back: nothing stays used up for longer than a minute."""
    conn.execute(_SQL.pull_back, {"most": now + MINUTE_MS})


def limits(conn: sqlite3.Connection) -> list[Rate]:
    """The limits in force."""
    return [Rate(*row) for row in conn.execute(_SQL.limits)]


def set_limits(conn: sqlite3.Connection, given: Mapping[tuple[str, str], int]) -> None:
    """Make these the limits of (agent, kind). What has been used of one that stays is still used."""
    for rate in limits(conn):
        if (rate.agent_id, rate.kind) not in given:
            conn.execute(_SQL.drop_limit, (rate.agent_id, rate.kind))
    conn.executemany(_SQL.set_limit, [(agent_id, kind, most) for (agent_id, kind), most in given.items()])
