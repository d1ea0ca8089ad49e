"""What the events of one task say: replayed on the graph of `core.task`, then compared with the row. Pure.

A payload may have been purged (`None`); what only it told is then left out of the comparison, never guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from goclaw.core.step import StepState
from goclaw.core.task import HELD, TERMINAL, TRANSITIONS, TaskState

MOST_PROBLEMS = 10
"""How many of one task are named."""
_S = TaskState
_LEADS_TO: Mapping[str, TaskState] = {
    "task.enqueued": _S.QUEUED,
    "task.claimed": _S.CLAIMED,
    "task.running": _S.RUNNING,
    "task.retry_wait": _S.RETRY_WAIT,
    "task.requeued": _S.QUEUED,
    "task.recovered": _S.QUEUED,
    "task.lease_lost": _S.QUEUED,
    "task.succeeded": _S.SUCCEEDED,
    "task.failed": _S.FAILED,
    "task.canceled": _S.CANCELED,
    "task.dead_letter": _S.DEAD_LETTER,
}
_OPEN = frozenset({StepState.INTENDED, StepState.RUNNING})


@dataclass(frozen=True, slots=True)
class Told:
    """One event of the task as it is stored. `payload` is {} where there never was one, None where it was purged."""

    id: int
    type: str
    state_from: str | None
    state_to: str | None
    token: int | None
    at: int
    payload: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """What the row of the task claims."""

    state: str
    attempt: int
    deaths: int
    wait_reason: str | None
    available_at: int
    lease_token: int | None
    finished_at: int | None
    error_code: str | None
    error: str | None
    has_result: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRow:
    """What the row of a step claims; `result_digest` is that of the stored result, None without one."""

    key: str
    seq: int
    state: str
    request_hash: str
    result_digest: str | None


@dataclass(slots=True)
class _Step:
    seq: int | None
    state: str
    request_digest: str | None
    result_digest: str | None = None


class Replay:
    """The story of one task. `take` its events in order, then `compare` it with what is stored.

    Holds one small record for each step, and nothing for other events.
    """

    def __init__(self) -> None:
        self._problems: list[str] = []
        self._state: TaskState | None = None
        self._last: Told | None = None
        self._enqueued = 0
        self._attempt: int | None = 0
        self._deaths: int | None = 0
        self._token: int | None = None
        self._steps: dict[str, _Step] = {}
        self._steps_purged = False

    def take(self, told: Told) -> None:
        """The next event."""
        if told.type.startswith("step."):
            self._take_step(told)
        elif told.state_to is not None:
            self._move(told)
        elif told.type in _LEADS_TO:
            self._say(f"event {told.id} ({told.type}) names no state")

    def compare(self, row: TaskRow, steps: Iterable[StepRow]) -> Iterator[str]:
        """What the events do not explain, each in a few words; at most `MOST_PROBLEMS` of them."""
        if self._last is None:
            self._say(f"it is {row.state}, and no event tells of it")
        else:
            self._compare_row(row, self._last)
        if not self._steps_purged:
            self._compare_steps(steps)
        yield from self._problems

    # -- events ---------------------------------------------------------------------------------------------------

    def _move(self, told: Told) -> None:
        came, to = _state(told.state_from), _state(told.state_to)
        if to is None or (told.state_from is not None and came is None):
            self._say(f"event {told.id} names a state that does not exist")
            return
        if came is not self._state:
            self._say(f"event {told.id} leaves {_word(came)}, but the task was {_word(self._state)}")
        elif to not in TRANSITIONS[came]:
            self._say(f"event {told.id} goes from {_word(came)} to {to}, which is no transition")
        if _LEADS_TO.get(told.type, to) is not to:
            self._say(f"event {told.id} is {told.type} and leads to {to}")
        self._count(told, came, to)
        self._state, self._last = to, told

    def _count(self, told: Told, came: TaskState | None, to: TaskState) -> None:
        self._enqueued += told.type == "task.enqueued"
        said = told.payload
        if to is _S.CLAIMED:
            self._token = told.token
            self._count_claim(told)
        elif said is None:
            self._attempt = self._deaths = None
        elif to is _S.QUEUED and said.get("reason") == "redrive":
            self._attempt = self._deaths = 0
        else:
            self._attempt = _whole(said, "attempt", self._attempt)
            if to is _S.RETRY_WAIT and "attempt" not in said and said.get("wait_reason") != "backoff":
                self._attempt = None  # a wait that is no failure may give its charge back
            if to is _S.DEAD_LETTER and came is _S.RUNNING and self._deaths is not None:
                self._deaths += 1
            self._deaths = _whole(said, "deaths", self._deaths)

    def _count_claim(self, told: Told) -> None:
        due = None if self._attempt is None else self._attempt + 1
        said = None if told.payload is None else _whole(told.payload, "attempt", None)
        if said is not None and due is not None and said != due:
            self._say(f"event {told.id} claims attempt {said}, but attempt {due} was due")
        self._attempt = due if said is None else said

    def _take_step(self, told: Told) -> None:
        if told.payload is None:
            self._steps_purged = True
        if told.payload is None or self._steps_purged:
            return
        key, to, resolved = str(told.payload.get("key")), told.type.removeprefix("step."), "resolved" in told.payload
        step = self._steps.get(key)
        allowed = {StepState.UNKNOWN} if resolved else _OPEN
        if to == StepState.INTENDED and not resolved:
            if step is not None:
                self._say(f"event {told.id} intends step {key} a second time")
            self._steps[key] = _Step(told.payload.get("seq"), to, told.payload.get("request_digest"))
        elif step is None:
            self._say(f"event {told.id} ({told.type}) tells of step {key}, which was never intended")
        else:
            if step.state not in allowed:
                self._say(f"event {told.id} moves step {key} from {step.state} to {to}")
            step.state, step.result_digest = to, told.payload.get("result_digest")

    # -- rows -----------------------------------------------------------------------------------------------------

    def _compare_row(self, row: TaskRow, last: Told) -> None:
        if self._enqueued != 1:
            self._say(f"it was enqueued {self._enqueued} times")
        if row.state != self._state:
            self._say(f"it is {row.state}, but event {last.id} left it {_word(self._state)}")
            return
        if self._attempt not in (None, row.attempt):
            self._say(f"attempt is {row.attempt}, its events say {self._attempt}")
        if self._deaths not in (None, row.deaths):
            self._say(f"deaths is {row.deaths}, its events say {self._deaths}")
        if self._state in HELD and row.lease_token != self._token:
            self._say(f"lease token is {row.lease_token}, the claim's was {self._token}")
        if self._state in TERMINAL and row.finished_at != last.at:
            self._say(f"finished_at is {row.finished_at}, but event {last.id} is of {last.at}")
        if row.has_result and self._state not in TERMINAL:
            self._say(f"it has a result while it is {row.state}")
        self._compare_words(row, last)

    def _compare_words(self, row: TaskRow, last: Told) -> None:
        if self._state is _S.SUCCEEDED and row.error_code is not None:
            self._say(f"it succeeded and has the error code {row.error_code}")
        said = last.payload or {}
        if self._state is not _S.RETRY_WAIT and self._state not in TERMINAL:
            return
        words = {"error_code": row.error_code, "error": row.error}
        if self._state is _S.CANCELED:
            words["reason"] = row.error
        if self._state is _S.RETRY_WAIT:
            words["wait_reason"] = row.wait_reason
            if said.get("available_at", row.available_at) != row.available_at:
                self._say(f"available_at is {row.available_at}, event {last.id} says {said['available_at']}")
        for name, stored in words.items():
            if name in said and said[name] != stored:
                column = "error" if name == "reason" else name
                self._say(f"{column} is not what event {last.id} says")

    def _compare_steps(self, rows: Iterable[StepRow]) -> None:
        told = dict(self._steps)
        for row in rows:
            step = told.pop(row.key, None)
            if step is None:
                self._say(f"step {row.seq} ({row.key}) has no event")
                continue
            if row.state != step.state:
                self._say(f"step {row.seq} ({row.key}) is {row.state}, its events say {step.state}")
            elif row.result_digest != step.result_digest:
                self._say(f"the result of step {row.seq} ({row.key}) is not the one its events name")
            if step.request_digest not in (None, row.request_hash) or step.seq not in (None, row.seq):
                self._say(f"step {row.seq} ({row.key}) is not the one its events name")
        for key in told:
            self._say(f"step {key} is gone, its events are there")

    def _say(self, problem: str) -> None:
        if len(self._problems) < MOST_PROBLEMS:
            self._problems.append(problem)


def _state(name: str | None) -> TaskState | None:
    return TaskState[name] if name is not None and name in TaskState.__members__ else None


def _whole(said: Mapping[str, Any], name: str, otherwise: int | None) -> int | None:
    value = said.get(name)
    return value if isinstance(value, int) else otherwise


def _word(state: TaskState | None) -> str:
    return "nothing" if state is None else str(state)
