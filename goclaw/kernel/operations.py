"""The transactions of the queue: plain functions that run on the writer thread.

Each is one request of a batch. A refusal of a submission is an exception (its savepoint undoes it); everything else
refuses by value. Every state change goes through `move`, which writes the row and its events together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from goclaw.core import intake
from goclaw.core.agent import DEFAULT_AGENT
from goclaw.core.event import NewEvent
from goclaw.core.outcome import Canceled, Outcome, Succeeded, Unknown
from goclaw.core.settle import DEATHS_UNTIL_ALONE, Transition, cancel, settle, static_rank
from goclaw.core.step import End, JournalEntry, Step, StepState
from goclaw.core.task import CALL_KINDS, HELD, TERMINAL, TURN_KINDS, NewTask, Task, TaskState
from goclaw.db import Connection
from goclaw.errors import Conflict, LeaseLost, NotFound, Saturated
from goclaw.store import events, sessions, steps, tasks
from goclaw.store.tasks import Lease, Placement, Stored


@dataclass(frozen=True, slots=True)
class Now:
    """The instant of an operation on both clocks, in milliseconds."""

    wall: int
    monotonic: int


@dataclass(frozen=True, slots=True)
class Claimed:
    """A task with its lease and its journal so far."""

    stored: Stored
    steps: dict[str, Step]

    @property
    def task(self) -> Task:
        """The task as claimed."""
        return self.stored.task


@dataclass(frozen=True, slots=True)
class Submitted:
    """A stored task; `known` when its idempotency key was there before."""

    task: Task
    known: bool


@dataclass(frozen=True, slots=True)
class Holder:
    """Who claims: the boot, how long a lease lasts, and the policy in force."""

    boot_id: str
    lease_ms: int
    policy_version: str


def submit(conn: Connection, new: NewTask, task_id: str, bounds: Mapping[str, int], now: int) -> Submitted:
    """Store a task with its event and its message, or find the one its idempotency key names.

    `bounds` are the known agents with their longest queues. Raises BadRequest, TooLarge, Conflict, NotFound or
    Saturated, having written nothing.
    """
    intake.check(new)
    wanted = intake.request_digest(new)
    if new.idempotency_key is not None:
        known = tasks.by_idempotency_key(conn, new.idempotency_key)
        if known is not None:
            if known[1] != wanted:
                raise Conflict("this idempotency key was used for another request", idempotency_key=new.idempotency_key)
            return Submitted(tasks.by_key(conn, known[0]).task, True)
    session_id = new.session_id or (task_id if new.kind in TURN_KINDS else None)
    agent_id = _agent(conn, new, session_id, bounds)
    if new.parent_task_id is None and tasks.depth(conn, agent_id) >= bounds[agent_id]:
        raise Saturated(f"agent {agent_id} has {bounds[agent_id]} queued tasks; send it again later")
    parent_key = _parent_key(conn, new)
    session_key = None if session_id is None else sessions.ensure(conn, session_id, agent_id, now).key
    placed = replace(new, agent_id=agent_id, session_id=session_id)
    at = _place(conn, placed, task_id, (session_key, parent_key), wanted, now)
    return Submitted(_insert(conn, placed, at, now), False)


def submit_many(
    conn: Connection, news: Sequence[tuple[NewTask, str]], bounds: Mapping[str, int], now: int
) -> list[Submitted]:
    """Store all of (task, id) or none."""
    return [submit(conn, new, task_id, bounds, now) for new, task_id in news]


def claim(
    conn: Connection, agent_id: str, limit: int, holder: Holder, served: Sequence[str], now: Now
) -> list[Claimed]:
    """Give up to `limit` tasks of the agent a lease and start them: CLAIMED and RUNNING in one commit."""
    found: list[Claimed] = []
    while len(found) < limit:
        claimed = _claim_one(conn, agent_id, holder, served, now)
        if claimed is None:
            break
        found.append(claimed)
        if claimed.task.deaths >= DEATHS_UNTIL_ALONE:
            break
    return found


def finish(
    conn: Connection, stored: Stored, outcome: Outcome, jitter: float, now: int
) -> tuple[Stored, frozenset[str]]:
    """Settle an attempt, with what it closes; the task as it stands then, and the agents that have new work.

    A stale attempt changes nothing: the task comes back as it is.
    """
    if not tasks.holds(conn, stored.task.key, stored.task.lease_token):
        return tasks.by_key(conn, stored.task.key), frozenset()
    live = tasks.by_key(conn, stored.task.key)
    closing = getattr(outcome, "closing", None)
    if closing is not None and closing.entries:
        steps.write(conn, live.task, live.session_key, closing.entries, now)
    if closing is not None and closing.messages and live.session_key is not None:
        sessions.add_messages(conn, live.session_key, live.task.key, closing.messages, now)
    if not isinstance(outcome, Succeeded | Canceled) and _began_unsafe(conn, live.task):
        # An interruption is no verdict on an effect that may not be repeated: how it ended is not known.
        outcome = Unknown("it was interrupted after its effect had begun, so how it ended is not known")
    ready = move(conn, live, settle(live.task, outcome, now, jitter), now)
    if tasks.lone_suspect(conn):
        # It waited for all others to end, whichever lane is its own.
        ready |= {"*"}
    return tasks.by_key(conn, live.task.key), ready


def record(conn: Connection, stored: Stored, entries: Sequence[JournalEntry], now: int) -> dict[str, Step]:
    """Extend the journal of a live attempt; the steps that changed. Raises LeaseLost."""
    if not tasks.holds(conn, stored.task.key, stored.task.lease_token):
        raise LeaseLost
    steps.write(conn, stored.task, stored.session_key, entries, now)
    return steps.named(conn, stored.task.key, [entry.key for entry in entries])


def finish_and_claim(  # noqa: PLR0913 (both halves' arguments; a bundle would be made for this call alone)
    conn: Connection,
    stored: Stored,
    outcome: Outcome,
    jitter: float,
    holder: Holder,
    served: Sequence[str],
    now: Now,
) -> tuple[Stored, frozenset[str], Claimed | None]:
    """`finish`, then `claim` one more of the same agent: one commit for the end, the next claim and the next start."""
    done, ready = finish(conn, stored, outcome, jitter, now.wall)
    following = claim(conn, stored.task.agent_id, 1, holder, served, now)
    return done, ready, following[0] if following else None


def report_progress(conn: Connection, stored: Stored, value: Any, now: int) -> None:
    """Record progress with its event. Raises LeaseLost."""
    if not tasks.progress(conn, stored.task.key, stored.task.lease_token, value, now):
        raise LeaseLost
    tell(conn, stored, "task.progress", {"progress": value}, now)


def ask_cancel(conn: Connection, task_id: str, reason: str | None, now: int) -> tuple[Stored, frozenset[str]]:
    """Cancel a task nobody holds, or commit the request to its holder. Raises NotFound.

    Of a held task the state that comes back is still CLAIMED or RUNNING.
    """
    stored = find(conn, task_id)
    if stored.task.state in HELD:
        tasks.request_cancel(conn, stored.task.key, reason)
        return tasks.by_key(conn, stored.task.key), frozenset()
    if stored.task.state in TERMINAL:
        return stored, frozenset()
    ready = move(conn, stored, cancel(stored.task, now, "CANCELED", reason), now)
    return tasks.by_key(conn, stored.task.key), ready


def find(conn: Connection, task_id: str) -> Stored:
    """The task. Raises NotFound."""
    stored = tasks.by_id(conn, task_id)
    if stored is None:
        raise NotFound(f"there is no task {task_id}", task_id=task_id)
    return stored


def _agent(conn: Connection, new: NewTask, session_id: str | None, bounds: Mapping[str, int]) -> str:
    """Who is to do it: the agent that is named, else the session's, else the default one."""
    session = None if session_id is None else sessions.find(conn, session_id)
    agent_id = new.agent_id or (session.agent_id if session else DEFAULT_AGENT)
    if agent_id not in bounds:
        raise NotFound(f"there is no agent {agent_id!r}; agents are {', '.join(sorted(bounds))}", agent_id=agent_id)
    if session is not None and session.agent_id != agent_id and new.kind in TURN_KINDS:
        raise Conflict(f"session {session_id} belongs to agent {session.agent_id}", session_id=session_id)
    return agent_id


