"""The eight states of a task, the only graph between them, and the judgement that ends an attempt.

Everything the queue decides (retry or rest, how long to wait, poison, unknown outcome) is a pure function here that
turns a `Task` into a `Transition`. `kernel.queue` writes transitions; nobody else touches the state of a task.
Source of the rules: SPEC.md, domain STM.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, assert_never

from goclaw.core.chat import NewMessage
from goclaw.core.step import JournalEntry

RETRY_BASE_MS = 1_000
RETRY_CAP_MS = 30_000
RETRY_JITTER = 0.5
AGING_MS = 30_000
POISON_REPEATS = 3
DEATHS_UNTIL_ALONE = 2
DEATHS_UNTIL_POISON = 3
TURN_KINDS = frozenset({"chat", "plan"})
CALL_KINDS = frozenset({"exec", "skill", "tool"})
KINDS = frozenset({"noop"}) | TURN_KINDS | CALL_KINDS


class TaskState(StrEnum):
    """Where a task stands. Each comment says who moves a task in and who moves it out."""

    QUEUED = "QUEUED"
    """In: submit, redrive, the timer (a wait is over), recovery and drain. Out: claim, cancel, deadline."""
    CLAIMED = "CLAIMED"
    """In: claim, with a lease. Out: start, in the same commit; recovery and cancel if that never came."""
    RUNNING = "RUNNING"
    """In: start. Out: settle by the worker that holds the lease; recovery after an unclean stop."""
    RETRY_WAIT = "RETRY_WAIT"
    """In: settle, with `available_at` and `wait_reason`. Out: the timer or whoever meets the condition; cancel."""
    SUCCEEDED = "SUCCEEDED"
    """In: settle. Out: never."""
    FAILED = "FAILED"
    """In: settle. Out: to DEAD_LETTER in the same commit when attempts are used up; redrive."""
    CANCELED = "CANCELED"
    """In: cancel, deadline. Out: redrive."""
    DEAD_LETTER = "DEAD_LETTER"
    """In: settle (attempts used up, poison), recovery (third death). Out: redrive."""


_S = TaskState
TRANSITIONS: Mapping[TaskState | None, frozenset[TaskState]] = {
    None: frozenset({_S.QUEUED}),
    _S.QUEUED: frozenset({_S.CLAIMED, _S.CANCELED}),
    _S.CLAIMED: frozenset({_S.RUNNING, _S.QUEUED, _S.CANCELED}),
    _S.RUNNING: frozenset({_S.SUCCEEDED, _S.FAILED, _S.RETRY_WAIT, _S.QUEUED, _S.CANCELED, _S.DEAD_LETTER}),
    _S.RETRY_WAIT: frozenset({_S.QUEUED, _S.FAILED, _S.CANCELED}),
    _S.SUCCEEDED: frozenset(),
    _S.FAILED: frozenset({_S.DEAD_LETTER, _S.QUEUED}),
    _S.CANCELED: frozenset({_S.QUEUED}),
    _S.DEAD_LETTER: frozenset({_S.QUEUED}),
}
TERMINAL = frozenset({_S.SUCCEEDED, _S.FAILED, _S.CANCELED, _S.DEAD_LETTER})
HELD = frozenset({_S.CLAIMED, _S.RUNNING})


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTask:
    """A submission as the queue takes it: validated, with every default filled in. Times are milliseconds."""

    kind: str
    payload: Mapping[str, Any]
    agent_id: str | None = None
    """None: the agent of the session, else the default agent."""
    session_id: str | None = None
    """None: a turn gets a session of its own; other kinds have none."""
    idempotency_key: str | None = None
    priority: int = 0
    delay_ms: int = 0
    deadline_ms: int | None = None
    max_attempts: int = 3
    timeout_ms: int | None = None
    parent_task_id: str | None = None
    messages: tuple[NewMessage, ...] = ()
    """The input of a turn, the user's message last; stored in the commit that stores the task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task as its row says. Changed only by a transition. Times are integer milliseconds since 1970 UTC."""

    key: int
    id: str
    kind: str
    session_id: str | None
    agent_id: str
    state: TaskState
    priority: int
    attempt: int
    max_attempts: int
    deaths: int
    available_at: int
    wait_reason: str | None
    payload: Mapping[str, Any]
    result: Any
    error: str | None
    error_code: str | None
    progress: Any
    lease_owner: str | None
    lease_token: int | None
    lease_expires_at: int | None
    cancel_requested: bool
    cancel_reason: str | None
    idempotency_key: str | None
    parent_task_id: str | None
    policy_version: str | None
    usage: Mapping[str, Any] | None
    timeout_ms: int | None
    deadline_at: int | None
    fingerprint: str | None
    fingerprint_count: int
    trace_id: str
    created_at: int
    updated_at: int
    finished_at: int | None

    @property
    def run_id(self) -> str | None:
        """The name of the present attempt: the task and its fencing token."""
        return run_id(self.id, self.lease_token)


