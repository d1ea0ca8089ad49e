"""A task, its eight states and the only graph between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from goclaw.core.chat import NewMessage

TURN_KINDS = frozenset({"chat", "plan"})
CALL_KINDS = frozenset({"exec", "skill", "tool"})
KINDS = frozenset({"noop"}) | TURN_KINDS | CALL_KINDS


class TaskState(StrEnum):
    """Where a task stands. Each comment says who moves a task in and who moves it out."""

    QUEUED = "QUEUED"
    """In: submit, redrive, the timer (a wait is over), a lost lease, recovery, drain. Out: claim, cancel, deadline."""
    CLAIMED = "CLAIMED"
    """In: claim, with a lease. Out: start, in the same commit; recovery and cancel if that never came."""
    RUNNING = "RUNNING"
    """In: start. Out: settle by the worker that holds the lease; recovery after an unclean stop."""
    RETRY_WAIT = "RETRY_WAIT"
    """In: settle, with `available_at` and `wait_reason`. Out: the timer or whoever meets the condition; cancel."""
    SUCCEEDED = "SUCCEEDED"
    """In: settle. Out: never."""
    FAILED = "FAILED"
    """In: settle; recovery when an unsafe effect had begun. Out: to DEAD_LETTER in the same commit when attempts are
    used up or it is poison; redrive."""
    CANCELED = "CANCELED"
    """In: cancel, deadline; settle and recovery when either was asked of the holder. Out: redrive."""
    DEAD_LETTER = "DEAD_LETTER"
    """In: settle by way of FAILED (attempts used up, poison), recovery (third death). Out: redrive."""


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
    concurrency_key: str | None = None
    """At most as many tasks with this name run at once as `concurrency` allows it; one when it is not configured."""
    unique_key: str | None = None
    """While a task with this name has not ended, another submission of it is answered with that task."""
    messages: tuple[NewMessage, ...] = ()
    """The input of a turn, the user's message last; stored in the commit that stores the task."""


class Task(NamedTuple):
    """One task as its row says. Changed only by a transition. Times are integer milliseconds since 1970 UTC.

    The fields stand in the order in which the store reads them; a tuple is made from a row ten times as fast as a
    frozen dataclass of this size.
    """

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
    created_at: int
    updated_at: int
    finished_at: int | None
    concurrency_key: str | None
    unique_key: str | None

    def succeeded(self, result: Any, usage: Mapping[str, Any] | None, progress: Any, now: int) -> Task:
        """The task as its row says after `core.settle` has judged it a success."""
        # In the order of the fields: `_replace` costs three times as much, and this is done for every task.
        return Task(
            *self[:5], TaskState.SUCCEEDED, *self[6:10], now, None, self.payload, result, None, None, progress, None,
            None, None, self.cancel_requested, self.cancel_reason, self.idempotency_key, self.parent_task_id,
            self.policy_version, usage, self.timeout_ms, self.deadline_at, None, 0, self.created_at, now, now,
            self.concurrency_key, self.unique_key,
        )  # fmt: skip

    @property
    def trace_id(self) -> str:
        """The task as a trace: its id without hyphens, 32 hexadecimal digits (W3C Trace Context, 3.2.2.3)."""
        return self.id.replace("-", "")

    @property
    def run_id(self) -> str | None:
        """The name of the present attempt: the task and its fencing token."""
        return run_id(self.id, self.lease_token)


def run_id(task_id: str | None, token: int | None) -> str | None:
    """`TASK.TOKEN`, or None outside an attempt."""
    return f"{task_id}.{token}" if task_id is not None and token is not None else None
