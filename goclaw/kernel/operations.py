"""What happens to a task that somebody holds, and how it ends. Transactions of the queue.

Plain functions that run on the writer thread; each is a request of a batch, or several of one kind together. Whatever
an attempt comes to is judged in `core.settle`; every state change goes through `move`, or for the plain success of
many tasks at once through `tasks.succeed`, which write the row and its events together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from goclaw.core.canonical import canonical_json
from goclaw.core.event import NewEvent
from goclaw.core.outcome import NOTHING_MORE, Canceled, Outcome, Succeeded, Unknown
from goclaw.core.settle import DEATHS_UNTIL_ALONE, Transition, cancel, settle, static_rank
from goclaw.core.step import End, JournalEntry, Step, StepState
from goclaw.core.task import CALL_KINDS, HELD, TERMINAL, Task, TaskState
from goclaw.db import Connection
from goclaw.errors import LeaseLost, NotFound
from goclaw.kernel import admission
from goclaw.kernel.claiming import Claimed, Holder, Now, claim
from goclaw.store import events, sessions, steps, tasks
from goclaw.store.tasks import Stored


class Ended(NamedTuple):
    """An attempt that has ended, and who would take the agent's next task; None when nobody would."""

    stored: Stored
    outcome: Outcome
    jitter: float
    holder: Holder | None
    now: Now

    @property
    def is_plain(self) -> bool:
        """Whether it succeeded and nothing waits for its end: then it can be settled in one statement with others."""
        stored, task = self.stored, self.stored.task
        return (
            type(self.outcome) is Succeeded
            and self.outcome.closing == NOTHING_MORE
            and stored.place is None
            and task.concurrency_key is None
            and task.deaths < DEATHS_UNTIL_ALONE
        )


class Settled(NamedTuple):
    """What became of a task, the agents that have new work because of it, and the next task of its agent."""

    task: Task
    ready: frozenset[str]
    following: Claimed | None = None


class CancelAsked(NamedTuple):
    """What a request to cancel has done at once.

    The task as it stands then (one that is held is still CLAIMED or RUNNING), the agents that have new work, the keys
    of all that are held and were asked to end, and how many that had not ended stood below the task.
    """

    stored: Stored
    ready: frozenset[str]
    held: tuple[int, ...]
    below: int


def settle_shared(conn: Connection, ends: Sequence[Ended]) -> list[Settled]:
    """Settle attempts, then claim one more for each that wants it: one commit for ends, claims and starts.

    A stale attempt changes nothing: its task comes back as it is. Raises for an outcome that the store does not take.
    """
    # Of two ends of one task one is stale: they are judged one after the other.
    named = Counter(ended.stored.task.key for ended in ends)
    plain = [ended for ended in ends if ended.is_plain and named[ended.stored.task.key] == 1]
    done = _succeed(conn, plain) if plain else {}
    settled: list[tuple[Task, frozenset[str]]] = []
    for ended in ends:
        known = done.get(ended.stored.task.key)
        if known is not None:
            settled.append((known, frozenset()))
        else:
            stored, ready = finish(conn, ended.stored, ended.outcome, ended.jitter, ended.now.wall)
            settled.append((stored.task, ready))
    # One that must run alone waits for all others to end, whichever lane is its own.
    waited_for = frozenset({"*"}) if done and tasks.any_suspect(conn) else frozenset()
    following = _claim_for(conn, ends)
    if waited_for:
        settled = [(task, ready | waited_for) for task, ready in settled]
    return [Settled(task, ready, after) for (task, ready), after in zip(settled, following, strict=True)]


def _claim_for(conn: Connection, ends: Sequence[Ended]) -> list[Claimed | None]:
    """One more task for each end that wants one, as far as its agent has any. The newest clock counts for all."""
    wanted = Counter(ended.stored.task.agent_id for ended in ends if ended.holder is not None)
    last = ends[-1]
    found: dict[str, list[Claimed]] = {}
    for agent_id, count in wanted.items():
        holder = next(one.holder for one in reversed(ends) if one.holder and one.stored.task.agent_id == agent_id)
        found[agent_id] = claim(conn, agent_id, count, holder, last.now)[::-1]
    following: list[Claimed | None] = []
    for ended in ends:
        queue = found.get(ended.stored.task.agent_id) if ended.holder is not None else None
        following.append(queue.pop() if queue else None)
    return following


def _succeed(conn: Connection, ends: Sequence[Ended]) -> dict[int, Task]:
    """The plain successes, as far as their leases still hold and nobody asked to cancel; the tasks by key."""
    now = ends[-1].now.wall
    rows = []
    for ended in ends:
        task, outcome = ended.stored.task, ended.outcome
        assert isinstance(outcome, Succeeded)  # noqa: S101 (`is_plain` has looked)
        usage = task.usage if outcome.usage is None else outcome.usage
        rows.append((task.key, task.lease_token or 0, _json(outcome.result), _json(usage)))
    told = tasks.succeed(conn, rows, now)
    done: dict[int, Task] = {}
    news: list[NewEvent] = []
    for ended in ends:
        task, outcome = ended.stored.task, ended.outcome
        if task.key in told and isinstance(outcome, Succeeded):
            usage = task.usage if outcome.usage is None else outcome.usage
            done[task.key] = task.succeeded(outcome.result, usage, told[task.key], now)
            news.append(
                NewEvent(
                    "task.succeeded", task.key, ended.stored.session_key, TaskState.RUNNING, TaskState.SUCCEEDED,
                    task.lease_token,
                )
            )  # fmt: skip
    events.append(conn, news, now)
    return done


