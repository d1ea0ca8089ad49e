from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from goclaw.core.schedule import (
    COALESCE,
    GRACE_MS,
    SKIP,
    At,
    Cron,
    Draft,
    Every,
    Missed,
    Outcome,
    Overlap,
    Schedule,
    build,
    judge,
    next_after,
    occurrence_task,
    planned,
    read_missed,
    upcoming,
)
from goclaw.errors import BadRequest, TooLarge

NOW = 1_789_948_800_000
MINUTE = 60_000
HOUR = 60 * MINUTE


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def draft(**fields: Any) -> Draft:
    given: dict[str, Any] = {"kind": "noop", "every_ms": MINUTE} | fields
    return Draft(**given)


def schedule(**fields: Any) -> Schedule:
    return build(draft(**fields), "job", NOW)


def test_a_draft_becomes_a_schedule_with_its_defaults() -> None:
    made = build(Draft(cron="  0  8 * * 1-5", zone="Europe/Berlin", payload={"content": "hi"}), "morning", NOW)
    assert made.when == Cron("0 8 * * 1-5", "Europe/Berlin")
    assert (made.name, made.enabled, made.missed, made.overlap) == ("morning", True, COALESCE, Overlap.SKIP)
    assert (made.task.kind, made.task.agent_id, made.task.max_attempts) == ("chat", None, 3)


@pytest.mark.spec("GC-QUE-302")
@pytest.mark.parametrize(
    ("fields", "field", "says"),
    [
        ({"every_ms": None}, "cron", "exactly one of cron, every_ms and at, not none"),
        ({"cron": "* * * * *"}, "cron", "not cron and every_ms"),
        ({"every_ms": None, "cron": "* * * * * *"}, "cron", "five fields"),
        ({"every_ms": None, "cron": "0 0 * * *", "zone": "Mars/Base"}, "zone", "unknown time zone"),
        ({"zone": "Mars/Base"}, "zone", "unknown time zone"),
        ({"every_ms": 999}, "every_ms", "from 1000"),
        ({"every_ms": 10**15}, "every_ms", "milliseconds"),
        ({"anchor": -1}, "anchor", "instant in milliseconds"),
        ({"every_ms": None, "at": 10**15}, "at", "instant in milliseconds"),
        ({"missed": "sometimes"}, "missed", "skip, coalesce or catch_up(N)"),
        ({"missed": "catch_up(0)"}, "missed", "from 1 to 100"),
        ({"missed": "catch_up(101)"}, "missed", "from 1 to 100"),
        ({"overlap": "queue"}, "overlap", "skip or allow"),
        ({"name": ""}, "name", "1 to 200"),
        ({"name": "a\nb"}, "name", "printable"),
        ({"kind": "chat"}, "payload.content", "missing"),
        ({"kind": "chat", "payload": {"content": " "}}, "payload.content", "empty"),
        ({"kind": "dance"}, "kind", "unknown kind"),
        ({"session_id": "no blanks"}, "session_id", "1 to 128"),
        ({"priority": 11}, "priority", "-10 to 10"),
        ({"max_attempts": 0}, "max_attempts", "from 1"),
        ({"deadline_ms": 0}, "deadline_ms", "positive"),
    ],
)
def test_a_draft_that_cannot_be_is_refused_by_the_name_of_its_field(
    fields: dict[str, Any], field: str, says: str
) -> None:
    with pytest.raises(BadRequest) as caught:
        build(draft(**fields), "job", NOW)
    assert caught.value.data["field"] == field
    assert says in caught.value.message


@pytest.mark.parametrize("job_id", ["", ".hidden", "a b", "x" * 65, "é"])
def test_an_id_is_made_of_plain_characters(job_id: str) -> None:
    with pytest.raises(BadRequest, match="id has 1 to 64"):
        build(draft(), job_id, NOW)


def test_a_payload_over_the_limit_is_refused() -> None:
    with pytest.raises(TooLarge):
        build(draft(kind="chat", payload={"content": "x" * 2**20}), "job", NOW)


@pytest.mark.parametrize("text", ["skip", "coalesce", "catch_up(1)", "catch_up(100)"])
def test_a_missed_policy_is_written_as_it_was_read(text: str) -> None:
    assert str(read_missed(text)) == text


@pytest.mark.spec("GC-QUE-304")
def test_an_interval_is_anchored_and_does_not_drift() -> None:
    when = Every(7 * MINUTE, NOW)
    assert upcoming(when, NOW, 3) == [NOW + 7 * MINUTE, NOW + 14 * MINUTE, NOW + 21 * MINUTE]
    assert upcoming(when, NOW + 7 * MINUTE - 1, 1) == [NOW + 7 * MINUTE]
    assert upcoming(when, NOW + 7 * MINUTE, 1) == [NOW + 14 * MINUTE]


def test_an_anchor_to_come_is_the_first_instant() -> None:
    assert upcoming(Every(MINUTE, NOW + HOUR), NOW, 2) == [NOW + HOUR, NOW + HOUR + MINUTE]


