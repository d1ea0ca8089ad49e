from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from goclaw.core.outcome import Succeeded
from goclaw.core.schedule import Draft, Occurrence, Outcome
from goclaw.db import Database
from goclaw.kernel import firing, jobs
from goclaw.store import events
from goclaw.store.tasks import TaskFilter
from tests.fakes_clock import START, FakeClock
from tests.fakes_schedules import DAY, HOUR, MINUTE, House, reopened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "goclaw.db"


@pytest.fixture
async def house(path: Path) -> AsyncIterator[House]:
    clock = FakeClock()
    async with Database(path, clock) as database:
        yield House(database, clock)


# --- firing --------------------


@pytest.mark.spec("GC-QUE-301")
async def test_a_due_job_submits_its_task_once_and_moves_its_watermark(house: House) -> None:
    await house.add(payload={"result": 7}, priority=3, max_attempts=1, deadline_ms=MINUTE)
    house.clock.advance(HOUR)
    await house.fire()
    await house.fire()
    (task,) = await house.queue.page(TaskFilter(), 10, None)
    assert (task.kind, task.payload, task.priority, task.max_attempts) == ("noop", {"result": 7}, 3, 1)
    assert task.deadline_at == house.clock.wall() + MINUTE
    assert task.session_id is None
    assert await house.history() == [("ran", 60, 1, None)]
    job = await house.scheduler.get("job")
    assert (job.watermark, job.last_at, job.next_at) == (START + HOUR, START + HOUR, START + 2 * HOUR)
    assert house.rung == ["default"]


@pytest.mark.spec("GC-QUE-301")
async def test_a_firing_is_told_after_its_task_and_leaves_the_log_of_the_task_alone(house: House) -> None:
    await house.add()
    house.clock.advance(HOUR)
    await house.fire()
    await house.finish_all()
    (task,) = await house.queue.page(TaskFilter(), 10, None)
    log = await house.told("")
    kinds = [event.event_type for event in log]
    assert kinds == [
        "cron.added",
        "task.enqueued",
        "cron.fired",
        "task.claimed",
        "task.running",
        "task.succeeded",
    ]
    assert log[2].payload == {"job_id": "job", "planned_at": START + HOUR, "task_id": task.id}
    assert len(await house.database.read(events.read_task, task.id, 0)) == 4


@pytest.mark.spec("GC-QUE-308")
async def test_a_chat_job_talks_in_a_fresh_session_or_in_the_one_it_names(house: House) -> None:
    fields: dict[str, Any] = {"kind": "chat", "payload": {"content": "what is new?"}, "overlap": "allow"}
    await house.add("fresh", **fields)
    await house.add("diary", session_id="diary", **fields)
    house.clock.advance(HOUR)
    await house.fire()
    house.clock.advance(HOUR)
    await house.fire()
    found = sorted(str(task.session_id) for task in await house.queue.page(TaskFilter(), 10, None))
    assert found == [f"cron:fresh:{START + HOUR}", f"cron:fresh:{START + 2 * HOUR}", "diary", "diary"]
    assert [event.session_id for event in await house.told("message.added")].count("diary") == 2


async def test_one_instant_fires_once_and_the_job_is_over(house: House) -> None:
    await house.add(every_ms=None, at=START + MINUTE)
    house.clock.advance(MINUTE)
    await house.fire()
    house.clock.advance(DAY)
    await house.fire()
    assert await house.history() == [("ran", 1, 1, None)]
    assert (await house.scheduler.get("job")).next_at is None


async def test_a_crowd_that_is_due_at_once_fires_in_several_transactions(house: House) -> None:
    count = 2 * firing.BATCH + 1
    await house.declare(*(Draft(id=f"j{n:03}", kind="noop", every_ms=HOUR) for n in range(count)))
    house.clock.advance(HOUR)
    await house.fire()
    assert await house.tasks() == count
    assert len(house.rung) == 3


# --- what was missed --------------------


