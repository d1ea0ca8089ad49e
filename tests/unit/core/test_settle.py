"""The judgement that ends an attempt, as tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goclaw.core.outcome import Canceled, Died, Failed, HandedBack, Outcome, Succeeded, Unknown
from goclaw.core.settle import (
    Transition,
    backoff_ms,
    cancel,
    fingerprint,
    recover,
    redrive,
    settle,
    static_rank,
    wake,
)
from goclaw.core.task import TERMINAL, TRANSITIONS, TaskState
from tests.fakes_clock import START
from tests.scratch import running

S = TaskState
NOW = START + 5_000
BOOM = Failed("NOOP_FAILED", "boom")
MARK = fingerprint("NOOP_FAILED", "boom")


def path(change: Transition) -> list[tuple[str, str]]:
    return [(hop.to, hop.event) for hop in change.hops]


ENDS: list[tuple[str, dict[str, Any], Outcome, list[str], str | None]] = [
    ("success", {}, Succeeded({"n": 1}), ["SUCCEEDED"], None),
    ("a first failure waits", {}, BOOM, ["RETRY_WAIT"], "NOOP_FAILED"),
    ("a permanent failure rests", {}, replace(BOOM, permanent=True), ["FAILED"], "NOOP_FAILED"),
    ("one attempt only rests", {"max_attempts": 1}, BOOM, ["FAILED"], "NOOP_FAILED"),
    (
        "attempts used up",
        {"attempt": 3, "fingerprint": "other", "fingerprint_count": 2},
        BOOM,
        ["FAILED", "DEAD_LETTER"],
        "NOOP_FAILED",
    ),
    (
        "the third equal failure is poison",
        {"attempt": 3, "max_attempts": 9, "fingerprint": MARK, "fingerprint_count": 2},
        BOOM,
        ["FAILED", "DEAD_LETTER"],
        "POISON",
    ),
    (
        "poison where both hold",
        {"attempt": 3, "fingerprint": MARK, "fingerprint_count": 2},
        BOOM,
        ["FAILED", "DEAD_LETTER"],
        "POISON",
    ),
    (
        "a different failure starts the count again",
        {"attempt": 3, "max_attempts": 9, "fingerprint": "other", "fingerprint_count": 2},
        BOOM,
        ["RETRY_WAIT"],
        "NOOP_FAILED",
    ),
    (
        "a permanent third equal failure rests",
        {"attempt": 3, "fingerprint": MARK, "fingerprint_count": 2},
        replace(BOOM, permanent=True),
        ["FAILED"],
        "NOOP_FAILED",
    ),
    ("an unknown outcome rests", {}, Unknown("who knows"), ["FAILED"], "OUTCOME_UNKNOWN"),
    ("canceled", {}, Canceled(), ["CANCELED"], "CANCELED"),
    ("canceled by its deadline", {}, Canceled("DEADLINE"), ["CANCELED"], "DEADLINE"),
    ("handed back", {}, HandedBack(), ["QUEUED"], None),
    ("a lost lease", {}, Died(lease_lost=True), ["QUEUED"], None),
    (
        "a lost lease in the last attempt",
        {"attempt": 3},
        Died(lease_lost=True),
        ["FAILED", "DEAD_LETTER"],
        "LEASE_LOST",
    ),
    ("a lost lease in the only attempt", {"max_attempts": 1}, Died(lease_lost=True), ["FAILED"], "LEASE_LOST"),
    ("the first death", {}, Died(), ["QUEUED"], None),
    ("the second death", {"deaths": 1}, Died(), ["QUEUED"], None),
    ("the third death is poison", {"deaths": 2}, Died(), ["DEAD_LETTER"], "POISON"),
]


@pytest.mark.spec("GC-STM-102")
@pytest.mark.spec("GC-STM-103")
@pytest.mark.spec("GC-STM-104")
@pytest.mark.parametrize(
    ("fields", "outcome", "states", "code"), [end[1:] for end in ENDS], ids=[end[0] for end in ENDS]
)
def test_how_an_attempt_ends(fields: dict[str, Any], outcome: Outcome, states: list[str], code: str | None) -> None:
    change = settle(running(**fields), outcome, NOW, 0.0)
    assert [hop.to for hop in change.hops] == states
    assert change.error_code == code
    assert change.state == states[-1]


EVERY_OUTCOME = [
    Succeeded(1),
    BOOM,
    replace(BOOM, permanent=True),
    Unknown("x"),
    Canceled(),
    HandedBack(),
    Died(),
    Died(lease_lost=True),
]


@given(
    outcome=st.sampled_from(EVERY_OUTCOME),
    attempt=st.integers(1, 5),
    max_attempts=st.integers(1, 5),
    deaths=st.integers(0, 2),
    count=st.integers(0, 3),
    asked=st.booleans(),
    jitter=st.floats(0, 1, exclude_max=True),
)
def test_no_judgement_leaves_the_graph_or_forgets_a_cancel(
    outcome: Outcome, attempt: int, max_attempts: int, deaths: int, count: int, asked: bool, jitter: float
) -> None:
    task = running(
        attempt=attempt,
        max_attempts=max_attempts,
        deaths=deaths,
        fingerprint=MARK if count else None,
        fingerprint_count=count,
        cancel_requested=asked,
    )
    change = settle(task, outcome, NOW, jitter)
    came_from = S.RUNNING
    for hop in change.hops:
        assert hop.to in TRANSITIONS[came_from]
        came_from = hop.to
    if asked:
        assert change.state in TERMINAL
    if change.state is S.RETRY_WAIT:
        assert NOW + 1_000 <= change.available_at <= NOW + 45_000
        assert change.wait_reason == "backoff"
    else:
        assert change.wait_reason is None


@pytest.mark.spec("GC-STM-105")
@pytest.mark.parametrize(
    ("attempt", "base"),
    [(1, 1_000), (2, 2_000), (3, 4_000), (4, 8_000), (5, 16_000), (6, 30_000), (7, 30_000), (99, 30_000)],
)
def test_a_retry_waits_one_second_doubling_to_thirty_plus_up_to_half(attempt: int, base: int) -> None:
    task = running(attempt=attempt, max_attempts=100)
    least, most = settle(task, BOOM, NOW, 0.0), settle(task, BOOM, NOW, 0.999_999)
    assert least.available_at == NOW + base
    assert NOW + base * 1.49 < most.available_at < NOW + base * 1.5
    assert backoff_ms(attempt, 0.5) == base * 1.25


@pytest.mark.spec("GC-STM-105")
@pytest.mark.parametrize(("asked", "wait"), [(0, 1_000), (999, 1_000), (1_001, 1_001), (90_000, 90_000)])
def test_retry_after_is_a_minimum(asked: int, wait: int) -> None:
    change = settle(running(), replace(BOOM, retry_after_ms=asked), NOW, 0.0)
    assert change.available_at == NOW + wait
    assert change.hops[-1].payload["available_at"] == NOW + wait


@pytest.mark.spec("GC-STM-106")
@pytest.mark.parametrize(
    ("outcome", "attempt", "deaths"),
    [
        (HandedBack(), 1, 1),
        (Died(), 1, 2),
        (Died(lease_lost=True), 2, 1),
        (BOOM, 2, 1),
        (Succeeded(), 2, 1),
        (Unknown("x"), 2, 1),
    ],
)
def test_what_an_end_charges(outcome: Outcome, attempt: int, deaths: int) -> None:
    change = settle(running(attempt=2, deaths=1), outcome, NOW, 0.0)
    assert (change.attempt, change.deaths) == (attempt, deaths)


def test_counters_never_fall_below_zero() -> None:
    assert settle(running(attempt=0), HandedBack(), NOW, 0.0).attempt == 0
    assert settle(running(attempt=0), Died(), NOW, 0.0).attempt == 0


@pytest.mark.spec("GC-STM-107")
@pytest.mark.parametrize("outcome", [HandedBack(), BOOM, Died(lease_lost=True), Died(), Unknown("begun")])
def test_a_committed_cancel_is_kept_whatever_the_attempt_says(outcome: Outcome) -> None:
    task = running(cancel_requested=True, cancel_reason="no longer needed")
    change = settle(task, outcome, NOW, 0.0)
    assert path(change) == [("CANCELED", "task.canceled")]
    assert (change.error_code, change.error) == ("CANCELED", "no longer needed")


def test_of_two_ends_that_race_the_first_counts() -> None:
    asked = running(cancel_requested=True)
    assert settle(asked, Succeeded(1), NOW, 0.0).state is S.SUCCEEDED
    assert settle(asked, replace(BOOM, permanent=True), NOW, 0.0).state is S.FAILED


def test_the_reason_of_a_cancel_reaches_the_end() -> None:
    change = settle(running(cancel_requested=True, cancel_reason="wrong file"), Canceled(), NOW, 0.0)
    assert change.error == "wrong file"
    assert change.hops[0].payload == {"error_code": "CANCELED", "reason": "wrong file"}


@pytest.mark.spec("GC-STM-108")
def test_recovery_judges_in_this_order() -> None:
    begun = running(cancel_requested=True, cancel_reason="enough", deadline_at=NOW - 1)
    assert recover(begun, began_unsafe=True, now=NOW).error == "enough"
    overdue = running(deadline_at=NOW)
    assert recover(overdue, began_unsafe=True, now=NOW).error_code == "DEADLINE"
    assert recover(running(deaths=2), began_unsafe=True, now=NOW).error_code == "OUTCOME_UNKNOWN"
    claimed = recover(running(state=S.CLAIMED, deaths=2), began_unsafe=False, now=NOW)
    assert (path(claimed), claimed.attempt, claimed.deaths) == ([("QUEUED", "task.recovered")], 0, 2)
    ran = recover(running(attempt=2), began_unsafe=False, now=NOW)
    assert (path(ran), ran.attempt, ran.deaths) == ([("QUEUED", "task.recovered")], 1, 1)
    third = recover(running(deaths=2), began_unsafe=False, now=NOW)
    assert (path(third), third.deaths) == ([("DEAD_LETTER", "task.dead_letter")], 3)


def test_a_deadline_that_asked_its_holder_to_end_is_a_deadline_after_a_crash_too() -> None:
    task = running(cancel_requested=True, cancel_reason="DEADLINE", deadline_at=NOW - 1)
    assert recover(task, began_unsafe=False, now=NOW).error_code == "DEADLINE"
    person = running(cancel_requested=True, cancel_reason="DEADLINE", deadline_at=None)
    assert recover(person, began_unsafe=False, now=NOW).error_code == "CANCELED"


def test_a_wake_keeps_the_history_and_a_redrive_forgets_it() -> None:
    waiting = running(
        state=S.RETRY_WAIT, wait_reason="backoff", attempt=2, deaths=1, fingerprint=MARK, fingerprint_count=2, error="e"
    )
    woken = wake(waiting, NOW, "session")
    assert (woken.attempt, woken.deaths, woken.fingerprint_count, woken.error) == (2, 1, 2, "e")
    assert (woken.state, woken.wait_reason, woken.available_at) == (S.QUEUED, "session", NOW)
    assert woken.hops[0].payload == {"reason": "backoff"}
    again = redrive(running(state=S.DEAD_LETTER, attempt=3, deaths=3, fingerprint=MARK, fingerprint_count=3), NOW)
    assert (again.attempt, again.deaths, again.fingerprint, again.fingerprint_count) == (0, 0, None, 0)
    assert again.error is None


def test_a_cancel_without_a_reason_says_so() -> None:
    assert cancel(running(state=S.QUEUED), NOW, "CANCELED", None).error == "canceled on request"
    assert cancel(running(state=S.QUEUED), NOW, "DEADLINE", None).error == "the deadline passed"


@pytest.mark.spec("GC-QUE-101")
def test_a_step_of_priority_is_worth_thirty_seconds() -> None:
    assert static_rank(NOW, 1) == static_rank(NOW - 30_000, 0)
    assert static_rank(NOW, -10) == NOW + 300_000
    assert static_rank(NOW, 10) < static_rank(NOW, 9) < static_rank(NOW, -10)


def test_a_fingerprint_takes_code_and_message_apart() -> None:
    assert fingerprint("A", "BC") != fingerprint("AB", "C")
    assert fingerprint("A", "\udcff") == fingerprint("A", "\udcff")
    assert len(fingerprint("A", "B")) == 16


def test_what_an_end_keeps_of_the_usage() -> None:
    used = running(usage={"input": 1}, deaths=2)
    assert settle(used, Died(), NOW, 0.0).usage == {"input": 1}
    assert settle(used, BOOM, NOW, 0.0).usage == {"input": 1}
    assert settle(used, Unknown("x"), NOW, 0.0).usage == {"input": 1}
    assert settle(used, replace(BOOM, usage={"input": 2}), NOW, 0.0).usage == {"input": 2}
