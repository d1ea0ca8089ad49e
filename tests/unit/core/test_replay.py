"""What the events of a task say, and what they do not explain. Pure."""

from __future__ import annotations

from typing import Any

import pytest

from goclaw.core.replay import MOST_PROBLEMS, Replay, StepRow, TaskRow, Told

AT = 1_000


def story(*moves: tuple[str, str | None, str | None, dict[str, Any] | None]) -> Replay:
    replay = Replay()
    for number, (kind, came, to, payload) in enumerate(moves, 1):
        replay.take(Told(number, kind, came, to, 7 if to == "CLAIMED" else None, AT + number, payload))
    return replay


def row(state: str, **fields: Any) -> TaskRow:
    known: dict[str, Any] = {
        "attempt": 0, "deaths": 0, "wait_reason": None, "available_at": 0, "lease_token": None, "finished_at": None,
        "error_code": None, "error": None, "has_result": False,
    }  # fmt: skip
    return TaskRow(state=state, **(known | fields))


QUEUED = ("task.enqueued", None, "QUEUED", {"kind": "noop"})
CLAIMED = ("task.claimed", "QUEUED", "CLAIMED", {"attempt": 1})
RUNNING: tuple[str, str, str, dict[str, Any]] = ("task.running", "CLAIMED", "RUNNING", {})


def problems(replay: Replay, stored: TaskRow, *steps: StepRow) -> list[str]:
    return list(replay.compare(stored, steps))


@pytest.mark.spec("GC-DATA-201")
def test_a_life_without_trouble_is_explained() -> None:
    done = story(QUEUED, CLAIMED, RUNNING, ("task.succeeded", "RUNNING", "SUCCEEDED", {}))
    assert problems(done, row("SUCCEEDED", attempt=1, finished_at=AT + 4, has_result=True)) == []
    assert problems(story(QUEUED, CLAIMED), row("CLAIMED", attempt=1, lease_token=7)) == []


@pytest.mark.spec("GC-DATA-201")
@pytest.mark.parametrize(
    ("moves", "attempt", "deaths"),
    [
        ([("task.recovered", "RUNNING", "QUEUED", {"attempt": 0, "deaths": 1})], 0, 1),
        ([("task.requeued", "RUNNING", "QUEUED", {"attempt": 0})], 0, 0),
        ([("task.lease_lost", "RUNNING", "QUEUED", {"attempt": 1})], 1, 0),
        (
            [
                ("task.failed", "RUNNING", "FAILED", {"error_code": "X"}),
                ("task.requeued", "FAILED", "QUEUED", {"reason": "redrive"}),
            ],
            0,
            0,
        ),
        (
            [
                ("task.retry_wait", "RUNNING", "RETRY_WAIT", {"wait_reason": "backoff"}),
                ("task.requeued", "RETRY_WAIT", "QUEUED", {"reason": "backoff"}),
            ],
            1,
            0,
        ),
    ],
)
def test_attempts_and_deaths_follow_the_events(moves: list[Any], attempt: int, deaths: int) -> None:
    assert problems(story(QUEUED, CLAIMED, RUNNING, *moves), row("QUEUED", attempt=attempt, deaths=deaths)) == []
    assert problems(story(QUEUED, CLAIMED, RUNNING, *moves), row("QUEUED", attempt=9, deaths=9)) == [
        f"attempt is 9, its events say {attempt}",
        f"deaths is 9, its events say {deaths}",
    ]


@pytest.mark.spec("GC-DATA-201")
def test_a_wait_that_is_no_failure_may_give_its_charge_back() -> None:
    waits = ("task.retry_wait", "RUNNING", "RETRY_WAIT", {"wait_reason": "approval"})
    again = ("task.requeued", "RETRY_WAIT", "QUEUED", {"reason": "approval"})
    for attempt in (0, 1):
        assert problems(story(QUEUED, CLAIMED, RUNNING, waits, again), row("QUEUED", attempt=attempt)) == []
    same = story(QUEUED, CLAIMED, RUNNING, waits, again, CLAIMED, RUNNING)
    assert problems(same, row("RUNNING", attempt=1, lease_token=7)) == []


@pytest.mark.spec("GC-DATA-201")
def test_a_death_that_ends_the_task_counts() -> None:
    dead = story(QUEUED, CLAIMED, RUNNING, ("task.dead_letter", "RUNNING", "DEAD_LETTER", {"error_code": "POISON"}))
    stored = row("DEAD_LETTER", attempt=1, deaths=1, finished_at=AT + 4, error_code="POISON")
    assert problems(dead, stored) == []


