"""The small worlds that are searched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from goclaw.core import intake
from goclaw.core.outcome import Canceled, Died, Failed, HandedBack, Outcome, Snoozed, Succeeded, Unknown
from goclaw.core.task import NewTask
from tests.unit.kernel.small_world import SNOOZE_MS, Scenario

PAYLOADS: dict[str, dict[str, Any]] = {"noop": {}, "exec": {"argv": ["true"]}, "chat": {"content": "hi"}}
SUCCEEDED, FAILED, BACK, SNOOZED, LOST = (
    Succeeded(),
    Failed("E", "one"),
    HandedBack(),
    Snoozed(SNOOZE_MS),
    Died(lease_lost=True),
)
EVERY: tuple[Outcome, ...] = (
    SUCCEEDED, FAILED, Failed("E", "other", permanent=True), Unknown("who knows"), Canceled(), BACK, SNOOZED, LOST,
)  # fmt: skip


def new(kind: str, **fields: Any) -> NewTask:
    """A task that may be tried twice."""
    given: dict[str, Any] = {"agent_id": "default", "max_attempts": 2} | fields
    return intake.complete(NewTask(kind=kind, payload=PAYLOADS[kind], **given))


def turn(**fields: Any) -> NewTask:
    """A turn of the one session."""
    return new("chat", session_id="s", **fields)


def named(**fields: Any) -> NewTask:
    """A task of the one name."""
    return new("noop", concurrency_key="n", **fields)


CANCEL, SNOOZE, REDRIVE, BEGIN, PAUSE, LIMIT = "cancel", "snooze", "redrive", "begin", "pause", "limit"
SHORT: Mapping[str, Scenario] = {
    "one call": Scenario(
        (new("exec", delay_ms=1_000, deadline_ms=3_000),),
        (SUCCEEDED, FAILED, SNOOZED, LOST),
        frozenset({CANCEL, REDRIVE, BEGIN}),
    ),
    "a session": Scenario((turn(), turn()), (SUCCEEDED, FAILED, SNOOZED), frozenset({CANCEL})),
    "a name": Scenario((named(), named(agent_id="other", priority=1)), (SUCCEEDED, BACK), frozenset({CANCEL, LIMIT})),
    "a session and a name": Scenario(
        (turn(concurrency_key="n"), turn(), named(agent_id="other")),
        (SUCCEEDED, BACK),
        frozenset(),
        {"default": 1, "other": 1},
    ),
    "suspects": Scenario((new("noop"), new("noop", agent_id="other")), (SUCCEEDED, LOST), frozenset({REDRIVE, PAUSE})),
}
"""Searched to their ends by the test, in seconds."""
LONG: Mapping[str, Scenario] = {
    "one call, whatever happens": Scenario(
        (new("exec", delay_ms=1_000, deadline_ms=4_000, max_attempts=3),),
        EVERY,
        frozenset({CANCEL, SNOOZE, REDRIVE, BEGIN, PAUSE}),
    ),
    "two turns": Scenario((turn(), turn()), EVERY, frozenset({CANCEL, SNOOZE, REDRIVE, PAUSE})),
    "two of a name": Scenario(
        (named(), named(agent_id="other", priority=1)), EVERY, frozenset({CANCEL, SNOOZE, REDRIVE, LIMIT})
    ),
    "three of a name": Scenario(
        (named(), named(priority=1), named(agent_id="other")), (SUCCEEDED, BACK), frozenset({CANCEL, LIMIT})
    ),
    "three turns": Scenario((turn(), turn(), turn()), (SUCCEEDED, FAILED, SNOOZED), frozenset({CANCEL})),
    "a plain one, a turn, a named turn": Scenario(
        (new("noop"), turn(), turn(concurrency_key="n")), (SUCCEEDED, FAILED, LOST), frozenset({CANCEL, LIMIT})
    ),
    "a tree": Scenario(
        (new("noop"), new("noop", parent_task_id="task-1"), named(parent_task_id="task-2")),
        (SUCCEEDED, FAILED),
        frozenset({CANCEL, REDRIVE}),
    ),
}
"""Searched to their ends by the command, in minutes."""
SCENARIOS: Mapping[str, Scenario] = {**SHORT, **LONG}
