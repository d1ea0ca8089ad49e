"""Giving work out: leases, and the start in the same commit. Transactions of the queue.

What may be claimed stands in an index in claim order; what waits, is delayed or is blocked stands outside, so a claim
costs the same with a thousand tasks and with a million.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from goclaw.core.event import NewEvent, said
from goclaw.core.settle import DEATHS_UNTIL_ALONE
from goclaw.core.step import Step
from goclaw.core.task import TURN_KINDS, Task, TaskState
from goclaw.db import Connection
from goclaw.store import events, rates, sessions, steps, tasks
from goclaw.store.tasks import Lane, Lease, Stored

_S = TaskState


class Now(NamedTuple):
    """The instant of an operation on both clocks, in milliseconds."""

    wall: int
    monotonic: int


class Claimed(NamedTuple):
    """A task with its lease and its journal so far."""

    stored: Stored
    steps: Mapping[str, Step]

    @property
    def task(self) -> Task:
        """The task as claimed."""
        return self.stored.task


@dataclass(frozen=True, slots=True)
class Holder:
    """Who claims: the boot, how long a lease lasts, the policy in force, and how wide each agent's lane is."""

    boot_id: str
    lease_ms: int
    policy_version: str
    lanes: Mapping[str, int]


def claim(conn: Connection, agent_id: str, limit: int, holder: Holder, now: Now) -> list[Claimed]:
    """Give up to `limit` tasks of the agent a lease and start them: CLAIMED and RUNNING in one commit.

    Never more than its lane has room for; how many it holds is counted from the rows.
    """
    lane = tasks.lane(conn, agent_id)
    if lane is None:
        return []
    limit = min(limit, holder.lanes.get(agent_id, 0) - lane.held)
    if limit <= 0:
        return []
    alone = _around_suspects(conn, agent_id, holder, now.wall) if lane.suspects else None
    keys = _next_keys(conn, agent_id, lane, limit, now.wall) if alone is None else alone
    return _start(conn, keys, lane, holder, now) if keys else []


def _next_keys(conn: Connection, agent_id: str, lane: Lane, limit: int, now: int) -> list[int]:
    limits = {kind: limit if rate is None else rate.room(now) for kind, rate in lane.kinds.items()}
    return tasks.next_keys(conn, agent_id, {kind: room for kind, room in limits.items() if room > 0}, limit)


def _around_suspects(conn: Connection, agent_id: str, holder: Holder, now: int) -> list[int] | None:
    """A task that was running at two unclean stops runs alone: nobody starts beside it, and it waits for the others."""
    held, deaths = tasks.held(conn)
    if held and deaths >= DEATHS_UNTIL_ALONE:
        return []
    # As a pause does, a rate that is used up steps over it.
    waiting = tasks.suspect(conn, list(holder.lanes))
    alone = next((one for one in waiting if rates.room(conn, one[1], one[2], now, 1)), None)
    if alone is None:
        return None
    return [] if held or alone[1] != agent_id else [alone[0]]


def _start(conn: Connection, keys: Sequence[int], lane: Lane, holder: Holder, now: Now) -> list[Claimed]:
    lease = Lease(
        owner=holder.boot_id,
        token=events.head(conn) + 1,  # the id of the claim's own event: rising, never reused
        until=now.monotonic + holder.lease_ms,
        expires=now.wall + holder.lease_ms,
        policy_version=holder.policy_version,
    )
    started, journaled = tasks.claim(conn, keys, lease, now.wall)
    told: list[NewEvent] = []
    for stored in started:
        task, session = stored.task, stored.session_key
        token, attempt = task.lease_token, said(attempt=task.attempt)
        told.append(NewEvent("task.claimed", task.key, session, _S.QUEUED, _S.CLAIMED, token, attempt))
        told.append(NewEvent("task.running", task.key, session, _S.CLAIMED, _S.RUNNING, token))
    events.append(conn, told, now.wall)
    for kind, rate in lane.kinds.items():
        if rate is not None and (count := sum(one.task.kind == kind for one in started)):
            rates.charge(conn, rate, count, now.wall)
    for stored in started:
        if stored.task.kind in TURN_KINDS:
            sessions.open_turn(conn, stored.task.key, stored.task.lease_token or 0)
    journals = steps.load_many(conn, journaled) if journaled else {}
    return [Claimed(stored, journals.get(stored.task.key, {})) for stored in started]