def _parent_key(conn: Connection, new: NewTask) -> int | None:
    if new.parent_task_id is None:
        return None
    ancestor: Stored | None = find(conn, new.parent_task_id)
    key = ancestor.task.key if ancestor else None
    while ancestor is not None:
        if new.session_id is not None and ancestor.task.session_id == new.session_id:
            raise Conflict("a child may not use the session of its ancestor", session_id=new.session_id)
        parent = ancestor.task.parent_task_id
        ancestor = tasks.by_id(conn, parent) if parent else None
    return key


def _place(
    conn: Connection,
    new: NewTask,
    task_id: str,
    keys: tuple[int | None, int | None],
    wanted: str,
    now: int,
) -> Placement:
    session_key, parent_key = keys
    due = now + new.delay_ms
    wait_reason, place = ("delay" if new.delay_ms else None), None
    if new.kind in TURN_KINDS and session_key is not None and not new.delay_ms:
        # The event that enqueues the task names its place: event ids rise and are never reused.
        place = events.head(conn) + 1
        wait_reason = None if tasks.session_head(conn, session_key) is None else "session"
    return Placement(
        task_id=task_id,
        session_key=session_key,
        parent_key=parent_key,
        wait_reason=wait_reason,
        place=place,
        rank=static_rank(due, new.priority),
        available_at=due,
        deadline_at=None if new.deadline_ms is None else now + new.deadline_ms,
        request_digest=wanted,
    )