@pytest.mark.spec("GC-QUE-306")
@pytest.mark.parametrize(
    ("missed", "expected"),
    [
        ("skip", [("missed", 60, 10, "late")]),
        ("coalesce", [("coalesced", 60, 9, "late"), ("ran", 600, 1, "caught_up")]),
        (
            "catch_up(3)",
            [
                ("missed", 60, 7, "late"),
                *(("ran", minute, 1, "caught_up") for minute in (480, 540, 600)),
            ],
        ),
    ],
)
async def test_what_passed_while_the_daemon_was_down_follows_the_policy(
    path: Path, missed: str, expected: list[tuple[str, int, int, str | None]]
) -> None:
    clock = FakeClock()
    async with reopened(path, clock) as house:
        await house.add(missed=missed)
    clock.advance(10 * HOUR + 2 * MINUTE)
    async with reopened(path, clock) as house:
        await house.fire()
        assert await house.history() == expected
        assert await house.tasks() == sum(one[0] == "ran" for one in expected)
        planned = sum(one[2] for one in expected)
        assert planned == 10, "every planned instant has exactly one outcome"
        clock.advance(58 * MINUTE)
        await house.finish_all()
        await house.fire()
        assert (await house.history())[-1] == ("ran", 660, 1, None)


@pytest.mark.spec("GC-QUE-306")
async def test_a_coalesced_run_of_instants_is_one_row_that_names_the_run_and_one_event(house: House) -> None:
    await house.add()
    house.clock.advance(10 * HOUR + 2 * MINUTE)
    await house.fire()
    ran, coalesced = await house.scheduler.history("job")
    assert coalesced == Occurrence(
        job_id="job",
        planned_at=START + HOUR,
        outcome=Outcome.COALESCED,
        reason="late",
        task_id=ran.task_id,
        first=START + HOUR,
        last=START + 9 * HOUR,
        count=9,
    )
    kinds = [event.event_type for event in await house.told()]
    assert kinds == ["cron.added", "cron.fired", "cron.coalesced"]


@pytest.mark.spec("GC-QUE-306")
async def test_a_short_restart_loses_nothing_even_where_missed_runs_are_skipped(path: Path) -> None:
    clock = FakeClock()
    async with reopened(path, clock) as house:
        await house.add(missed="skip")
        clock.advance(HOUR - 20_000)
        await house.fire()
    clock.advance(40_000)
    async with reopened(path, clock) as house:
        await house.fire()
        assert await house.history() == [("ran", 60, 1, None)]


@pytest.mark.spec("GC-QUE-307")
async def test_a_clock_set_back_fires_nothing_again(house: House) -> None:
    await house.add(missed="coalesce", overlap="allow")
    house.clock.advance(3 * HOUR)
    await house.fire()
    before = await house.history()
    house.clock.set_wall(START + 30 * MINUTE)
    for _ in range(5):
        house.clock.advance(30 * MINUTE)
        await house.fire()
    assert house.clock.wall() == START + 3 * HOUR
    assert await house.history() == before
    house.clock.advance(HOUR)
    await house.fire()
    assert (await house.history())[-1] == ("ran", 240, 1, None)


@pytest.mark.spec("GC-QUE-307")
async def test_a_clock_set_forward_is_time_that_was_missed(house: House) -> None:
    await house.add(missed="skip")
    house.clock.set_wall(START + 5 * HOUR + 30 * MINUTE)
    await house.fire()
    assert await house.history() == [("missed", 60, 5, "late")]
    assert await house.tasks() == 0


@pytest.mark.spec("GC-QUE-307")
async def test_nothing_behind_the_watermark_fires_even_when_its_row_is_gone(house: House) -> None:
    await house.add(overlap="allow")
    house.clock.advance(HOUR)
    await house.fire()
    await house.tamper(lambda conn: conn.execute("DELETE FROM occurrence"))
    house.clock.set_wall(START + HOUR)
    await house.fire()
    assert await house.tasks() == 1


# --- overlap, full queues, refusals, pause --------------------


