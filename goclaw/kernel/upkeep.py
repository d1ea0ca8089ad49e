"""What happens to tasks without a worker: timers, redrive, recovery, a person's word, pauses. Plain transactions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from goclaw.core.canonical import canonical_json
from goclaw.core.event import NewEvent
from goclaw.core.settle import cancel, recover, redrive, static_rank, wake
from goclaw.core.step import Step, StepState
from goclaw.core.task import CALL_KINDS, HELD, TERMINAL, TURN_KINDS, Task, TaskState
from goclaw.db import Connection
from goclaw.errors import BadRequest, Conflict
from goclaw.kernel.operations import find, move, tell, tell_hops
from goclaw.store import events, sessions, steps, tasks
from goclaw.store.tasks import Stored

TIMER_BATCH = 500
SHOWN_CHARS = 1_000
"""How much of a call is quoted to a model."""


@dataclass(frozen=True, slots=True)
class TimerRound:
    """What a timer round did: agents with new work, held tasks to be ended, and when to look again."""

    ready: frozenset[str]
    overdue: tuple[int, ...]
    next_wake: int | None


def ask_redrive(conn: Connection, task_id: str, now: int) -> tuple[Stored, frozenset[str]]:
    """Put a resting task back into the queue. Raises NotFound, or Conflict when it does not rest or is unsettled.

    A deadline that has passed is taken off: it would cancel the task again before it could run.
    """
    stored = find(conn, task_id)
    task = stored.task
    if task.state not in TERMINAL or task.state is TaskState.SUCCEEDED:
        raise Conflict(f"a {task.state} task cannot be retried", state=task.state)
    if steps.unsettled(conn, task.key):
        raise Conflict("how a step ended is unknown; settle it with task.resolve first", state=task.state)
    tasks.lift_deadline(conn, task.key, now)
    stored = tasks.by_key(conn, task.key)
    change = redrive(task, now)
    place, reason = None, None
    if task.kind in TURN_KINDS and stored.session_key is not None:
        place = events.head(conn) + 1
        reason = None if tasks.session_head(conn, stored.session_key) is None else "session"
    rank = static_rank(now, task.priority)
    if not tasks.transition(conn, stored, replace(change, wait_reason=reason), now, rank=rank, place=place):
        raise Conflict(f"task {task_id} changed meanwhile")
    tell_hops(conn, stored, change, now)
    return tasks.by_key(conn, task.key), frozenset({task.agent_id})


def run_timers(conn: Connection, now: int) -> TimerRound:
    """Everything whose instant has come: ended waits, ended delays, deadlines. Bounded to 500 tasks a round."""
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
    return TimerRound(frozenset(ready), tuple(overdue), tasks.next_wake(conn))


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
    place, reason = None, None
    if task.kind in TURN_KINDS and stored.session_key is not None:
        reason = None if tasks.session_head(conn, stored.session_key) is None else "session"
        place = tell(conn, stored, "task.released", {"reason": "delay"}, now)
    tasks.release(conn, task.key, reason, place)
    return set() if reason else {task.agent_id}


def settle_step(conn: Connection, task_id: str, step_id: int | None, happened: bool, result: Any, now: int) -> Task:
    """Settle an unknown step of a task nobody holds by a person's word. Raises NotFound or Conflict.

    What a model has read of the step stays as it is, or the prompt could not be made again; the word is then said in
    the session, for the turns that follow.
    """
    stored = find(conn, task_id)
    if stored.task.state in HELD:
        raise Conflict("the task is running; wait for its end", state=stored.task.state)
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
    place = events.append(conn, [replace(told, session_key=stored.session_key)], now)
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
