from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from goclaw.core.schedule import Draft, Outcome
from goclaw.db import Database
from goclaw.errors import BadRequest, Conflict, NotFound, Saturated, StoreFull
from goclaw.kernel import firing, jobs
from goclaw.kernel.scheduler import LOOK_MS
from goclaw.store import schedules
from tests.fakes_clock import START, FakeClock
from tests.fakes_schedules import DAY, HOUR, MINUTE, House, raises


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "goclaw.db"


@pytest.fixture
async def house(path: Path) -> AsyncIterator[House]:
    clock = FakeClock()
    async with Database(path, clock) as database:
        yield House(database, clock)


# --- the timer --------------------


@pytest.mark.spec("GC-QUE-310")
async def test_without_a_waiting_job_the_scheduler_does_not_wake(house: House) -> None:
    await house.add("off", enabled=False)
    async with house.serving():
        house.clock.advance(DAY)
        await house.add("job", every_ms=20_000)
        await house.clock.asleep()
        assert house.clock.asked == [20_000]


@pytest.mark.spec("GC-QUE-310")
async def test_while_a_job_waits_the_wall_clock_is_looked_at_and_nothing_is_written(house: House) -> None:
    await house.add()
    async with house.serving():
        await house.clock.asleep()
        commits = house.database.commits
        for _ in range(10):
            house.clock.advance(LOOK_MS)
            await house.clock.asleep()
        assert house.clock.asked == [LOOK_MS] * 11
        assert house.database.commits == commits


@pytest.mark.spec("GC-QUE-310")
async def test_the_last_sleep_ends_at_the_instant_itself(house: House) -> None:
    await house.add(every_ms=40_000)
    async with house.serving():
        await house.clock.asleep()
        house.clock.advance(30_000)
        await house.clock.asleep()
        house.clock.advance(9_999)
        assert await house.tasks() == 0
        house.clock.advance(1)
        await house.clock.asleep()
        assert await house.history() == [("ran", 0, 1, None)]
        assert house.clock.asked == [30_000, 10_000, 30_000]


@pytest.mark.spec("GC-QUE-310")
async def test_a_clock_set_forward_is_noticed_within_a_look(house: House) -> None:
    await house.add()
    async with house.serving():
        await house.clock.asleep()
        house.clock.set_wall(START + HOUR - LOOK_MS)
        house.clock.advance(LOOK_MS)
        await house.clock.asleep()
        assert await house.history() == [("ran", 60, 1, None)]


@pytest.mark.spec("GC-QUE-310")
async def test_a_new_job_that_is_earlier_shortens_the_sleep(house: House) -> None:
    await house.add("slow", every_ms=DAY)
    async with house.serving():
        await house.clock.asleep()
        await house.add("fast", every_ms=5_000)
        while house.clock.asked[-1] != 5_000:
            await house.database.read(schedules.next_wake)
        house.clock.advance(5_000)
        while await house.history("fast") == []:
            await house.database.read(schedules.next_wake)
        assert await house.history("fast") == [("ran", 0, 1, None)]


