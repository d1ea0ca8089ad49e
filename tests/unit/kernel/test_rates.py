"""Start rates: how many attempts of an agent and kind may start in a minute."""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from goclaw.core.outcome import Failed, Succeeded
from goclaw.core.ports import Attempt, Handler
from goclaw.core.task import NewTask
from goclaw.kernel import upkeep
from goclaw.kernel.claiming import Claimed
from goclaw.kernel.noop import noop_handler
from goclaw.store import rates
from goclaw.store.holds import holds
from tests.fakes_clock import START
from tests.kitchen import Kitchen, agent
from tests.scratch import HOLDER, commit, noop, reopen, scratch
from tests.unit.kernel.lines import claim, ended, finish, ids, rate, settle, submit, task, timers

DAY_MS = 24 * 3_600_000


def flood(conn: sqlite3.Connection, count: int = 30, **fields: Any) -> None:
    for n in range(count):
        submit(conn, f"{fields.get('agent_id', 'default')}-{n}", **fields)


@pytest.mark.spec("GC-QUE-406")
def test_an_idle_minute_allows_a_burst_of_one_minutes_starts_and_then_an_even_pace(conn: sqlite3.Connection) -> None:
    rate(conn, 6)
    flood(conn)
    assert len(claim(conn)) == 6
    assert claim(conn, now=9_999) == []
    assert len(claim(conn, now=10_000)) == 1
    assert claim(conn, now=19_999) == []
    assert len(claim(conn, now=45_000)) == 3
    assert len(claim(conn, now=45_000 + 60_000)) == 6, "a minute fills it"
    assert claim(conn, now=45_000 + 60_000) == []


@pytest.mark.spec("GC-QUE-406")
def test_no_window_of_a_minute_sees_more_than_twice_the_rate_and_an_hour_sees_the_rate(
    conn: sqlite3.Connection,
) -> None:
    rate(conn, 7)
    flood(conn, 100)
    starts = [now for now in range(0, 600_000, 997) for _ in claim(conn, now=now)]
    assert all(sum(begin <= at < begin + 60_000 for at in starts) <= 14 for begin in starts)
    assert len(starts) == 7 + 7 * 10 - 1


@pytest.mark.spec("GC-QUE-406")
def test_a_retry_is_a_start_too(conn: sqlite3.Connection) -> None:
    rate(conn, 1)
    submit(conn, "a")
    (begun,) = claim(conn)
    finish(conn, begun, Failed("E", "x"))
    timers(conn, 1_000)
    assert claim(conn, now=59_999) == []
    assert ids(claim(conn, now=60_000)) == ["a"]


@pytest.mark.spec("GC-QUE-406")
def test_the_next_one_of_a_settle_counts_as_a_start(conn: sqlite3.Connection) -> None:
    rate(conn, 2)
    flood(conn, 3)
    (begun,) = claim(conn, limit=1)
    (done,) = settle(conn, ended(begun, holder=HOLDER))
    assert isinstance(done.following, Claimed)
    (done,) = settle(conn, ended(done.following, holder=HOLDER))
    assert done.following is None


@pytest.mark.spec("GC-QUE-407")
def test_a_kind_at_its_rate_is_stepped_over_and_agents_do_not_share_one(conn: sqlite3.Connection) -> None:
    rate(conn, 1)
    flood(conn, 2)
    flood(conn, 2, agent_id="other")
    submit(conn, "tool", NewTask(kind="tool", payload={"name": "x"}))
    assert ids(claim(conn)) == ["default-0", "tool"]
    assert len(claim(conn, "other")) == 2


@pytest.mark.spec("GC-QUE-407")
def test_what_was_used_is_still_used_after_a_restart_and_after_a_change(tmp_path: Path) -> None:
    conn = scratch(tmp_path / "d.db")
    rate(conn, 6)
    flood(conn)
    assert len(claim(conn)) == 6
    conn.close()
    conn = reopen(tmp_path / "d.db")
    assert claim(conn, now=5_000) == []
    rate(conn, 60)
    assert len(claim(conn, now=5_000)) == 5, "five seconds are five starts at the new rate"
    conn.close()


@pytest.mark.spec("GC-QUE-407")
def test_a_limit_that_is_taken_away_holds_nothing_any_more(conn: sqlite3.Connection) -> None:
    rate(conn, 1)
    flood(conn, 5)
    claim(conn)
    commit(conn, upkeep.set_limits, {}, {})
    assert len(claim(conn)) == 4