@pytest.mark.spec("GC-QUE-305")
async def test_a_run_that_has_not_ended_makes_the_next_one_skip_on_the_record(house: House) -> None:
    await house.add()
    for _ in range(3):
        house.clock.advance(HOUR)
        await house.fire()
    expected = [("ran", 60, 1, None), ("skipped", 120, 1, "overlap"), ("skipped", 180, 1, "overlap")]
    assert await house.history() == expected
    (first,) = await house.queue.page(TaskFilter(), 10, None)
    assert [event.payload["unfinished"] for event in await house.told("cron.skipped")] == [first.id] * 2
    await house.finish_all()
    house.clock.advance(HOUR)
    await house.fire()
    assert (await house.history())[-1] == ("ran", 240, 1, None)


@pytest.mark.spec("GC-QUE-305")
async def test_an_overlap_that_is_allowed_runs(house: House) -> None:
    await house.add(overlap="allow")
    for _ in range(2):
        house.clock.advance(HOUR)
        await house.fire()
    assert [one[0] for one in await house.history()] == ["ran", "ran"]


@pytest.mark.spec("GC-QUE-305")
async def test_the_runs_of_a_catch_up_do_not_forbid_each_other_but_the_next(house: House) -> None:
    await house.add(missed="catch_up(3)")
    house.clock.advance(3 * HOUR + 2 * MINUTE)
    await house.fire()
    house.clock.advance(HOUR)
    (last, *_) = await house.queue.claim("default", 1)
    await house.queue.finish(last.stored, Succeeded())
    await house.fire()
    assert [one[0] for one in await house.history()] == ["ran", "ran", "ran", "skipped"]


async def test_a_full_queue_makes_a_run_skip_on_the_record(house: House) -> None:
    await house.add()
    await house.add("second")
    house.agents["default"] = replace(house.agents["default"], max_queue_depth=1)
    house.clock.advance(HOUR)
    await house.fire()
    both = sorted([*await house.history("job"), *await house.history("second")])
    assert both == [("ran", 60, 1, None), ("skipped", 60, 1, "saturated")]


async def test_a_run_for_an_agent_that_is_gone_skips_on_the_record(house: House) -> None:
    house.agents["clerk"] = replace(house.agents["default"], id="clerk")
    await house.add(agent_id="clerk")
    del house.agents["clerk"]
    house.clock.advance(HOUR)
    await house.fire()
    assert await house.history() == [("skipped", 60, 1, "no_agent")]


async def test_a_run_that_the_queue_refuses_skips_on_the_record_and_says_why(house: House) -> None:
    house.agents["clerk"] = replace(house.agents["default"], id="clerk")
    chat: dict[str, Any] = {"kind": "chat", "payload": {"content": "hi"}, "session_id": "shared"}
    await house.add("first", agent_id="default", **chat)
    await house.add("second", agent_id="clerk", every_ms=HOUR + 1_000, **chat)
    house.clock.advance(HOUR + 1_000)
    await house.fire()
    assert await house.history("second") == [("skipped", 60, 1, "refused")]
    (skipped,) = await house.told("cron.skipped")
    assert skipped.payload["error_code"] == "CONFLICT"


@pytest.mark.spec("GC-QUE-309")
async def test_a_pause_holds_the_task_and_not_the_schedule(house: House) -> None:
    await house.queue.pause("all", "")
    await house.add()
    house.clock.advance(HOUR)
    await house.fire()
    assert await house.queue.claim("default", 5) == []
    house.clock.advance(HOUR)
    await house.fire()
    assert await house.history() == [("ran", 60, 1, None), ("skipped", 120, 1, "overlap")]
    await house.queue.resume("all", "")
    assert len(await house.queue.claim("default", 5)) == 1


# --- crashes --------------------


