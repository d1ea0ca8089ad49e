"""What happens to tasks without a worker: timers, redrive, recovery, a person's word, pauses. Plain transactions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from goclaw.core.canonical import canonical_json
from goclaw.core.event import NewEvent
from goclaw.core.intake import MAX_MS
from goclaw.core.settle import cancel, recover, redrive, snooze, static_rank, wake
from goclaw.core.step import Step, StepState
from goclaw.core.task import CALL_KINDS, HELD, TERMINAL, TURN_KINDS, Task, TaskState
from goclaw.db import Connection
from goclaw.errors import BadRequest, Conflict, NotFound
from goclaw.kernel import admission
from goclaw.kernel.operations import find, move, place, tell
from goclaw.store import concurrency, events, purge, rates, sessions, steps, tasks
from goclaw.store.tasks import Stored

TIMER_BATCH = 500
SHOWN_REFUSALS = 100
SHOWN_CHARS = 1_000
"""How much of a call is quoted to a model."""


@dataclass(frozen=True, slots=True)
class TimerRound:
    """What a timer round did: agents with new work, held tasks to be ended, and when to look again."""

    ready: frozenset[str]
    overdue: tuple[int, ...]
    next_wake: int | None


class Refused(NamedTuple):
    """A task that could not be put back, and why."""

    task_id: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Redriven:
    """How many tasks were put back, how many could not be, and the first hundred of those."""

    count: int = 0
    skipped: int = 0
    refused: tuple[Refused, ...] = ()

    def plus(self, count: int, refused: Sequence[Refused], skipped: int | None = None) -> Redriven:
        """With the next ones."""
        more = len(refused) if skipped is None else skipped
        return Redriven(self.count + count, self.skipped + more, (*self.refused, *refused)[:SHOWN_REFUSALS])


def ask_redrive(conn: Connection, task_id: str, now: int) -> tuple[Stored, frozenset[str]]:
    """Put a resting task back into the queue. Raises NotFound, or Conflict when it does not rest or is unsettled.

    A deadline that has passed is taken off: it would cancel the task again before it could run.
    """
    stored = find(conn, task_id)
    task = stored.task
    if task.state not in TERMINAL or task.state is TaskState.SUCCEEDED:
        raise Conflict(f"a {task.state} task cannot be retried", state=task.state)
    _refuse_purged(conn, task)
    if steps.unsettled(conn, task.key):
        raise Conflict("how a step ended is unknown; settle it with task.resolve first", state=task.state)
    other = None if task.unique_key is None else tasks.by_unique_key(conn, task.unique_key)
    if other is not None:
        known = tasks.by_key(conn, other).task.id
        raise Conflict(f"task {known} has the unique key of this one and has not ended", task_id=known)
    if task.deadline_at is not None and task.deadline_at <= now:
        tasks.lift_deadline(conn, task.key, now)
        stored = tasks.by_key(conn, task.key)
    at = events.head(conn) + 1 if task.kind in TURN_KINDS and stored.session_key is not None else None
    ready = place(conn, stored, redrive(task, now), now, static_rank(now, task.priority), at)
    return tasks.by_key(conn, task.key), ready


def redrive_each(
    conn: Connection, task_ids: Sequence[str], now: int
) -> tuple[list[Task], list[Refused], frozenset[str]]:
    """Put those of these tasks back that can be: the tasks, the refusals, and the agents that have new work."""
    moved: list[Task] = []
    refused: list[Refused] = []
    ready: set[str] = set()
    for task_id in task_ids:
        try:
            done, woken = ask_redrive(conn, task_id, now)
        except (Conflict, NotFound) as refusal:  # it has looked before it wrote
            refused.append(Refused(task_id, refusal.code, refusal.message))
        else:
            moved.append(done.task)
            ready |= woken
    return moved, refused, frozenset(ready)


def ask_snooze(conn: Connection, task_id: str, delay_ms: int, now: int) -> tuple[Stored, frozenset[str]]:
    """Let a task that waits stand aside for a while. Raises NotFound, BadRequest, or Conflict when it does not wait.

    A turn gives up its place in the order of its session and takes a new one when the delay is over.
    """
    if not 1 <= delay_ms <= MAX_MS:
        raise BadRequest("delay_ms is positive and at most ten years", field="delay_ms")
    stored = find(conn, task_id)
    if stored.task.state is not TaskState.QUEUED:
        raise Conflict(f"a {stored.task.state} task cannot be snoozed; only a QUEUED one can", state=stored.task.state)
    ready = move(conn, stored, snooze(stored.task, now + delay_ms), now)
    return tasks.by_key(conn, stored.task.key), ready


def set_limits(
    conn: Connection, concurrency_limits: Mapping[str, int], start_rates: Mapping[tuple[str, str], int]
) -> frozenset[str]:
    """Make these the limits in force; the agents that have new work. Writes nothing when nothing is different."""
    known = {(rate.agent_id, rate.kind): rate.per_minute for rate in rates.limits(conn)}
    ready = {pair[0] for pair in known.keys() | start_rates.keys() if known.get(pair) != start_rates.get(pair)}
    if ready:
        rates.set_limits(conn, start_rates)
    if concurrency_limits == concurrency.limits(conn):
        return frozenset(ready)
    concurrency.set_limits(conn, concurrency_limits)
    for name in concurrency.names(conn):
        ready |= admission.balance(conn, name)
    return frozenset(ready)


def _refuse_purged(conn: Connection, task: Task) -> None:
    if purge.is_purged(conn, task.key):
        raise Conflict("the content of the task was purged with its session", state=task.state)


def run_timers(conn: Connection, now: int, since: int | None = None) -> TimerRound:
    """Everything whose instant has come: ended waits, ended delays, deadlines, rates. Bounded to 500 tasks a round.

    `since` is the instant of the last round, None in the first one.
    """
    ready: set[str] = set()
    overdue: list[int] = []
    for key in tasks.due(conn, now, TIMER_BATCH):
        stored = tasks.by_key(conn, key)
        task = stored.task
        if task.deadline_at is not None and task.deadline_at <= now:
            if task.state in HELD:
                tasks.request_cancel(conn, key, "DEADLINE")
                overdue.append(key)
            else:
                ready |= move(conn, stored, cancel(task, now, "DEADLINE", None), now)
        elif task.state is TaskState.RETRY_WAIT:
            ready |= move(conn, stored, wake(task, now, None), now)
        else:
            ready |= _end_delay(conn, stored, now)
    opens = _look_at_rates(conn, now, since, ready)
    next_wake = min((at for at in (*opens, tasks.next_wake(conn)) if at is not None), default=None)
    return TimerRound(frozenset(ready), tuple(overdue), next_wake)


def _look_at_rates(conn: Connection, now: int, since: int | None, ready: set[str]) -> list[int]:
    """When those that are used up allow a start again; who may start again since the last look is added to `ready`.

    Only those: a claim is followed by a look, so that ringing for every rate with room would never end.
    """
    opens = []
    limits = rates.limits(conn)
    if any(rate.is_ahead(now) for rate in limits):
        rates.pull_back(conn, now)
    for rate in limits:
        if not rate.room(now):
            opens.append(rate.opens_at(now))
        elif since is None or since > now or not rate.room(since):
            ready.add(rate.agent_id)
    return opens


def recover_all(conn: Connection, boot_id: str, now: int) -> list[tuple[Task, TaskState]]:
    """Judge every task that another boot held. Returns each with the state it came to."""
    judged = []
    for key in tasks.orphans(conn, boot_id):
        stored = tasks.by_key(conn, key)
        unsafe = stored.task.kind in CALL_KINDS and bool(steps.running_unsafe(conn, key))
        change = recover(stored.task, began_unsafe=unsafe, now=now)
        move(conn, stored, change, now)
        judged.append((stored.task, change.state))
    return judged


def _end_delay(conn: Connection, stored: Stored, now: int) -> set[str]:
    task = stored.task
    # One that was held back at a start has kept its place.
    at = stored.place
    if at is None and task.kind in TURN_KINDS and stored.session_key is not None:
        at = tell(conn, stored, "task.released", {"reason": "delay"}, now)
    reason = admission.blocker(conn, stored.session_key, at, task.concurrency_key, (stored.rank, task.key))
    tasks.release(conn, task.key, reason, at)
    return set() if reason else {task.agent_id}


def settle_step(conn: Connection, task_id: str, step_id: int | None, happened: bool, result: Any, now: int) -> Task:
    """Settle an unknown step of a task nobody holds by a person's word. Raises NotFound or Conflict.

    What a model has read of the step stays as it is, or the prompt could not be made again; the word is then said in
    the session, for the turns that follow.
    """
    stored = find(conn, task_id)
    if stored.task.state in HELD:
        raise Conflict("the task is running; wait for its end", state=stored.task.state)
    _refuse_purged(conn, stored.task)
    listed = [step for step in steps.listed(conn, task_id) if step["state"] == StepState.UNKNOWN]
    if step_id is not None:
        listed = [step for step in listed if step["id"] == step_id]
    if not listed:
        raise Conflict("there is no unknown step to settle")
    if len(listed) > 1:
        raise BadRequest("several steps are unknown; name one by step_id", steps=[step["id"] for step in listed])
    key = listed[0]["key"]
    state = StepState.DONE if happened else StepState.INTENDED
    was_told = key not in steps.unsettled(conn, stored.task.key)
    if was_told:
        state = StepState.DONE if happened else StepState.FAILED
    kept = listed[0].get("result") if was_told else result
    told = steps.resolve(conn, stored.task.key, key, state, kept, now)
    place = events.append(conn, [told._replace(session_key=stored.session_key)], now)
    if was_told and stored.session_key is not None:
        text = _word(steps.load(conn, stored.task.key)[key], happened, result)
        sessions.add_note(conn, stored.session_key, stored.task.key, place, text, now)
    return tasks.by_key(conn, stored.task.key).task


def _word(step: Step, happened: bool, result: Any) -> str:
    """What the turns that follow are told of a step whose outcome was unknown."""
    call = canonical_json(step.request)
    if len(call) > SHOWN_CHARS:
        call = f"{call[:SHOWN_CHARS]}..."
    came = "it did take effect" if happened else "it did not take effect"
    given = result["data"].get("result") if result else None
    said = given if isinstance(given, str) else canonical_json(given)
    added = "" if given is None else f"\nIts result, says the user: {said}"
    return f"The user has looked into the call whose outcome was unknown: {came}. The call: {call}{added}"


def pause(conn: Connection, scope: str, name: str, now: int) -> None:
    """Hold the claim for a scope, with its event."""
    tasks.pause(conn, scope, name)
    events.append(conn, [NewEvent(type="system.paused", payload={"scope": scope, "name": name})], now)


def resume(conn: Connection, scope: str, name: str, now: int) -> None:
    """End a pause, with its event when there was one."""
    if tasks.resume(conn, scope, name):
        events.append(conn, [NewEvent(type="system.resumed", payload={"scope": scope, "name": name})], now)
