"""What holds back a task that may be claimed: a pause, or a rate that is used up. Its own row does not say it."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from goclaw.core.task import Task, TaskState
from goclaw.store import rates, tasks


@dataclass(frozen=True, slots=True)
class Holds:
    """What held the claim at an instant: pauses as (scope, name), used up rates as (agent, kind)."""

    pauses: frozenset[tuple[str, str]] = frozenset()
    used_up: frozenset[tuple[str, str]] = frozenset()

    def reason(self, task: Task) -> str | None:
        """`paused`, `rate`, or what the task itself says; a pause comes first."""
        if task.state is not TaskState.QUEUED or task.wait_reason is not None:
            return task.wait_reason
        if self.pauses & {("all", ""), ("agent", task.agent_id), ("kind", task.kind)}:
            return "paused"
        return "rate" if (task.agent_id, task.kind) in self.used_up else None


NOTHING = Holds()


def holds(conn: sqlite3.Connection, now: int) -> Holds:
    """What holds the claim now."""
    used_up = frozenset((rate.agent_id, rate.kind) for rate in rates.limits(conn) if not rate.room(now))
    return Holds(frozenset(tasks.pauses(conn)), used_up)