@pytest.mark.spec("GC-QUE-301")
async def test_a_crash_between_the_commit_and_the_bell_neither_loses_nor_doubles_the_run(path: Path) -> None:
    clock = FakeClock()
    async with reopened(path, clock) as house:
        await house.add()
        clock.advance(HOUR)
        done = await house.database.write(firing.fire_due, house.desk())
        assert len(done.submitted) == 1
        assert house.rung == []
    async with reopened(path, clock) as house:
        await house.fire()
        assert await house.history() == [("ran", 60, 1, None)]
        assert len(await house.queue.claim("default", 5)) == 1


class Crash(Exception):
    """The process is gone."""


class Dying:
    """A connection whose statement number `last` + 1 never comes to be."""

    def __init__(self, conn: sqlite3.Connection, last: int) -> None:
        self._conn = conn
        self._left = last

    def execute(self, *args: Any) -> sqlite3.Cursor:
        self._tick()
        return self._conn.execute(*args)

    def executemany(self, *args: Any) -> sqlite3.Cursor:
        self._tick()
        return self._conn.executemany(*args)

    def _tick(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise Crash


@pytest.mark.spec("GC-QUE-301")
@pytest.mark.parametrize("missed", ["coalesce", "catch_up(2)", "skip"])
async def test_a_crash_between_any_two_statements_leaves_the_instant_wholly_ahead(path: Path, missed: str) -> None:
    clock = FakeClock()
    crashes = 0
    async with reopened(path, clock) as house:
        await house.add(missed=missed)
        clock.advance(3 * HOUR + 2 * MINUTE)
        while True:
            try:
                await house.database.write(
                    lambda conn, last: firing.fire_due(Dying(conn, last), house.desk()),  # type: ignore[arg-type]
                    crashes,
                )
                break
            except Crash:
                crashes += 1
            assert await house.history() == []
            assert await house.tasks() == 0
            assert (await house.scheduler.get("job")).watermark == START
    assert crashes > 3
    async with reopened(path, clock) as house:
        await house.fire()
        assert sum(one[2] for one in await house.history()) == 3


# --- time zone data that changes --------------------


async def test_a_job_whose_zone_is_gone_is_disabled_visibly_and_holds_up_no_other(house: House) -> None:
    await house.add()
    await house.add("lost", every_ms=None, cron="0 1 * * *", zone="Europe/Berlin")
    await house.tamper(lambda conn: conn.execute("UPDATE schedule SET zone = 'Mars/Base' WHERE id = 'lost'"))
    house.clock.advance(DAY)
    await house.database.write(firing.fire_due, house.desk())
    await house.fire()
    assert (await house.history())[-1][0] == "ran"
    assert not (await house.scheduler.get("lost")).schedule.enabled
    (event,) = await house.told("cron.disabled")
    assert "Mars/Base" in event.payload["reason"]


async def test_at_start_the_next_instant_is_planned_by_the_rules_of_the_day(house: House) -> None:
    await house.add()
    await house.tamper(lambda conn: conn.execute("UPDATE schedule SET next_at = next_at + 999"))
    async with house.serving():
        await house.clock.asleep()
        assert (await house.scheduler.get("job")).next_at == START + HOUR


async def test_an_instant_that_the_rules_moved_away_is_planned_again(house: House) -> None:
    await house.add()
    await house.tamper(lambda conn: conn.execute("UPDATE schedule SET next_at = watermark + 1"))
    house.clock.advance(MINUTE)
    done = await house.database.write(firing.fire_due, house.desk())
    assert (done.submitted, done.next_wake) == ((), START + HOUR)


async def test_planning_anew_goes_through_all_jobs_page_by_page(house: House) -> None:
    for name in "abc":
        await house.add(name)
    await house.tamper(lambda conn: conn.execute("UPDATE schedule SET next_at = next_at + 999"))
    after: str | None = ""
    seen: list[str | None] = []
    while after is not None:
        after = await house.database.write(jobs.replan, after, 2, house.clock.wall())
        seen.append(after)
    assert seen == ["b", None]
    assert {job.next_at for job in await house.scheduler.list()} == {START + HOUR}