@pytest.mark.spec("GC-DATA-201")
@pytest.mark.parametrize(
    ("moves", "said"),
    [
        ([QUEUED, QUEUED], "event 2 leaves nothing, but the task was QUEUED"),
        ([QUEUED, RUNNING], "event 2 leaves CLAIMED, but the task was QUEUED"),
        (
            [QUEUED, ("task.succeeded", "QUEUED", "SUCCEEDED", {})],
            "goes from QUEUED to SUCCEEDED, which is no",
        ),
        ([QUEUED, ("task.canceled", "QUEUED", "CLAIMED", {})], "event 2 is task.canceled and leads to CLAIMED"),
        ([QUEUED, ("task.claimed", "QUEUED", "CLAIMED", {"attempt": 3})], "claims attempt 3, but attempt 1 was due"),
        ([QUEUED, ("task.claimed", "QUEUED", "ASLEEP", {})], "event 2 names a state that does not exist"),
        ([QUEUED, ("task.claimed", None, None, {})], "event 2 (task.claimed) names no state"),
        ([CLAIMED], "event 1 leaves QUEUED, but the task was nothing"),
    ],
)
def test_a_story_that_cannot_be_is_told(moves: list[Any], said: str) -> None:
    assert any(said in one for one in problems(story(*moves), row("QUEUED")))


@pytest.mark.spec("GC-DATA-201")
def test_a_task_is_enqueued_exactly_once() -> None:
    assert "it was enqueued 2 times" in problems(story(QUEUED, QUEUED), row("QUEUED"))
    assert "it was enqueued 0 times" in problems(story(("task.requeued", None, "QUEUED", {})), row("QUEUED"))
    assert problems(Replay(), row("QUEUED")) == ["it is QUEUED, and no event tells of it"]


@pytest.mark.spec("GC-DATA-205")
def test_what_only_a_purged_payload_told_is_not_compared_and_the_state_still_is() -> None:
    ended = story(
        ("task.enqueued", None, "QUEUED", None),
        ("task.claimed", "QUEUED", "CLAIMED", None),
        RUNNING,
        ("task.recovered", "RUNNING", "QUEUED", None),
        ("step.intended", None, None, None),
        ("step.done", None, None, {"key": "a"}),
    )
    assert problems(ended, row("QUEUED", attempt=5, deaths=2), step("a", "done")) == []
    assert problems(ended, row("RETRY_WAIT")) == ["it is RETRY_WAIT, but event 4 left it QUEUED"]


def step(key: str, state: str, seq: int = 1, result: str | None = None) -> StepRow:
    return StepRow(key=key, seq=seq, state=state, request_hash="h", result_digest=result)


def told(kind: str, key: str = "a", **more: Any) -> tuple[str, None, None, dict[str, Any]]:
    return (f"step.{kind}", None, None, {"key": key, "seq": 1, "request_digest": "h", **more})


@pytest.mark.spec("GC-DATA-201")
@pytest.mark.parametrize(
    ("moves", "stored", "said"),
    [
        ([told("intended"), told("running"), told("done", result_digest="r")], step("a", "done", result="r"), None),
        ([told("intended"), told("failed")], step("a", "failed"), None),
        ([told("intended"), told("unknown"), told("intended", resolved=True)], step("a", "intended"), None),
        ([told("intended"), told("unknown"), told("done", resolved=True)], step("a", "done"), None),
        ([told("intended"), told("running"), told("running")], step("a", "running"), None),
        ([told("intended"), told("done"), told("running")], step("a", "running"), "moves step a from done to running"),
        ([told("intended"), told("done", resolved=True)], step("a", "done"), "moves step a from intended to done"),
        ([told("intended"), told("intended")], step("a", "intended"), "intends step a a second time"),
        ([told("running")], step("a", "running"), "tells of step a, which was never intended"),
    ],
)
def test_a_step_follows_its_events(moves: list[Any], stored: StepRow, said: str | None) -> None:
    found = problems(story(QUEUED, *moves), row("QUEUED"), stored)
    assert any(said in one for one in found) if said else found == []


def test_the_problems_of_one_task_are_bounded() -> None:
    assert len(problems(story(*[CLAIMED] * 50), row("QUEUED"))) == MOST_PROBLEMS


@pytest.mark.parametrize("value", ["1", None, [], 1.5, {}])
def test_a_payload_that_makes_no_sense_ends_nothing(value: Any) -> None:
    odd = {"attempt": value, "deaths": value, "error": value, "available_at": value}
    replay = story(QUEUED, ("task.claimed", "QUEUED", "CLAIMED", odd), ("task.failed", "RUNNING", "FAILED", odd))
    assert problems(replay, row("FAILED", finished_at=1))
