"""The judgement of the queue: from a task and how its attempt ended to a transition. Pure.

Everything the queue decides (retry or rest, how long to wait, poison, unknown outcome) is in this one module;
`kernel.operations` writes transitions, and nobody else touches the state of a task. Source of the rules: SPEC.md, STM.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, assert_never

from goclaw.core.outcome import Canceled, Died, Failed, HandedBack, Outcome, Snoozed, Succeeded, Unknown
from goclaw.core.task import HELD, TERMINAL, Task, TaskState

RETRY_BASE_MS = 1_000
RETRY_CAP_MS = 30_000
RETRY_JITTER = 0.5
AGING_MS = 30_000
POISON_REPEATS = 3
DEATHS_UNTIL_ALONE = 2
DEATHS_UNTIL_POISON = 3
_S = TaskState


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
        case Snoozed():
            return snooze(task, now + outcome.delay_ms)
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
    return _back(task, hop, now, task.attempt, wait_reason)


def snooze(task: Task, until: int) -> Transition:
    """Let a task stand aside until an instant. Of one that runs the charge of its attempt is given back."""
    runs = task.state in HELD
    attempt = max(0, task.attempt - 1) if runs else task.attempt
    told = {"reason": "snooze", "available_at": until, "attempt": attempt} if runs else {"available_at": until}
    hop = Hop(_S.QUEUED, "task.requeued" if runs else "task.snoozed", told)
    return _back(task, hop, until, attempt, "delay")


def redrive(task: Task, now: int) -> Transition:
    """Put a resting task back into the queue with fresh counters and the same journal."""
    return Transition(
        hops=(Hop(_S.QUEUED, "task.requeued", {"reason": "redrive"}),),
        available_at=now,
        attempt=0,
        deaths=0,
    )


def _back(task: Task, hop: Hop, available_at: int, attempt: int, wait_reason: str | None = None) -> Transition:
    """Into the queue again with all that is known of its failures so far."""
    return Transition(
        hops=(hop,),
        available_at=available_at,
        wait_reason=wait_reason,
        attempt=attempt,
        deaths=task.deaths,
        error=task.error,
        error_code=task.error_code,
        fingerprint=task.fingerprint,
        fingerprint_count=task.fingerprint_count,
        usage=task.usage,
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
    return _back(task, Hop(_S.QUEUED, event, {"attempt": attempt}), task.available_at, attempt)


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
