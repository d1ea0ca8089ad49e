from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from goclaw.core.schedule import Draft
from goclaw.db import Database
from goclaw.errors import BadRequest, Conflict
from goclaw.kernel import jobs
from tests.fakes_clock import START, FakeClock
from tests.fakes_schedules import DAY, HOUR, MINUTE, House, raises, reopened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "goclaw.db"


@pytest.fixture
async def house(path: Path) -> AsyncIterator[House]:
    clock = FakeClock()
    async with Database(path, clock) as database:
        yield House(database, clock)


# --- config.yaml --------------------


def hourly(job_id: str = "job", **fields: Any) -> Draft:
    given: dict[str, Any] = {"kind": "noop", "every_ms": HOUR} | fields
    return Draft(id=job_id, **given)


@pytest.mark.spec("GC-QUE-311")
async def test_the_file_adds_changes_and_removes_its_jobs_and_no_others(house: House) -> None:
    await house.add("mine")
    done = await house.declare(hourly("a"), hourly("b"))
    assert (done.added, done.changed, done.removed) == (("a", "b"), (), ())
    done = await house.declare(hourly("b", priority=5), hourly("c"))
    assert (done.added, done.changed, done.removed) == (("c",), ("b",), ("a",))
    assert [(job.schedule.id, job.source) for job in await house.scheduler.list()] == [
        ("b", "config"),
        ("c", "config"),
        ("mine", "api"),
    ]


@pytest.mark.spec("GC-QUE-311")
async def test_the_same_file_again_writes_nothing(house: House) -> None:
    drafts = [hourly(), hourly("b", payload={"result": [1, 2]}), hourly("c", every_ms=None, cron="@daily")]
    await house.declare(*drafts)
    house.clock.advance(MINUTE)
    commits = house.database.commits
    assert await house.declare(*drafts) == jobs.Reconciled((), (), ())
    assert house.database.commits == commits


@pytest.mark.spec("GC-QUE-311")
async def test_a_job_that_stays_keeps_its_anchor_and_its_watermark_over_a_restart(path: Path) -> None:
    clock = FakeClock()
    async with reopened(path, clock) as house:
        await house.declare(hourly())
        clock.advance(90 * MINUTE)
        await house.fire()
    async with reopened(path, clock) as house:
        await house.declare(hourly(priority=1))
        job = await house.scheduler.get("job")
        assert (job.watermark, job.next_at) == (START + HOUR, START + 2 * HOUR)


@pytest.mark.spec("GC-QUE-311")
async def test_a_new_timetable_starts_now_and_gives_up_what_the_old_one_had_missed(house: House) -> None:
    await house.declare(hourly())
    house.clock.advance(3 * HOUR + 1)
    await house.declare(hourly(every_ms=2 * HOUR))
    assert await house.history() == [("missed", 60, 3, "changed")]
    job = await house.scheduler.get("job")
    assert job.next_at == START + 5 * HOUR + 1


@pytest.mark.spec("GC-QUE-311")
async def test_a_past_instant_in_the_file_is_missed_when_new_and_stays_done_when_it_ran(house: House) -> None:
    once = Draft(id="once", kind="noop", at=START + MINUTE)
    await house.declare(once, Draft(id="old", kind="noop", at=START - DAY))
    assert await house.history("old") == [("missed", -1440, 1, "past")]
    house.clock.advance(MINUTE)
    await house.fire()
    await house.declare()
    house.clock.advance(DAY)
    await house.declare(once)
    await house.fire()
    assert await house.history("once") == [("ran", 1, 1, None)]
    assert await house.tasks() == 1


@pytest.mark.spec("GC-QUE-311")
async def test_what_a_person_disabled_stays_so_until_the_file_speaks_about_it(house: House) -> None:
    await house.declare(hourly())
    await house.scheduler.disable("job")
    await house.declare(hourly(priority=2))
    assert not (await house.scheduler.get("job")).schedule.enabled
    await house.declare(hourly(enabled=False))
    await house.declare(hourly(enabled=True))
    assert (await house.scheduler.get("job")).schedule.enabled


async def test_a_job_of_the_file_is_removed_in_the_file(house: House) -> None:
    await house.declare(hourly())
    refused = await raises(Conflict, house.scheduler.remove("job"))
    assert "config.yaml" in refused.message


async def test_the_file_takes_over_a_job_of_the_same_id(house: House) -> None:
    await house.add()
    done = await house.declare(hourly())
    assert done.changed == ("job",)
    job = await house.scheduler.get("job")
    assert (job.source, job.watermark, job.next_at) == ("config", START, START + HOUR)


@pytest.mark.spec("GC-QUE-302")
async def test_a_file_with_one_bad_schedule_changes_nothing(house: House) -> None:
    await house.declare(hourly("kept"))
    bad = await raises(BadRequest, house.declare(hourly("fine"), hourly("bad", zone="Mars/Base")))
    assert (bad.data["schedule"], bad.data["field"]) == ("bad", "zone")
    twice = await raises(BadRequest, house.declare(hourly("a"), hourly("a")))
    assert "two schedules" in twice.message
    assert [job.schedule.id for job in await house.scheduler.list()] == ["kept"]