def run_id(task_id: str | None, token: int | None) -> str | None:
    """`TASK.TOKEN`, or None outside an attempt."""
    return f"{task_id}.{token}" if task_id is not None and token is not None else None


@dataclass(frozen=True, slots=True)
class Closing:
    """What an attempt writes in the commit that settles it: the end of its journal, and messages."""

    entries: tuple[JournalEntry, ...] = ()
    messages: tuple[NewMessage, ...] = ()


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The work is done; `result` is JSON."""

    result: Any = None
    usage: Mapping[str, Any] | None = None
    closing: Closing = field(default_factory=Closing)


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt failed. `permanent` failures are not tried again; `retry_after_ms` is a minimum wait."""

    code: str
    message: str
    permanent: bool = False
    retry_after_ms: int = 0
    result: Any = None
    usage: Mapping[str, Any] | None = None
    closing: Closing = field(default_factory=Closing)


@dataclass(frozen=True, slots=True)
class Unknown:
    """An effect that must not be repeated had begun and its end is not known."""

    message: str
    closing: Closing = field(default_factory=Closing)


@dataclass(frozen=True, slots=True)
class Canceled:
    """The attempt ended because it was asked to."""

    code: str = "CANCELED"
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class HandedBack:
    """The attempt was interrupted through no fault of its own (drain); its charge is given back."""


@dataclass(frozen=True, slots=True)
class Died:
    """The lease was found without a living holder after an unclean stop, or ran out in this boot."""

    lease_lost: bool = False


Outcome = Succeeded | Failed | Unknown | Canceled | HandedBack | Died


@dataclass(frozen=True, slots=True)
class Hop:
    """One edge of the graph with the event that tells of it."""

    to: TaskState
    event: str
    payload: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """The hops of one commit and the columns they leave behind. Fields not named here stay as they are."""

    hops: tuple[Hop, ...]
    available_at: int
    wait_reason: str | None = None
    attempt: int
    deaths: int
    result: Any = None
    error: str | None = None
    error_code: str | None = None
    usage: Mapping[str, Any] | None = None
    fingerprint: str | None = None
    fingerprint_count: int = 0
    cancel_requested: bool = False
    cancel_reason: str | None = None

    @property
    def state(self) -> TaskState:
        """The state after the last hop."""
        return self.hops[-1].to


def static_rank(due_ms: int, priority: int) -> int:
    """The claim order: due instant minus 30 s per step of priority.

    Subtracting a constant once is the same as letting every waiting task age linearly, so nothing is recomputed.
    """
    return due_ms - AGING_MS * priority


def backoff_ms(attempt: int, jitter: float) -> int:
    """Wait before attempt `attempt` + 1: 1 s doubling to 30 s, plus up to half of it by `jitter` in [0, 1)."""
    base = min(RETRY_CAP_MS, RETRY_BASE_MS * 2 ** min(max(attempt, 1) - 1, 16))
    return int(base * (1 + RETRY_JITTER * jitter))