def test_an_interval_knows_no_daylight_saving() -> None:
    anchor = ms("2026-10-24T12:00:00+02:00")
    assert upcoming(Every(24 * HOUR, anchor), anchor, 1) == [ms("2026-10-25T11:00:00+01:00")]


def test_one_instant_comes_once() -> None:
    assert upcoming(At(NOW), NOW - 1, 5) == [NOW]
    assert upcoming(At(NOW), NOW, 5) == []


def test_a_disabled_schedule_has_no_next_instant() -> None:
    assert next_after(schedule(enabled=False), NOW) is None
    assert next_after(schedule(), NOW) == NOW + MINUTE


@pytest.mark.parametrize("when", [Every(MINUTE, NOW), Cron("* * * * *", "Europe/Berlin")], ids=["every", "cron"])
def test_planned_instants_are_counted_without_being_kept(when: Every | Cron) -> None:
    span = planned(when, NOW, NOW + 400 * 24 * HOUR, 2)
    assert span is not None
    assert (span.first, span.count) == (NOW + MINUTE, 400 * 24 * 60)
    assert span.newest == (NOW + 400 * 24 * HOUR - MINUTE, NOW + 400 * 24 * HOUR)


def test_nothing_planned_is_no_span() -> None:
    for when in (Every(HOUR, NOW), Cron("0 9 * * *", "UTC"), At(NOW)):
        assert planned(when, NOW, NOW + MINUTE, 1) is None


@pytest.mark.spec("GC-QUE-306")
@pytest.mark.parametrize(
    ("missed", "runs", "rest"),
    [
        (SKIP, 0, (Outcome.MISSED, 1, 10, 10)),
        (COALESCE, 1, (Outcome.COALESCED, 1, 9, 9)),
        (Missed(3, Outcome.MISSED), 3, (Outcome.MISSED, 1, 7, 7)),
        (Missed(10, Outcome.MISSED), 10, None),
        (Missed(99, Outcome.MISSED), 10, None),
    ],
    ids=str,
)
def test_what_was_missed_follows_the_policy(
    missed: Missed, runs: int, rest: tuple[Outcome, int, int, int] | None
) -> None:
    job = replace(schedule(every_ms=HOUR), missed=missed)
    judged = judge(job, NOW, NOW + 10 * HOUR + GRACE_MS + 1)
    assert judged is not None
    assert judged.runs == tuple(NOW + k * HOUR for k in range(11 - runs, 11))
    assert judged.watermark == NOW + 10 * HOUR
    assert judged.late
    if rest is None:
        assert judged.rest is None
    else:
        outcome, first, last, count = rest
        assert judged.rest is not None
        assert (judged.rest.outcome, judged.rest.count) == (outcome, count)
        assert (judged.rest.first, judged.rest.last) == (NOW + first * HOUR, NOW + last * HOUR)
        assert judged.rest.planned_at == judged.rest.first


@pytest.mark.spec("GC-QUE-306")
def test_an_instant_within_the_grace_is_on_time_under_every_policy() -> None:
    for missed in (SKIP, COALESCE, Missed(1, Outcome.MISSED)):
        job = replace(schedule(every_ms=HOUR), missed=missed)
        judged = judge(job, NOW, NOW + HOUR + GRACE_MS)
        assert judged is not None
        assert (judged.runs, judged.late, judged.rest) == ((NOW + HOUR,), False, None)
        late = judge(job, NOW, NOW + HOUR + GRACE_MS + 1)
        assert late is not None
        assert late.late


def test_of_several_due_instants_only_the_newest_can_be_on_time() -> None:
    judged = judge(replace(schedule(every_ms=1_000), missed=SKIP), NOW, NOW + 30_000)
    assert judged is not None
    assert judged.runs == (NOW + 30_000,)
    assert judged.rest is not None
    assert (judged.rest.outcome, judged.rest.count) == (Outcome.MISSED, 29)


def test_nothing_due_is_no_judgement() -> None:
    assert judge(schedule(), NOW, NOW + MINUTE - 1) is None
    assert judge(schedule(), NOW + HOUR, NOW) is None


@pytest.mark.spec("GC-QUE-308")
def test_a_turn_without_a_session_gets_a_fresh_one_for_each_run() -> None:
    turn = schedule(kind="chat", payload={"content": "what is new?"})
    first, second = occurrence_task(turn, NOW), occurrence_task(turn, NOW + 1)
    assert first.session_id == f"cron:job:{NOW}"
    assert second.session_id != first.session_id
    assert first.idempotency_key != second.idempotency_key
    (message,) = first.messages
    assert message.role == "user"


def test_a_named_session_is_kept_and_other_kinds_have_none() -> None:
    assert occurrence_task(schedule(session_id="diary"), NOW).session_id == "diary"
    assert occurrence_task(schedule(), NOW).session_id is None