def _json(value: Any) -> str | None:
    """`value` as JSON text that a column can hold. Raises TypeError or ValueError (lone surrogates too)."""
    if value is None:
        return None
    text = canonical_json(value)
    text.encode()
    return text


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
    if tasks.any_suspect(conn):
        # One that must run alone waits for all others to end, whichever lane is its own.
        ready |= {"*"}
    return tasks.by_key(conn, live.task.key), ready


def record(conn: Connection, stored: Stored, entries: Sequence[JournalEntry], now: int) -> dict[str, Step]:
    """Extend the journal of a live attempt; the steps that changed. Raises LeaseLost."""
    if not tasks.holds(conn, stored.task.key, stored.task.lease_token):
        raise LeaseLost
    steps.write(conn, stored.task, stored.session_key, entries, now)
    return steps.named(conn, stored.task.key, [entry.key for entry in entries])


def report_progress(conn: Connection, stored: Stored, value: Any, now: int) -> None:
    """Record progress with its event. Raises LeaseLost."""
    if not tasks.progress(conn, stored.task.key, stored.task.lease_token, value, now):
        raise LeaseLost
    tell(conn, stored, "task.progress", {"progress": value}, now)


def ask_cancel(conn: Connection, task_id: str, reason: str | None, now: int) -> CancelAsked:
    """Cancel a task and all that descend from it: those nobody holds at once, the others by a request to the holder.

    Raises NotFound.
    """
    stored = find(conn, task_id)
    ready: set[str] = set()
    asked: list[int] = []
    below = tasks.descendants(conn, stored.task.key)
    for key in (stored.task.key, *below):
        one = tasks.by_key(conn, key)
        if one.task.state in HELD:
            tasks.request_cancel(conn, key, reason)
            asked.append(key)
        elif one.task.state not in TERMINAL:
            ready |= move(conn, one, cancel(one.task, now, "CANCELED", reason), now)
    return CancelAsked(tasks.by_key(conn, stored.task.key), frozenset(ready), tuple(asked), len(below))


def find(conn: Connection, task_id: str) -> Stored:
    """The task. Raises NotFound."""
    stored = tasks.by_id(conn, task_id)
    if stored is None:
        raise NotFound(f"there is no task {task_id}", task_id=task_id)
    return stored


def move(conn: Connection, stored: Stored, change: Transition, now: int) -> frozenset[str]:
    """Write a transition and its events; the agents that have new work because of it.

    Who is to wait for an instant ranks by it, and gives up its place in the order of its session.
    """
    if change.wait_reason == "delay":
        return place(conn, stored, change, now, static_rank(change.available_at, stored.task.priority), None)
    return place(conn, stored, change, now, stored.rank, stored.place)


def place(
    conn: Connection, stored: Stored, change: Transition, now: int, rank: int, place: int | None
) -> frozenset[str]:
    """As `move`, to another rank and another place in the order of its session."""
    task, session = stored.task, stored.session_key
    if change.state is TaskState.QUEUED and change.wait_reason is None:
        change = replace(change, wait_reason=_blocker(conn, stored, rank, place))
    if not tasks.transition(conn, stored, change, now, rank=rank, place=place):
        return frozenset()
    if change.state in TERMINAL and change.state is not TaskState.SUCCEEDED:
        _close_unsafe(conn, stored, now)
    tell_hops(conn, stored, change, now)
    ready: set[str] = set()
    if change.state is TaskState.QUEUED and change.wait_reason is None:
        ready.add(task.agent_id)
    if stored.place is not None and session is not None and (change.state in TERMINAL or place is None):
        ready |= admission.next_of_session(conn, session)
    if task.concurrency_key is not None:
        ready |= admission.balance(conn, task.concurrency_key)
    if task.deaths >= DEATHS_UNTIL_ALONE or change.deaths >= DEATHS_UNTIL_ALONE:
        ready.add("*")
    return frozenset(ready)


def _blocker(conn: Connection, stored: Stored, rank: int, place: int | None) -> str | None:
    task = stored.task
    if task.state not in HELD:
        return admission.blocker(conn, stored.session_key, place, task.concurrency_key, (rank, task.key))
    # Who is held has its session. For its name it lines up again: one before it may have come meanwhile, or the limit
    # may be lower now.
    return None if task.concurrency_key is None else "concurrency"


def _close_unsafe(conn: Connection, stored: Stored, now: int) -> None:
    """Effects that had begun and may not be repeated end as unknown with their task."""
    begun = steps.running_unsafe(conn, stored.task.key)
    if begun:
        steps.write(conn, stored.task, stored.session_key, [End(key, StepState.UNKNOWN) for key in begun], now)


def _began_unsafe(conn: Connection, task: Task) -> bool:
    """Whether a task that is one call has an effect under way that may not be repeated."""
    return task.kind in CALL_KINDS and bool(steps.running_unsafe(conn, task.key))


def tell_hops(conn: Connection, stored: Stored, change: Transition, now: int) -> None:
    """Append the events of a transition, one for each hop. One that stays where it is names no state."""
    task, at, told = stored.task, stored.task.state, []
    for hop in change.hops:
        moves = hop.to is not at
        told.append(
            NewEvent(
                type=hop.event,
                task_key=task.key,
                session_key=stored.session_key,
                state_from=at if moves else None,
                state_to=hop.to if moves else None,
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