def fingerprint(code: str, message: str) -> str:
    """What makes two failures the same: code and message. 16 hexadecimal digits."""
    return hashlib.sha256(f"{code}\0{message}".encode("utf-8", "surrogatepass")).hexdigest()[:16]


def settle(task: Task, outcome: Outcome, now: int, jitter: float) -> Transition:
    """Judge how an attempt that holds its lease ended. Pure; every rule of SPEC STM about ends is in here."""
    change = _judge(task, outcome, now, jitter)
    if task.cancel_requested and (change.state not in TERMINAL or isinstance(outcome, Unknown)):
        # A committed request to cancel is never forgotten: such a task does not wait and does not run again.
        return _asked(task, now)
    return change


def _judge(task: Task, outcome: Outcome, now: int, jitter: float) -> Transition:
    match outcome:
        case Succeeded():
            return _end(task, now, Hop(_S.SUCCEEDED, "task.succeeded"), result=outcome.result, usage=outcome.usage)
        case Canceled():
            return _canceled(task, now, outcome.code, outcome.reason or task.cancel_reason)
        case Unknown():
            return _unknown(task, now, outcome.message)
        case Failed():
            return _failed(task, outcome, now, jitter)
        case HandedBack():
            return _handed_back(task, now)
        case Died():
            return _lease_lost(task, now, jitter) if outcome.lease_lost else _died(task, now)
        case _:
            assert_never(outcome)


def recover(task: Task, *, began_unsafe: bool, now: int) -> Transition:
    """Judge a CLAIMED or RUNNING task whose holder is gone; `began_unsafe`: see `kernel.recovery`."""
    if task.cancel_requested:
        return _asked(task, now)
    if task.deadline_at is not None and task.deadline_at <= now:
        return _canceled(task, now, "DEADLINE", None)
    if began_unsafe:
        return _unknown(task, now, "goclaw stopped while this was running, so how it ended is not known")
    if task.state is _S.CLAIMED:
        return _handed_back(task, now, event="task.recovered")
    return _died(task, now)


def cancel(task: Task, now: int, code: str, reason: str | None) -> Transition:
    """Cancel a task that nobody holds (QUEUED or RETRY_WAIT)."""
    return _canceled(task, now, code, reason)


def wake(task: Task, now: int, wait_reason: str | None) -> Transition:
    """The wait of a RETRY_WAIT task is over; `wait_reason` is what blocks it still (a session), if anything."""
    hop = Hop(_S.QUEUED, "task.requeued", {"reason": task.wait_reason})
    return Transition(
        hops=(hop,),
        available_at=now,
        wait_reason=wait_reason,
        attempt=task.attempt,
        deaths=task.deaths,
        error=task.error,
        error_code=task.error_code,
        fingerprint=task.fingerprint,
        fingerprint_count=task.fingerprint_count,
        usage=task.usage,
    )


def redrive(task: Task, now: int) -> Transition:
    """Put a resting task back into the queue with fresh counters and the same journal."""
    return Transition(
        hops=(Hop(_S.QUEUED, "task.requeued", {"reason": "redrive"}),),
        available_at=now,
        attempt=0,
        deaths=0,
    )


def _end(task: Task, now: int, *hops: Hop, **fields: Any) -> Transition:
    fields.setdefault("usage", task.usage)
    return Transition(hops=hops, available_at=now, attempt=task.attempt, deaths=task.deaths, **fields)


def _canceled(task: Task, now: int, code: str, reason: str | None) -> Transition:
    text = "the deadline passed" if code == "DEADLINE" else reason or "canceled on request"
    hop = Hop(_S.CANCELED, "task.canceled", {"error_code": code, "reason": text})
    return _end(task, now, hop, error=text, error_code=code, cancel_requested=task.cancel_requested)


