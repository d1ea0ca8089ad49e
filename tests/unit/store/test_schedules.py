from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from goclaw.core.schedule import At, Cron, Draft, Every, Job, Occurrence, Outcome, When, build
from goclaw.db import open_checked
from goclaw.db.queries import load_queries
from goclaw.store import schedules
from tests.fakes_clock import START, FakeClock

MINUTE = 60_000


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    conn = open_checked(tmp_path / "goclaw.db", FakeClock())
    yield conn
    conn.close()


def job(job_id: str = "job", **fields: Any) -> Job:
    drafted = replace(Draft(kind="noop", every_ms=MINUTE), **fields)
    return Job(
        schedule=build(drafted, job_id, START),
        source="api",
        declared=None,
        watermark=START,
        next_at=START + MINUTE,
        last_at=None,
        created_at=START,
        updated_at=START,
    )


def ended(planned_at: int, outcome: Outcome = Outcome.SKIPPED, **fields: Any) -> Occurrence:
    one = Occurrence(job_id="job", planned_at=planned_at, outcome=outcome, first=planned_at, last=planned_at)
    return replace(one, **fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"every_ms": MINUTE, "anchor": START, "missed": "catch_up(3)", "overlap": "allow"},
        {"every_ms": None, "cron": "*/5 * * * 1-5", "zone": "Europe/Berlin", "name": "often"},
        {
            "every_ms": None,
            "at": START + MINUTE,
            "kind": "chat",
            "payload": {"content": "ü"},
            "session_id": "s",
        },
        {"agent_id": "researcher", "priority": -3, "max_attempts": 1, "deadline_ms": 5_000, "enabled": True},
    ],
    ids=["every", "cron", "at", "task"],
)
def test_a_job_comes_back_as_it_was_stored(conn: sqlite3.Connection, fields: dict[str, Any]) -> None:
    stored = job(**fields)
    schedules.insert(conn, stored)
    assert schedules.find(conn, "job") == stored
    declared = replace(stored, source="config", declared=True, updated_at=START + 1)
    assert schedules.update(conn, declared)
    assert schedules.find(conn, "job") == declared


def test_the_watermark_never_goes_back(conn: sqlite3.Connection) -> None:
    schedules.insert(conn, job())
    assert schedules.advance(conn, "job", START + MINUTE, START + 2 * MINUTE, START + MINUTE)
    assert not schedules.advance(conn, "job", START, START + MINUTE, None)
    assert not schedules.update(conn, job())
    standing = schedules.find(conn, "job")
    assert standing is not None
    assert (standing.watermark, standing.next_at, standing.last_at) == (
        START + MINUTE,
        START + 2 * MINUTE,
        START + MINUTE,
    )


def test_advancing_without_a_run_keeps_the_last_one(conn: sqlite3.Connection) -> None:
    schedules.insert(conn, replace(job(), last_at=START))
    schedules.advance(conn, "job", START + MINUTE, None, None)
    standing = schedules.find(conn, "job")
    assert standing is not None
    assert (standing.last_at, standing.next_at) == (START, None)


@pytest.mark.parametrize(
    "wrong",
    [
        "UPDATE schedule SET next_at = watermark",
        "UPDATE schedule SET enabled = 0",
        "UPDATE schedule SET kind = 'cron'",
        "UPDATE schedule SET source = 'config'",
    ],
)
def test_the_schema_refuses_a_job_that_contradicts_itself(conn: sqlite3.Connection, wrong: str) -> None:
    schedules.insert(conn, job())
    with pytest.raises(sqlite3.IntegrityError):
        conn.execute(wrong)


def test_due_jobs_come_earliest_first_and_disabled_ones_never(conn: sqlite3.Connection) -> None:
    for name, after in (("late", 3), ("soon", 1), ("later", 9)):
        schedules.insert(conn, replace(job(name), next_at=START + after * MINUTE))
    schedules.insert(conn, replace(job("off", enabled=False), next_at=None))
    found = schedules.due(conn, START + 5 * MINUTE, 10)
    assert [one.schedule.id for one in found] == ["soon", "late"]
    assert [one.schedule.id for one in schedules.due(conn, START + 5 * MINUTE, 1)] == ["soon"]
    assert schedules.next_wake(conn) == START + MINUTE