@pytest.mark.spec("GC-QUE-408")
def test_a_clock_that_was_set_back_a_day_holds_nothing_for_longer_than_a_minute(conn: sqlite3.Connection) -> None:
    rate(conn, 6)
    flood(conn)
    assert len(claim(conn, now=25 * DAY_MS)) == 6
    back = timers(conn, 0, since=25 * DAY_MS)
    assert back.next_wake == START + 10_000
    assert claim(conn, now=9_999) == []
    assert timers(conn, 10_000, since=0).ready == {"default"}
    assert len(claim(conn, now=10_000)) == 1


@pytest.mark.spec("GC-QUE-408")
def test_a_clock_that_was_set_forward_allows_one_burst(conn: sqlite3.Connection) -> None:
    rate(conn, 6)
    flood(conn)
    claim(conn)
    assert len(claim(conn, now=DAY_MS)) == 6
    assert claim(conn, now=DAY_MS) == []


@pytest.mark.spec("GC-QUE-408")
def test_a_look_at_the_clock_tells_of_a_rate_once_when_it_opens(conn: sqlite3.Connection) -> None:
    rate(conn, 6)
    flood(conn)
    assert timers(conn, 0).ready == {"default"}, "the first look does not know what was before"
    assert timers(conn, 1, since=0) == timers(conn, 2, since=1)
    assert timers(conn, 2, since=1).ready == frozenset()
    claim(conn, now=2)
    assert timers(conn, 3, since=2).next_wake == START + 10_002
    opened = timers(conn, 10_002, since=3)
    assert opened.ready == {"default"}
    assert opened.next_wake is None


@pytest.mark.spec("GC-QUE-420")
def test_a_task_that_only_its_rate_holds_says_so(conn: sqlite3.Connection) -> None:
    rate(conn, 1)
    flood(conn, 2)
    submit(conn, "delayed", delay_ms=5)
    assert holds(conn, START).reason(task(conn, "default-1")) is None
    claim(conn)
    held = holds(conn, START)
    assert held.reason(task(conn, "default-1")) == "rate"
    assert held.reason(task(conn, "delayed")) == "delay"
    assert held.reason(task(conn, "default-0")) is None, "it runs"
    assert replace(held, pauses=frozenset({("kind", "noop")})).reason(task(conn, "default-1")) == "paused"
    assert holds(conn, START + 60_000).reason(task(conn, "default-1")) is None


def test_rates_are_shown_with_their_room(conn: sqlite3.Connection) -> None:
    rate(conn, 6)
    flood(conn, 4)
    claim(conn)
    (shown,) = rates.limits(conn)
    assert (shown.room(START), shown.room(START + 10_000), shown.room(START + DAY_MS)) == (2, 3, 6)
    assert shown.opens_at(START) == START


@pytest.mark.spec("GC-QUE-408")
async def test_the_workers_go_on_by_themselves_when_a_rate_opens(tmp_path: Path) -> None:
    limited = replace(agent("default"), starts_per_minute={"noop": 6})
    begun: list[str] = []

    async def note(attempt: Attempt) -> Succeeded:
        begun.append(attempt.task.id)
        return Succeeded()

    async with Kitchen(tmp_path / "d.db", {"noop": note}, limited, agent("other")) as kitchen:
        await kitchen.queue.set_limits({})
        made = [await kitchen.submit(noop()) for _ in range(9)]
        kitchen.start()
        for task_made in made[:6]:
            await kitchen.finished(task_made.id)
        assert len(begun) == 6
        for n in (6, 7, 8):
            await kitchen.clock.asleep()
            kitchen.clock.advance(9_999)
            await asyncio.sleep(0)
            assert len(begun) == n
            kitchen.clock.advance(1)
            await kitchen.finished(made[n].id)
        assert begun == [one.id for one in made]


@pytest.mark.spec("GC-QUE-408")
async def test_an_agent_with_a_rate_and_nothing_to_claim_lets_the_timers_rest(tmp_path: Path) -> None:
    """Each claim of such an agent is followed by a look at the clock, which must not lead to the next claim."""
    limited = replace(agent("default"), starts_per_minute={"noop": 6})
    handlers: dict[str, Handler] = {}
    async with Kitchen(tmp_path / "d.db", handlers, limited) as kitchen:
        handlers["noop"] = noop_handler(kitchen.clock)
        await kitchen.queue.set_limits({})
        await kitchen.submit(noop(delay_ms=3_600_000))
        kitchen.start()
        done = await kitchen.submit(noop())
        await kitchen.finished(done.id)
        looks = 0
        look = kitchen.queue.run_timers

        async def counted() -> object:
            nonlocal looks
            looks += 1
            return await look()

        kitchen.queue.run_timers = counted  # type: ignore[method-assign, assignment]
        kitchen.pool.wake()
        await kitchen.queue.submit(noop(delay_ms=3_600_000))
        for _ in range(200):
            await kitchen.database.read(lambda conn: conn.execute("SELECT 1").fetchone())
        assert looks <= 6
