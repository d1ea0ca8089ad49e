"""The transactions of the queue, as short as a test wants them."""

from __future__ import annotations

import sqlite3
from typing import Any

from goclaw.core.intake import chat_task
from goclaw.core.outcome import Outcome, Succeeded
from goclaw.core.task import NewTask, Task
from goclaw.kernel import claiming, operations, submission, upkeep
from goclaw.kernel.claiming import Claimed, Holder
from goclaw.kernel.operations import Ended, Settled
from goclaw.kernel.submission import Submitted, Wish, as_wish
from goclaw.store import events, tasks
from tests.fakes_clock import START
from tests.scratch import BOUNDS, HOLDER, at, commit, noop


def submit(conn: sqlite3.Connection, task_id: str, new: NewTask | None = None, now: int = 0, **fields: Any) -> Task:
    """Store a noop, or `new`."""
    return commit(conn, submission.submit, new or noop(**fields), task_id, BOUNDS, START + now).task


def chat(session: str | None = "s", **fields: Any) -> NewTask:
    """A turn."""
    new = chat_task("hi", agent_id=None, session_id=session)
    return NewTask(**({name: getattr(new, name) for name in new.__slots__} | fields))


def wish(task_id: str, new: NewTask | None = None, now: int = 0, **fields: Any) -> Wish:
    """A submission for `submit_shared`, for the default agent unless it says otherwise."""
    made = new or noop(**({"agent_id": "default"} | fields))
    return as_wish(made, task_id, BOUNDS, START + now)


def share(conn: sqlite3.Connection, *wishes: Wish) -> list[Any]:
    """`submit_shared`: the id of each stored task, or the refusal."""
    done = commit(conn, submission.submit_shared, wishes)
    return [one.task.id if isinstance(one, Submitted) else one for one in done]


def claim(
    conn: sqlite3.Connection, agent: str = "default", limit: int = 100, now: int = 0, holder: Holder = HOLDER
) -> list[Claimed]:
    """Lease what may be leased."""
    return commit(conn, claiming.claim, agent, limit, holder, at(now))


def ids(claimed: list[Claimed]) -> list[str]:
    """Which tasks."""
    return [one.task.id for one in claimed]


def finish(conn: sqlite3.Connection, claimed: Claimed, outcome: Outcome | None = None, now: int = 0) -> frozenset[str]:
    """End an attempt alone; the agents that have new work."""
    return commit(conn, operations.finish, claimed.stored, outcome or Succeeded(), 0.0, START + now)[1]


def ended(claimed: Claimed, outcome: Outcome | None = None, holder: Holder | None = None, now: int = 0) -> Ended:
    """An end for `settle_shared`."""
    return Ended(claimed.stored, outcome or Succeeded(), 0.0, holder, at(now))


def settle(conn: sqlite3.Connection, *ends: Ended) -> list[Settled]:
    """End attempts together."""
    return commit(conn, operations.settle_shared, ends)


def cancel(conn: sqlite3.Connection, task_id: str, now: int = 0) -> operations.CancelAsked:
    """Cancel a task and all below it."""
    return commit(conn, operations.ask_cancel, task_id, "enough", START + now)


def limits(conn: sqlite3.Connection, **most: int) -> frozenset[str]:
    """Put limits of names in force."""
    return commit(conn, upkeep.set_limits, most, {})


def rate(conn: sqlite3.Connection, per_minute: int, agent: str = "default", kind: str = "noop") -> None:
    """Put one start rate in force."""
    commit(conn, upkeep.set_limits, {}, {(agent, kind): per_minute})


def timers(conn: sqlite3.Connection, now: int, since: int | None = None) -> upkeep.TimerRound:
    """A look at the clock."""
    return commit(conn, upkeep.run_timers, START + now, None if since is None else START + since)


def task(conn: sqlite3.Connection, task_id: str) -> Task:
    """The task as its row says."""
    found = tasks.by_id(conn, task_id)
    assert found is not None
    return found.task


def why(conn: sqlite3.Connection, *task_ids: str) -> list[str | None]:
    """What each task waits for, or its state when it does not wait."""
    rows = [task(conn, task_id) for task_id in task_ids]
    return [row.wait_reason or ("ready" if row.state == "QUEUED" else str(row.state)) for row in rows]


def story(conn: sqlite3.Connection, task_id: str) -> list[str]:
    """The events of a task."""
    return [event.event_type for event in events.read_task(conn, task_id, 0)]