def test_nobody_waits_without_jobs(conn: sqlite3.Connection) -> None:
    assert schedules.next_wake(conn) is None
    assert schedules.newest(conn, "job") is None


def test_looking_for_work_uses_the_index(conn: sqlite3.Connection) -> None:
    queries = load_queries("schedules")
    hot = {
        "due": "schedule",
        "next_wake": "schedule",
        "close_ended": "occurrence",
        "unfinished": "occurrence",
    }
    for name, table in hot.items():
        index = "schedule_due" if table == "schedule" else "occurrence_open"
        given = {"now": 0, "limit": 1, "job_id": "job"}
        plan = " ".join(row["detail"] for row in conn.execute(f"EXPLAIN QUERY PLAN {queries[name]}", given))
        assert f"USING INDEX {index}" in plan or f"USING COVERING INDEX {index}" in plan, name
        assert "SCAN task" not in plan


@pytest.mark.spec("GC-QUE-301")
def test_an_occurrence_ends_once_and_the_first_word_stands(conn: sqlite3.Connection) -> None:
    assert schedules.record(conn, ended(START, reason="overlap"), START)
    assert not schedules.record(conn, ended(START, Outcome.MISSED), START + 1)
    assert schedules.recorded(conn, "job", START)
    assert not schedules.recorded(conn, "job", START + 1)
    assert schedules.history(conn, "job", 10, None) == [ended(START, reason="overlap")]


def test_history_is_newest_first_and_pages_by_the_planned_instant(conn: sqlite3.Connection) -> None:
    run = ended(START + 5, Outcome.MISSED, first=START + 5, last=START + 50, count=4)
    for one in (ended(START), run, ended(START + 60)):
        schedules.record(conn, one, START)
    assert schedules.history(conn, "job", 2, None) == [ended(START + 60), run]
    assert schedules.history(conn, "job", 2, START + 5) == [ended(START)]
    assert schedules.newest(conn, "job") == START + 60


def test_history_outlives_its_job(conn: sqlite3.Connection) -> None:
    schedules.insert(conn, job())
    schedules.record(conn, ended(START), START)
    assert schedules.delete(conn, "job")
    assert not schedules.delete(conn, "job")
    assert schedules.find(conn, "job") is None
    assert schedules.newest(conn, "job") == START


def test_readers_see_jobs_and_occurrences_by_their_promised_names(conn: sqlite3.Connection) -> None:
    schedules.insert(conn, job())
    schedules.record(conn, ended(START, reason="overlap"), START)
    shown = dict(conn.execute("SELECT * FROM occurrences").fetchone())
    expected = {
        "job_id": "job",
        "planned_at": START,
        "outcome": "skipped",
        "reason": "overlap",
        "task_id": None,
    }
    assert shown == expected | {"first": START, "last": START, "count": 1, "created_at": START}
    row = conn.execute("SELECT id, kind, every_ms, payload_json, next_at FROM schedules").fetchone()
    assert tuple(row) == ("job", "every", MINUTE, "{}", START + MINUTE)


def test_jobs_are_listed_by_id_and_by_where_they_come_from(conn: sqlite3.Connection) -> None:
    for name in ("c", "a", "b"):
        schedules.insert(conn, job(name))
    schedules.update(conn, replace(job("b"), source="config", declared=True))
    assert [one.schedule.id for one in schedules.page(conn, 2, None)] == ["a", "b"]
    assert [one.schedule.id for one in schedules.page(conn, 2, "b")] == ["c"]
    assert (schedules.of_source(conn, "config"), schedules.of_source(conn, "api")) == (["b"], ["a", "c"])
    assert schedules.count(conn) == 3


def test_a_timetable_of_each_form_is_read_back(conn: sqlite3.Connection) -> None:
    forms: list[When] = [Every(MINUTE, START), Cron("0 0 * * *", "UTC"), At(START + MINUTE)]
    for number, when in enumerate(forms):
        made = job(str(number))
        schedules.insert(conn, replace(made, schedule=replace(made.schedule, when=when)))
    assert [one.schedule.when for one in schedules.page(conn, 9, None)] == forms