def _insert(conn: Connection, new: NewTask, at: Placement, now: int) -> Task:
    key = tasks.insert(conn, new, at, now)
    payload: dict[str, Any] = {"kind": new.kind, "agent_id": new.agent_id}
    if at.wait_reason:
        payload["wait_reason"] = at.wait_reason
    enqueued = NewEvent(
        type="task.enqueued",
        task_key=key,
        session_key=at.session_key,
        state_to=TaskState.QUEUED,
        payload=payload,
    )
    events.append(conn, [enqueued], now)
    if new.messages and at.session_key is not None:
        sessions.add_messages(conn, at.session_key, key, new.messages, now)
    return tasks.by_key(conn, key).task


def _claim_one(conn: Connection, agent_id: str, holder: Holder, served: Sequence[str], now: Now) -> Claimed | None:
    lease = Lease(
        owner=holder.boot_id,
        token=events.head(conn) + 1,  # the id of the claim's own event: rising, never reused
        until=now.monotonic + holder.lease_ms,
        expires=now.wall + holder.lease_ms,
        policy_version=holder.policy_version,
    )
    held, deaths = tasks.held(conn)
    if held and deaths >= DEATHS_UNTIL_ALONE:
        return None
    alone = tasks.suspect(conn, served)
    if alone is None:
        stored = tasks.claim(conn, agent_id, lease, now.wall)
    elif held or alone[1] != agent_id:
        return None
    else:
        stored = tasks.claim_suspect(conn, alone[0], lease, now.wall)
    if stored is None:
        return None
    _tell_claim(conn, stored, now.wall)
    if stored.task.kind in TURN_KINDS:
        sessions.open_turn(conn, stored.task.key, lease.token)
    return Claimed(stored, steps.load(conn, stored.task.key))


def _tell_claim(conn: Connection, stored: Stored, now: int) -> None:
    def hop(kind: str, came_from: TaskState, to: TaskState, payload: dict[str, Any]) -> NewEvent:
        return NewEvent(
            type=kind,
            task_key=stored.task.key,
            session_key=stored.session_key,
            state_from=came_from,
            state_to=to,
            token=stored.task.lease_token,
            payload=payload,
        )

    told = [
        hop("task.claimed", TaskState.QUEUED, TaskState.CLAIMED, {"attempt": stored.task.attempt}),
        hop("task.running", TaskState.CLAIMED, TaskState.RUNNING, {}),
    ]
    events.append(conn, told, now)


def move(conn: Connection, stored: Stored, change: Transition, now: int) -> frozenset[str]:
    """Write a transition and its events; the agents that have new work because of it."""
    if not tasks.transition(conn, stored, change, now, rank=stored.rank, place=stored.place):
        return frozenset()
    if change.state in TERMINAL and change.state is not TaskState.SUCCEEDED:
        _close_unsafe(conn, stored, now)
    tell_hops(conn, stored, change, now)
    ready: set[str] = set()
    if change.state is TaskState.QUEUED and change.wait_reason is None:
        ready.add(stored.task.agent_id)
    if change.state in TERMINAL and stored.place is not None and stored.session_key is not None:
        ready |= _promote(conn, stored.session_key)
    if stored.task.deaths >= DEATHS_UNTIL_ALONE or change.deaths >= DEATHS_UNTIL_ALONE:
        ready.add("*")
    return frozenset(ready)


def _close_unsafe(conn: Connection, stored: Stored, now: int) -> None:
    """Effects that had begun and may not be repeated end as unknown with their task."""
    begun = steps.running_unsafe(conn, stored.task.key)
    if begun:
        steps.write(conn, stored.task, stored.session_key, [End(key, StepState.UNKNOWN) for key in begun], now)


def _began_unsafe(conn: Connection, task: Task) -> bool:
    """Whether a task that is one call has an effect under way that may not be repeated."""
    return task.kind in CALL_KINDS and bool(steps.running_unsafe(conn, task.key))


def _promote(conn: Connection, session_key: int) -> set[str]:
    head = tasks.session_head(conn, session_key)
    agent = None if head is None else tasks.unblock(conn, head)
    return {agent} if agent else set()


def tell_hops(conn: Connection, stored: Stored, change: Transition, now: int) -> None:
    """Append the events of a transition, one for each hop."""
    task, at, told = stored.task, stored.task.state, []
    for hop in change.hops:
        told.append(
            NewEvent(
                type=hop.event,
                task_key=task.key,
                session_key=stored.session_key,
                state_from=at,
                state_to=hop.to,
                token=task.lease_token,
                payload=hop.payload,
            )
        )
        at = hop.to
    events.append(conn, told, now)


def tell(conn: Connection, stored: Stored, kind: str, payload: dict[str, Any], now: int) -> int:
    """Append one event of the task that changes no state; its id."""
    event = NewEvent(
        type=kind,
        task_key=stored.task.key,
        session_key=stored.session_key,
        token=stored.task.lease_token,
        payload=payload,
    )
    return events.append(conn, [event], now)