def _asked(task: Task, now: int) -> Transition:
    """The end of a task whose holder was asked to cancel it: by a person, or by the timer when its deadline passed."""
    overdue = task.deadline_at is not None and task.deadline_at <= now
    if overdue and task.cancel_reason == "DEADLINE":
        return _canceled(task, now, "DEADLINE", None)
    return _canceled(task, now, "CANCELED", task.cancel_reason)


def _unknown(task: Task, now: int, message: str) -> Transition:
    hop = Hop(_S.FAILED, "task.failed", {"error_code": "OUTCOME_UNKNOWN", "error": message})
    return _end(task, now, hop, error=message, error_code="OUTCOME_UNKNOWN")


def _handed_back(task: Task, now: int, event: str = "task.requeued") -> Transition:
    attempt = max(0, task.attempt - 1)
    return Transition(
        hops=(Hop(_S.QUEUED, event, {"attempt": attempt}),),
        available_at=task.available_at,
        attempt=attempt,
        deaths=task.deaths,
        error=task.error,
        error_code=task.error_code,
        fingerprint=task.fingerprint,
        fingerprint_count=task.fingerprint_count,
        usage=task.usage,
    )


def _lease_lost(task: Task, now: int, jitter: float) -> Transition:
    if task.attempt >= task.max_attempts:
        return _failed(task, Failed("LEASE_LOST", "the lease ran out while this was running"), now, jitter)
    hop = Hop(_S.QUEUED, "task.lease_lost", {"attempt": task.attempt})
    return Transition(hops=(hop,), available_at=now, attempt=task.attempt, deaths=task.deaths, usage=task.usage)


def _died(task: Task, now: int) -> Transition:
    deaths = task.deaths + 1
    if deaths >= DEATHS_UNTIL_POISON:
        text = f"goclaw died {deaths} times while this task was running"
        hop = Hop(_S.DEAD_LETTER, "task.dead_letter", {"error_code": "POISON", "error": text})
        return replace(_end(task, now, hop, error=text, error_code="POISON"), deaths=deaths)
    given_back = max(0, task.attempt - 1)
    hop = Hop(_S.QUEUED, "task.recovered", {"attempt": given_back, "deaths": deaths})
    return Transition(
        hops=(hop,),
        available_at=task.available_at,
        attempt=given_back,
        deaths=deaths,
        fingerprint=task.fingerprint,
        fingerprint_count=task.fingerprint_count,
        usage=task.usage,
    )


def _failed(task: Task, outcome: Failed, now: int, jitter: float) -> Transition:
    mark = fingerprint(outcome.code, outcome.message)
    repeats = task.fingerprint_count + 1 if mark == task.fingerprint else 1
    poison = repeats >= POISON_REPEATS
    exhausted = task.attempt >= task.max_attempts
    rests = outcome.permanent or task.max_attempts == 1
    if not (rests or poison or exhausted):
        wait = max(backoff_ms(task.attempt, jitter), outcome.retry_after_ms)
        told = {
            "error_code": outcome.code,
            "error": outcome.message,
            "available_at": now + wait,
            "wait_reason": "backoff",
        }
        return Transition(
            hops=(Hop(_S.RETRY_WAIT, "task.retry_wait", told),),
            available_at=now + wait,
            wait_reason="backoff",
            attempt=task.attempt,
            deaths=task.deaths,
            error=outcome.message,
            error_code=outcome.code,
            usage=outcome.usage or task.usage,
            fingerprint=mark,
            fingerprint_count=repeats,
        )
    hops: tuple[Hop, ...] = (Hop(_S.FAILED, "task.failed", {"error_code": outcome.code, "error": outcome.message}),)
    code = outcome.code
    if not rests:
        code = "POISON" if poison else outcome.code
        hops += (Hop(_S.DEAD_LETTER, "task.dead_letter", {"error_code": code, "error": outcome.message}),)
    return _end(
        task,
        now,
        *hops,
        result=outcome.result,
        usage=outcome.usage or task.usage,
        error=outcome.message,
        error_code=code,
        fingerprint=mark,
        fingerprint_count=repeats,
    )