async def test_a_full_disk_loses_no_instant(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.add()
    house.clock.advance(HOUR)
    real = firing.fire_due
    monkeypatch.setattr(firing, "fire_due", refuse)
    async with house.serving():
        await house.clock.asleep()
        assert await house.history() == []
        monkeypatch.setattr(firing, "fire_due", real)
        house.clock.advance(LOOK_MS)
        await house.clock.asleep()
        assert await house.history() == [("ran", 60, 1, None)]


def refuse(*_: object) -> None:
    raise StoreFull


# --- cron.add, remove, enable, disable, run, next, history --------------------


@pytest.mark.spec("GC-QUE-302")
async def test_what_cannot_be_added_is_refused_and_nothing_is_stored(house: House) -> None:
    past = await raises(BadRequest, house.add(every_ms=None, at=START))
    assert past.data["field"] == "at"
    assert "past" in past.message
    await raises(NotFound, house.add(agent_id="nobody"))
    await raises(BadRequest, house.add(every_ms=None, cron="0 0 31 2 *"))
    await raises(BadRequest, house.add(kind="chat", payload={}))
    assert await house.scheduler.list() == []
    await house.add()
    await raises(Conflict, house.add())


async def test_a_job_without_an_id_gets_one(house: House) -> None:
    job = await house.scheduler.add(Draft(name="often", kind="noop", every_ms=HOUR))
    assert len(job.schedule.id) == 36
    assert job.schedule.name == "often"


async def test_there_is_a_most_number_of_jobs(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "MOST_JOBS", 1)
    await house.add()
    await raises(Saturated, house.add("second"))


async def test_a_removed_job_fires_no_more_and_keeps_its_history(house: House) -> None:
    await house.add()
    house.clock.advance(HOUR)
    await house.fire()
    await house.scheduler.remove("job")
    house.clock.advance(HOUR)
    await house.fire()
    assert [one.outcome for one in await house.scheduler.history("job")] == [Outcome.RAN]
    await raises(NotFound, house.scheduler.remove("job"))
    await raises(NotFound, house.scheduler.get("job"))
    await raises(NotFound, house.scheduler.history("never"))


async def test_an_id_that_returns_begins_behind_what_it_has_ended(house: House) -> None:
    await house.add(overlap="allow")
    house.clock.advance(5 * HOUR)
    await house.fire()
    await house.scheduler.remove("job")
    house.clock.set_wall(START)
    job = await house.add(overlap="allow")
    assert job.watermark == START + 5 * HOUR
    assert job.next_at == START + 6 * HOUR


async def test_a_disabled_job_plans_nothing_until_it_is_enabled(house: House) -> None:
    await house.add()
    assert (await house.scheduler.disable("job")).next_at is None
    house.clock.advance(5 * HOUR)
    await house.fire()
    job = await house.scheduler.enable("job")
    assert (job.watermark, job.next_at) == (START + 5 * HOUR, START + 6 * HOUR)
    await house.fire()
    assert await house.history() == []
    kinds = [event.event_type for event in await house.told()]
    assert kinds == ["cron.added", "cron.disabled", "cron.enabled"]


async def test_enabling_what_is_enabled_changes_nothing(house: House) -> None:
    await house.add()
    commits = house.database.commits
    await house.scheduler.enable("job")
    assert house.database.commits == commits
    await raises(NotFound, house.scheduler.enable("never"))


async def test_disabling_a_job_that_is_late_records_what_it_gives_up(house: House) -> None:
    await house.add()
    house.clock.advance(3 * HOUR)
    await house.scheduler.disable("job")
    assert await house.history() == [("missed", 60, 3, "disabled")]


async def test_a_run_by_hand_leaves_the_plan_alone(house: House) -> None:
    await house.add()
    house.clock.advance(MINUTE)
    done = await house.scheduler.run_now("job")
    assert done.task.idempotency_key == f"cron:job:{START + MINUTE}"
    assert house.rung == ["default"]
    job = await house.scheduler.get("job")
    assert (job.watermark, job.next_at, job.last_at) == (START, START + HOUR, START + MINUTE)
    assert await house.history() == [("ran", 1, 1, "manual")]


async def test_a_run_by_hand_does_not_take_the_place_of_a_planned_one(house: House) -> None:
    await house.add(overlap="allow")
    house.clock.advance(HOUR)
    await house.scheduler.run_now("job")
    await house.scheduler.run_now("job")
    await house.fire()
    assert [one[3] for one in await house.history()] == [None, "manual", "manual"]
    assert await house.tasks() == 3


@pytest.mark.spec("GC-QUE-305")
async def test_a_run_by_hand_does_not_overlap_where_that_is_not_allowed(house: House) -> None:
    await house.add()
    first = await house.scheduler.run_now("job")
    refused = await raises(Conflict, house.scheduler.run_now("job"))
    assert refused.data["task_id"] == first.task.id
    await raises(NotFound, house.scheduler.run_now("never"))


async def test_the_coming_instants_follow_the_zone_of_the_job(house: House) -> None:
    await house.add(every_ms=None, cron="30 2 * * *", zone="Europe/Berlin")
    midnight = 1_792_800_000_000  # 24 October 2026 UTC, 02:00 in Berlin; on the 25th the hour from 02:00 comes twice
    house.clock.set_wall(midnight)
    found = [one - midnight for one in await house.scheduler.next("job", 3)]
    assert found == [30 * MINUTE, DAY + 30 * MINUTE, 2 * DAY + HOUR + 30 * MINUTE]
    await raises(NotFound, house.scheduler.next("never"))
