"""Workers on a fake clock: lanes, cancels, limits, leases, drains, and whatever a handler may do."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from goclaw.core.intake import chat_task
from goclaw.core.outcome import Canceled, Closing, Failed, Outcome, Succeeded
from goclaw.core.ports import Attempt, Handler
from goclaw.core.step import Effect, End, Intend, StepState
from goclaw.core.task import NewTask, Task
from goclaw.db import Connection
from goclaw.errors import LeaseLost, NoProvider, RateLimited, StoreFull
from goclaw.kernel.claiming import Claimed
from goclaw.kernel.noop import noop_handler
from goclaw.kernel.queue import Queue
from goclaw.store import events, tasks
from goclaw.store.tasks import Stored
from tests.fakes_clock import FakeClock
from tests.kitchen import PATIENCE_S, Held, Kitchen, agent
from tests.scratch import noop

UNSAFE = Intend(key="u", kind="tool", request={}, request_hash="h", tool="exec", effect=Effect.UNSAFE, running=True)
EXEC = NewTask(kind="exec", payload={"argv": ["true"]})


async def succeed(attempt: Attempt) -> Outcome:
    return Succeeded(attempt.task.payload.get("result"))


# -- the plain run -------------------------------------------------------------------------------------------------


@pytest.mark.spec("GC-QUE-107")
@pytest.mark.spec("GC-QUE-116")
async def test_a_thousand_noops_of_fifty_callers_have_four_events_each_in_order(tmp_path: Path) -> None:
    async with Kitchen(tmp_path / "d.db", {"noop": succeed}, agent("default", 50)) as kitchen:
        kitchen.start()

        async def caller(me: int) -> list[str]:
            return [(await kitchen.submit(noop(payload={"result": [me, n]}))).id for n in range(20)]

        ids = [one for some in await asyncio.gather(*(caller(me) for me in range(50))) for one in some]
        for task_id in ids:
            task = await kitchen.finished(task_id)
            assert (task.state, task.attempt) == ("SUCCEEDED", 1)
        told: dict[str | None, list[str]] = {}
        cursor = 0
        while page := await kitchen.database.read(events.read_after, cursor):
            cursor = page[-1].event_id
            for event in page:
                told.setdefault(event.task_id, []).append(event.event_type)
        four = ["task.enqueued", "task.claimed", "task.running", "task.succeeded"]
        assert told == dict.fromkeys(ids, four)
        assert kitchen.database.commits < 1_000, "many shared a commit"
        assert kitchen.reported == []


async def test_work_that_waited_before_the_start_is_picked_up(tmp_path: Path) -> None:
    async with Kitchen(tmp_path / "d.db", {"noop": succeed}) as kitchen:
        task = await kitchen.submit(noop())
        kitchen.start()
        assert (await kitchen.finished(task.id)).state == "SUCCEEDED"
        await kitchen.pool.drain(10_000)
        assert kitchen.pool.running == 0


@pytest.mark.spec("GC-QUE-110")
async def test_a_flood_in_one_lane_does_not_starve_another(tmp_path: Path) -> None:
    held = Held(Succeeded())
    handlers: dict[str, Handler] = {"noop": held, "exec": succeed}
    async with Kitchen(tmp_path / "d.db", handlers, agent("default", 3), agent("other", 1)) as kitchen:
        flood = await kitchen.queue.submit_many([noop() for _ in range(200)])
        kitchen.start()
        await held.arrived(3)
        quiet = await kitchen.submit(NewTask(kind="exec", payload={"argv": ["true"]}, agent_id="other"))
        assert (await kitchen.finished(quiet.id)).state == "SUCCEEDED"
        assert (len(held.inside), kitchen.pool.running) == (3, 3)
        held.go.set()
        for one in flood:
            await kitchen.finished(one.task.id)
        assert held.most == 3


async def test_more_workers_take_more_and_fewer_finish_what_they_have(tmp_path: Path) -> None:
    held = Held(Succeeded())
    async with Kitchen(tmp_path / "d.db", {"noop": held}, agent("default", 1)) as kitchen:
        many = await kitchen.queue.submit_many([noop() for _ in range(6)])
        kitchen.start()
        await held.arrived(1)
        kitchen.agents = {"default": agent("default", 3)}
        kitchen.pool.wake()
        await held.arrived(3)
        kitchen.agents = {"default": agent("default", 1)}
        held.go.set()
        for one in many:
            await kitchen.finished(one.task.id)
        assert held.most == 3


@pytest.mark.spec("GC-QUE-114")
async def test_a_suspect_of_another_lane_runs_when_the_last_other_task_has_ended(tmp_path: Path) -> None:
    held = Held(Succeeded())
    async with Kitchen(tmp_path / "d.db", {"noop": held, "exec": succeed}) as kitchen:
        await kitchen.submit(noop())
        kitchen.start()
        await held.arrived(1)
        await kitchen.queue.pause("agent", "other")
        suspect = await kitchen.submit(NewTask(kind="exec", payload={"argv": ["true"]}, agent_id="other"))
        await kitchen.database.write(_dies_twice, suspect.id)
        await kitchen.queue.resume("agent", "other")
        after = await kitchen.submit(noop())
        held.go.set()
        assert (await kitchen.finished(suspect.id)).state == "SUCCEEDED"
        await kitchen.finished(after.id)
        told = await kitchen.database.read(events.read_after, 0)
        order = [event.task_id for event in told if event.event_type == "task.claimed"]
        assert order[1:] == [suspect.id, after.id]


def _dies_twice(conn: Connection, task_id: str) -> None:
    conn.execute("UPDATE task SET deaths = 2 WHERE id = ?", (task_id,))


# -- cancel --------------------------------------------------------------------------------------------------------


@pytest.mark.spec("GC-STM-107")
async def test_a_cancel_of_a_running_task_is_answered_when_its_handler_has_ended(tmp_path: Path) -> None:
    cleaning, cleaned = asyncio.Event(), asyncio.Event()
    begun = asyncio.Event()

    async def handle(attempt: Attempt) -> Outcome:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            await cleaned.wait()
        raise AssertionError

    async with Kitchen(tmp_path / "d.db", {"noop": handle}) as kitchen:
        kitchen.start()
        task = await kitchen.submit(noop())
        await begun.wait()
        answer = asyncio.ensure_future(kitchen.pool.cancel(task.id, "wrong file"))
        await cleaning.wait()
        assert (await kitchen.get(task.id)).cancel_requested
        assert not answer.done()
        cleaned.set()
        assert await answer == (True, "CANCELED", 0)
        ended = await kitchen.get(task.id)
        assert (ended.error, ended.error_code) == ("wrong file", "CANCELED")
        assert (await kitchen.story(task.id))[-1] == "task.canceled"
        assert kitchen.clock.monotonic() == 1_000_000, "and no time had to pass"


@pytest.mark.spec("GC-STM-107")
async def test_of_a_cancel_and_an_end_the_first_commit_counts(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def handle(attempt: Attempt) -> Outcome:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return Succeeded("done all the same")
        raise AssertionError

    async with Kitchen(tmp_path / "d.db", {"noop": handle, "exec": succeed}) as kitchen:
        kitchen.start()
        task = await kitchen.submit(noop())
        await begun.wait()
        assert await kitchen.pool.cancel(task.id, None) == (False, "SUCCEEDED", 0)
        assert await kitchen.pool.cancel(task.id, None) == (False, "SUCCEEDED", 0)
        assert (await kitchen.finished((await kitchen.submit(EXEC)).id)).state == "SUCCEEDED", "the worker lives on"


@pytest.mark.parametrize("swallows", [True, False])
async def test_a_cancel_leaves_no_trace_in_the_worker(tmp_path: Path, swallows: bool) -> None:
    begun = asyncio.Event()

    async def handle(attempt: Attempt) -> Outcome:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if not swallows:
                raise
        return Succeeded()

    async def count(attempt: Attempt) -> Outcome:
        """A cancel that is still counted would come back at the end of any task group (Python 3.13 and later)."""
        worker = asyncio.current_task()
        return Succeeded(worker and worker.cancelling())

    async with Kitchen(tmp_path / "d.db", {"noop": handle, "exec": count}, agent("default", 1)) as kitchen:
        kitchen.start()
        first = await kitchen.submit(noop())
        second = await kitchen.submit(EXEC)
        await begun.wait()
        await kitchen.pool.cancel(first.id, None)
        assert (await kitchen.finished(second.id)).result == 0


async def test_a_failure_that_races_with_a_cancel_is_not_tried_again(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def handle(attempt: Attempt) -> Outcome:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return Failed("E", "broken by the cancel")
        raise AssertionError

    async with Kitchen(tmp_path / "d.db", {"noop": handle}) as kitchen:
        kitchen.start()
        task = await kitchen.submit(noop())
        await begun.wait()
        assert await kitchen.pool.cancel(task.id, None) == (True, "CANCELED", 0)


async def test_a_queued_task_is_canceled_without_a_worker(tmp_path: Path) -> None:
    async with Kitchen(tmp_path / "d.db", {"noop": succeed}) as kitchen:
        task = await kitchen.submit(noop(delay_ms=1_000))
        assert await kitchen.pool.cancel(task.id, None) == (True, "CANCELED", 0)


# -- limits and timers ---------------------------------------------------------------------------------------------


@pytest.mark.spec("GC-STM-115")
@pytest.mark.parametrize("own_limit", [True, False])
async def test_an_attempt_that_takes_too_long_is_ended(tmp_path: Path, own_limit: bool) -> None:
    held = Held(Succeeded())
    async with Kitchen(tmp_path / "d.db", {"noop": held}) as kitchen:
        kitchen.timeout_ms = 3_600_000 if own_limit else 1
        kitchen.start()
        task = await kitchen.submit(noop(timeout_ms=1 if own_limit else None))
        waiting = await kitchen.until(task.id, "RETRY_WAIT")
        assert (waiting.error_code, waiting.error) == ("TIMEOUT", "the attempt took longer than its limit of 1 ms")
        assert held.canceled == [task.id]


@pytest.mark.spec("GC-STM-111")
async def test_an_unsafe_call_that_takes_too_long_is_unknown(tmp_path: Path) -> None:
    held = Held(Succeeded())

    async def handle(attempt: Attempt) -> Any:
        await attempt.journal.commit([UNSAFE])
        return await held(attempt)

    async with Kitchen(tmp_path / "d.db", {"exec": handle}) as kitchen:
        kitchen.start()
        # The step is on its way to the disk before the limit can come, and the end is judged behind it.
        task = await kitchen.submit(NewTask(kind="exec", payload={"argv": ["true"]}, timeout_ms=1))
        ended = await kitchen.finished(task.id)
        assert (ended.state, ended.error_code) == ("FAILED", "OUTCOME_UNKNOWN")


@pytest.mark.spec("GC-STM-112")
async def test_a_deadline_ends_a_running_task(tmp_path: Path) -> None:
    held = Held(Succeeded())
    async with Kitchen(tmp_path / "d.db", {"noop": held}) as kitchen:
        kitchen.start()
        task = await kitchen.submit(noop(deadline_ms=5_000))
        await held.arrived(1)
        await kitchen.clock.asleep(2)
        kitchen.clock.advance(5_000)
        ended = await kitchen.finished(task.id)
        assert (ended.state, ended.error_code, held.canceled) == ("CANCELED", "DEADLINE", [task.id])


@pytest.mark.spec("GC-QUE-112")
async def test_a_delay_is_over_when_the_clock_says_so(tmp_path: Path) -> None:
    async with Kitchen(tmp_path / "d.db", {"noop": succeed}) as kitchen:
        kitchen.start()
        late = await kitchen.submit(noop(delay_ms=20_000))
        soon = await kitchen.submit(noop(delay_ms=2_000))
        await kitchen.turns(
            lambda: kitchen.clock.sleepers == (1_002_000,)
        )  # the earlier timer took the later one's place
        kitchen.clock.advance(2_000)
        await kitchen.finished(soon.id)
        assert (await kitchen.get(late.id)).wait_reason == "delay"
        await kitchen.clock.asleep(1)
        kitchen.clock.advance(18_000)
        await kitchen.finished(late.id)


async def test_a_wall_clock_that_is_set_forward_is_noticed_within_half_a_minute(tmp_path: Path) -> None:
    async with Kitchen(tmp_path / "d.db", {"noop": succeed}) as kitchen:
        kitchen.start()
        task = await kitchen.submit(noop(delay_ms=7_200_000))
        await kitchen.clock.asleep(1)
        kitchen.clock.set_wall(kitchen.clock.wall() + 7_200_000)
        kitchen.clock.advance(30_000)
        await kitchen.finished(task.id)


@pytest.mark.spec("GC-STM-105")
async def test_a_failure_waits_and_is_tried_again_to_its_end(tmp_path: Path) -> None:
    clock = FakeClock()
    async with Kitchen(tmp_path / "d.db", {"noop": noop_handler(clock)}, clock=clock) as kitchen:
        kitchen.start()
        task = await kitchen.submit(noop(payload={"fail": "no luck"}, max_attempts=2))
        for attempt, wait in ((1, 1_000),):
            waiting = await kitchen.until(task.id, "RETRY_WAIT")
            assert (waiting.attempt, waiting.wait_reason) == (attempt, "backoff")
            assert waiting.available_at == kitchen.clock.wall() + wait
            await kitchen.clock.asleep(1)
            kitchen.clock.advance(wait)
        ended = await kitchen.until(task.id, "DEAD_LETTER")
        assert (ended.attempt, ended.error_code, ended.error) == (2, "NOOP_FAILED", "no luck")


async def test_a_deadline_holds_for_what_was_put_back(tmp_path: Path) -> None:
    held = Held(Failed("E", "x", permanent=True))
    async with Kitchen(tmp_path / "d.db", {"noop": held}) as kitchen:
        kitchen.start()
        held.go.set()
        task = await kitchen.submit(noop(deadline_ms=5_000))
        await kitchen.finished(task.id)
        held.go.clear()
        await kitchen.queue.redrive(task.id)
        await held.arrived(2)
        await kitchen.turns(lambda: 1_005_000 in kitchen.clock.sleepers)
        kitchen.clock.advance(5_000)
        assert (await kitchen.finished(task.id)).error_code == "DEADLINE"


async def test_the_noop_sleeps_by_the_clock_and_ends_as_it_is_told(tmp_path: Path) -> None:
    clock = FakeClock()
    async with Kitchen(tmp_path / "d.db", {"noop": noop_handler(clock)}, clock=clock) as kitchen:
        kitchen.start()
        sleeper = await kitchen.submit(noop(payload={"sleep_ms": 4_000, "result": {"n": 1}}))
        bad = await kitchen.submit(noop(payload={"fail": "bad", "permanent": True}))
        assert (await kitchen.finished(bad.id)).state == "FAILED"
        await kitchen.turns(lambda: 1_004_000 in kitchen.clock.sleepers)
        kitchen.clock.advance(4_000)
        assert (await kitchen.finished(sleeper.id)).result == {"n": 1}


# -- leases --------------------------------------------------------------------------------------------------------


@pytest.mark.spec("GC-QUE-105")
async def test_the_heartbeat_keeps_a_long_task_alive(tmp_path: Path) -> None:
    held = Held(Succeeded())
    async with Kitchen(tmp_path / "d.db", {"noop": held}) as kitchen:
        kitchen.start()
        task = await kitchen.submit(noop())
        await held.arrived(1)
        for beat in range(1, 10):
            await kitchen.clock.asleep(1)
            kitchen.clock.advance(10_000)
            expires = kitchen.clock.wall() + 30_000
            await kitchen.until(task.id, "RUNNING", holds=lambda now, at=expires: now.lease_expires_at == at)  # type: ignore[misc]
            assert kitchen.clock.monotonic() == 1_000_000 + beat * 10_000
        held.go.set()
        assert (await kitchen.finished(task.id)).attempt == 1
        assert await kitchen.story(task.id) == ["task.enqueued", "task.claimed", "task.running", "task.succeeded"]


@pytest.mark.spec("GC-QUE-117")
async def test_a_lease_that_ran_out_while_the_world_stood_still_is_not_revived(tmp_path: Path) -> None:
    held = Held(Succeeded("second"))
    async with Kitchen(tmp_path / "d.db", {"noop": held}) as kitchen:
        kitchen.start()
        task = await kitchen.submit(noop())
        await held.arrived(1)
        await kitchen.clock.asleep(1)
        kitchen.clock.advance(30_001)
        await held.arrived(2)
        assert held.canceled == [task.id], "the first handler ended before the second began"
        held.go.set()
        ended = await kitchen.finished(task.id)
        assert (ended.state, ended.attempt, ended.result) == ("SUCCEEDED", 2, "second")
        assert (await kitchen.story(task.id))[3] == "task.lease_lost"
        assert held.most == 1
        first, second = (one.lease_token or 0 for one in held.seen)
        assert first < second


class NotingQueue(Queue):
    """A queue that notes what it gave away."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.taken: list[Stored] = []

    async def claim(self, agent_id: str, limit: int) -> list[Claimed]:
        found = await super().claim(agent_id, limit)
        self.taken += [claimed.stored for claimed in found]
        return found


@pytest.mark.spec("GC-QUE-117")
async def test_a_handler_that_ends_after_its_lease_was_given_on_is_ignored(tmp_path: Path) -> None:
    held = Held(Succeeded("mine"))
    async with Kitchen(tmp_path / "d.db", {"noop": held}, queue=NotingQueue) as kitchen:
        assert isinstance(kitchen.queue, NotingQueue)
        kitchen.start()
        task = await kitchen.submit(noop())
        await held.arrived(1)
        await kitchen.clock.asleep(1)
        kitchen.clock.advance(30_001)
        await held.arrived(2)
        late = await kitchen.queue.finish(kitchen.queue.taken[0], Succeeded("late"))
        assert (late.state, late.result) == ("RUNNING", None)
        with pytest.raises(LeaseLost):
            await kitchen.queue.record(kitchen.queue.taken[0], [UNSAFE])
        with pytest.raises(LeaseLost):
            await kitchen.queue.progress(kitchen.queue.taken[0], 1)
        held.go.set()
        assert (await kitchen.finished(task.id)).result == "mine"


@pytest.mark.spec("GC-STM-111")
async def test_an_unsafe_call_that_loses_its_lease_is_unknown(tmp_path: Path) -> None:
    held = Held(Succeeded())

    async def handle(attempt: Any) -> Any:
        await attempt.journal.commit([UNSAFE])
        return await held(attempt)

    async with Kitchen(tmp_path / "d.db", {"exec": handle}) as kitchen:
        kitchen.start()
        task = await kitchen.submit(EXEC)
        await held.arrived(1)
        await kitchen.clock.asleep(1)
        kitchen.clock.advance(30_001)
        ended = await kitchen.finished(task.id)
        assert (ended.state, ended.error_code) == ("FAILED", "OUTCOME_UNKNOWN")


async def test_a_journal_without_its_lease_ends_the_handler_and_writes_nothing(tmp_path: Path) -> None:
    held = Held(Succeeded())

    async def handle(attempt: Any) -> Any:
        await held(attempt)
        await attempt.journal.commit([UNSAFE])
        raise AssertionError

    async with Kitchen(tmp_path / "d.db", {"noop": handle, "exec": succeed}) as kitchen:
        kitchen.start()
        task = await kitchen.submit(noop())
        await held.arrived(1)
        await kitchen.database.write(_steal, task.id)
        held.go.set()
        await kitchen.finished((await kitchen.submit(EXEC)).id)
        await kitchen.turns(lambda: kitchen.pool.running == 0)
        assert (await kitchen.get(task.id)).state == "RUNNING"
        assert "step.intended" not in await kitchen.story(task.id)


def _steal(conn: Connection, task_id: str) -> None:
    conn.execute("UPDATE task SET lease_token = 999, lease_owner = 'somebody else' WHERE id = ?", (task_id,))


# -- drain ---------------------------------------------------------------------------------------------------------


@pytest.mark.spec("GC-QUE-118")
async def test_a_drain_lets_running_work_end_and_begins_no_other(tmp_path: Path) -> None:
    held = Held(Succeeded())
    async with Kitchen(tmp_path / "d.db", {"noop": held}, agent("default", 1)) as kitchen:
        first, second = [one.task for one in await kitchen.queue.submit_many([noop(), noop()])]
        kitchen.start()
        await held.arrived(1)
        draining = asyncio.ensure_future(kitchen.pool.drain(5_000))
        await kitchen.clock.asleep(2)
        held.go.set()
        await draining
        assert (await kitchen.get(first.id)).state == "SUCCEEDED"
        assert (await kitchen.get(second.id)).state == "QUEUED"
        assert kitchen.clock.monotonic() == 1_000_000, "it did not wait longer than the work"


@pytest.mark.spec("GC-QUE-118")
async def test_what_does_not_end_in_time_is_handed_back_uncharged(tmp_path: Path) -> None:
    held = Held(Succeeded())
    async with Kitchen(tmp_path / "d.db", {"noop": held, "chat": held}) as kitchen:
        kitchen.start()
        work = await kitchen.submit(noop())
        turn = await kitchen.submit(chat_task("hi", agent_id=None, session_id="s"))
        await held.arrived(2)
        draining = asyncio.ensure_future(kitchen.pool.drain(5_000))
        await kitchen.clock.asleep(2)
        kitchen.clock.advance(4_999)
        await asyncio.sleep(0)
        assert held.canceled == []
        kitchen.clock.advance(1)
        await draining
        for task in (work, turn):
            back = await kitchen.get(task.id)
            assert (back.state, back.attempt, back.deaths, back.lease_token) == ("QUEUED", 0, 0, None)
            assert (await kitchen.story(task.id))[-1] == "task.requeued"
        assert kitchen.pool.running == 0


@pytest.mark.spec("GC-STM-111")
async def test_an_unsafe_call_that_is_drained_is_unknown(tmp_path: Path) -> None:
    held = Held(Succeeded())

    async def handle(attempt: Any) -> Any:
        await attempt.journal.commit([UNSAFE])
        return await held(attempt)

    async with Kitchen(tmp_path / "d.db", {"exec": handle}) as kitchen:
        kitchen.start()
        task = await kitchen.submit(EXEC)
        await held.arrived(1)
        draining = asyncio.ensure_future(kitchen.pool.drain(0))
        await draining
        ended = await kitchen.get(task.id)
        assert (ended.state, ended.error_code) == ("FAILED", "OUTCOME_UNKNOWN")
        assert (await kitchen.story(task.id))[-2:] == ["step.unknown", "task.failed"]


@pytest.mark.spec("GC-STM-107")
async def test_a_cancel_that_comes_while_work_is_handed_back_is_kept(tmp_path: Path) -> None:
    cleaning, cleaned, begun = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def handle(attempt: Attempt) -> Outcome:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            await cleaned.wait()
        raise AssertionError

    async with Kitchen(tmp_path / "d.db", {"noop": handle}) as kitchen:
        kitchen.start()
        task = await kitchen.submit(noop())
        await begun.wait()
        draining = asyncio.ensure_future(kitchen.pool.drain(0))
        await cleaning.wait()
        canceling = asyncio.ensure_future(kitchen.pool.cancel(task.id, "enough"))
        await kitchen.until(task.id, "RUNNING", holds=lambda now: now.cancel_requested)
        cleaned.set()
        assert await canceling == (True, "CANCELED", 0)
        await draining


async def test_a_drain_of_an_idle_pool_ends_at_once(tmp_path: Path) -> None:
    async with Kitchen(tmp_path / "d.db", {"noop": succeed}) as kitchen:
        kitchen.start()
        await kitchen.pool.drain(5_000)
        task = await kitchen.submit(noop())
        await asyncio.sleep(0)
        assert (await kitchen.get(task.id)).state == "QUEUED"


class SlowQueue(Queue):
    """A queue whose answers a test can hold back after their commit."""

    hold_claim: asyncio.Event | None = None
    hold_finish: asyncio.Event | None = None

    async def claim(self, agent_id: str, limit: int) -> list[Claimed]:
        found = await super().claim(agent_id, limit)
        if found and self.hold_claim is not None:
            await self.hold_claim.wait()
        return found

    async def finish_and_claim(self, stored: Stored, outcome: Outcome) -> tuple[Task, Claimed | None]:
        done = await super().finish_and_claim(stored, outcome)
        if self.hold_finish is not None:
            await self.hold_finish.wait()
        return done


@pytest.mark.spec("GC-QUE-118")
async def test_a_drain_hands_back_what_was_claimed_in_the_last_moment(tmp_path: Path) -> None:
    held, busy = Held(Succeeded()), Held(Succeeded())
    async with Kitchen(tmp_path / "d.db", {"noop": held, "exec": busy}, queue=SlowQueue) as kitchen:
        assert isinstance(kitchen.queue, SlowQueue)
        kitchen.start()
        other = await kitchen.submit(NewTask(kind="exec", payload={"argv": ["true"]}, agent_id="other"))
        await busy.arrived(1)
        kitchen.queue.hold_claim = asyncio.Event()
        task = await kitchen.submit(noop())
        await kitchen.until(task.id, "RUNNING")
        busy.go.set()
        await kitchen.finished(other.id)
        await kitchen.turns(lambda: kitchen.pool.running == 0)
        draining = asyncio.ensure_future(kitchen.pool.drain(0))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not draining.done(), "nobody works, but a claim is under way"
        kitchen.queue.hold_claim.set()
        await draining
        back = await kitchen.get(task.id)
        assert (back.state, back.attempt, held.seen) == ("QUEUED", 0, [])


@pytest.mark.spec("GC-QUE-118")
async def test_a_drain_hands_back_what_an_ending_worker_had_just_taken(tmp_path: Path) -> None:
    held = Held(Succeeded())
    async with Kitchen(tmp_path / "d.db", {"noop": held}, agent("default", 1), queue=SlowQueue) as kitchen:
        assert isinstance(kitchen.queue, SlowQueue)
        kitchen.queue.hold_finish = asyncio.Event()
        first, second = [one.task for one in await kitchen.queue.submit_many([noop(), noop()])]
        kitchen.start()
        held.go.set()
        await kitchen.until(second.id, "RUNNING")
        draining = asyncio.ensure_future(kitchen.pool.drain(0))
        for _ in range(5):
            await asyncio.sleep(0)
        kitchen.queue.hold_finish.set()
        await draining
        assert (await kitchen.get(first.id)).state == "SUCCEEDED"
        back = await kitchen.get(second.id)
        assert (back.state, back.attempt, len(held.seen)) == ("QUEUED", 0, 1)


# -- what a handler may do -----------------------------------------------------------------------------------------


@pytest.mark.spec("GC-STM-116")
@pytest.mark.parametrize(
    ("error", "state", "code", "wait"),
    [
        (RuntimeError("secret"), "RETRY_WAIT", "INTERNAL", 1_000),
        (RateLimited("slow down", retry_after_ms=7_000), "RETRY_WAIT", "RATE_LIMITED", 7_000),
        (NoProvider("none"), "FAILED", "NO_PROVIDER", None),
    ],
)
async def test_what_a_handler_raises_becomes_a_failure(
    tmp_path: Path, error: Exception, state: str, code: str, wait: int | None
) -> None:
    async def handle(attempt: Attempt) -> Outcome:
        raise error

    async with Kitchen(tmp_path / "d.db", {"noop": handle}) as kitchen:
        kitchen.start()
        task = await kitchen.submit(noop())
        ended = await kitchen.until(task.id, state)
        assert ended.error_code == code
        assert "secret" not in (ended.error or "")
        if wait is not None:
            assert ended.available_at == kitchen.clock.wall() + wait
        assert kitchen.reported == ([error] if code == "INTERNAL" else []), "what nobody foresaw is reported"


async def test_a_kind_without_a_handler_fails(tmp_path: Path) -> None:
    async with Kitchen(tmp_path / "d.db", {"noop": succeed}) as kitchen:
        kitchen.start()
        task = await kitchen.submit(NewTask(kind="exec", payload={"argv": ["x"]}, max_attempts=1))
        assert (await kitchen.finished(task.id)).error_code == "INTERNAL"


@pytest.mark.spec("GC-STM-116")
@pytest.mark.parametrize(
    "outcome",
    [
        Succeeded(float("nan")),
        Succeeded(object()),
        Succeeded("\ud800"),
        Failed("E", "no such file: '\udcff'"),
        Succeeded(1, closing=Closing((End("nobody", StepState.DONE),))),
    ],
    ids=["nan", "object", "surrogate", "surrogate in an error", "no such step"],
)
async def test_an_outcome_that_cannot_be_stored_becomes_a_failure_and_the_pool_lives_on(
    tmp_path: Path, outcome: Outcome
) -> None:
    async def handle(attempt: Attempt) -> Outcome:
        return outcome

    async with Kitchen(tmp_path / "d.db", {"noop": handle, "exec": succeed}) as kitchen:
        kitchen.start()
        task = await kitchen.submit(noop(max_attempts=1))
        ended = await kitchen.finished(task.id)
        assert (ended.state, ended.error_code) == ("FAILED", "INTERNAL")
        assert "could not be stored" in (ended.error or "")
        assert len(kitchen.reported) == 1
        assert (await kitchen.finished((await kitchen.submit(EXEC)).id)).state == "SUCCEEDED"


async def test_an_attempt_shows_deltas_and_records_progress(tmp_path: Path) -> None:
    async def handle(attempt: Attempt) -> Outcome:
        attempt.delta("one ")
        attempt.delta("two", reset=True)
        await attempt.progress({"done": 0.5})
        await attempt.journal.commit([UNSAFE])
        steps = attempt.journal.steps
        await attempt.journal.commit([End("u", StepState.DONE)])
        assert steps["u"].state == "running"
        assert attempt.journal.steps["u"].state == "done"
        return Succeeded()

    async with Kitchen(tmp_path / "d.db", {"chat": handle}) as kitchen:
        kitchen.start()
        task = await kitchen.submit(chat_task("hi", agent_id=None, session_id="s"))
        ended = await kitchen.finished(task.id)
        assert (ended.state, ended.progress) == ("SUCCEEDED", {"done": 0.5})
        assert [(delta.seq, delta.content, delta.reset) for delta in kitchen.deltas] == [
            (1, "one ", False),
            (2, "two", True),
        ]
        assert {(delta.task_id, delta.session_id) for delta in kitchen.deltas} == {(task.id, "s")}


async def test_a_turn_is_told_its_conversation_and_keeps_its_prompt(tmp_path: Path) -> None:
    told: list[Any] = []

    async def handle(attempt: Attempt) -> Outcome:
        bounds = await attempt.conversation.bounds()
        told.append([message.text for message in await attempt.conversation.history(bounds)])
        attempt.conversation.pin("h", "be kind")
        await attempt.progress(1)
        told.append(await attempt.conversation.part("h"))
        return Succeeded()

    async with Kitchen(tmp_path / "d.db", {"chat": handle}) as kitchen:
        kitchen.start()
        await kitchen.finished((await kitchen.submit(chat_task("hi", agent_id=None, session_id="s"))).id)
        assert told == [["hi"], "be kind"]


# -- a full disk ---------------------------------------------------------------------------------------------------


class FullQueue(Queue):
    """A queue on a disk that is full for a while."""

    full = False
    refused = 0

    def _check(self) -> None:
        if self.full:
            self.refused += 1
            raise StoreFull

    async def claim(self, agent_id: str, limit: int) -> list[Claimed]:
        self._check()
        return await super().claim(agent_id, limit)

    async def finish(self, stored: Stored, outcome: Outcome) -> Task:
        self._check()
        return await super().finish(stored, outcome)

    async def finish_and_claim(self, stored: Stored, outcome: Outcome) -> tuple[Task, Claimed | None]:
        self._check()
        return await super().finish_and_claim(stored, outcome)

    async def renew(self, tokens: Any) -> list[int]:
        self._check()
        return await super().renew(tokens)

    async def run_timers(self) -> Any:
        self._check()
        return await super().run_timers()


@pytest.mark.spec("GC-PER-104")
async def test_done_work_waits_for_room_on_a_full_disk(tmp_path: Path) -> None:
    held = Held(Succeeded("kept"))
    async with Kitchen(tmp_path / "d.db", {"noop": held}, queue=FullQueue) as kitchen:
        queue = kitchen.queue
        assert isinstance(queue, FullQueue)
        kitchen.start()
        task = await kitchen.submit(noop())
        await held.arrived(1)
        queue.full = True
        held.go.set()
        other = await kitchen.submit(noop(delay_ms=500))
        for _ in range(40):
            await kitchen.clock.asleep(2)
            kitchen.clock.advance(1_000)
            await asyncio.sleep(0)
        assert queue.refused > 20
        assert (await kitchen.get(task.id)).state == "RUNNING"
        queue.full = False
        kitchen.clock.advance(1_000)
        assert (await kitchen.finished(task.id)).result == "kept"
        async with asyncio.timeout(PATIENCE_S):
            while (await kitchen.get(other.id)).state != "SUCCEEDED":
                kitchen.clock.advance(1_000)
                await asyncio.sleep(0)


async def test_a_drain_does_not_wait_for_room(tmp_path: Path) -> None:
    held = Held(Succeeded())
    async with Kitchen(tmp_path / "d.db", {"noop": held}, queue=FullQueue) as kitchen:
        queue = kitchen.queue
        assert isinstance(queue, FullQueue)
        kitchen.start()
        task = await kitchen.submit(noop())
        await held.arrived(1)
        queue.full = True
        await kitchen.pool.drain(0)
        assert (await kitchen.get(task.id)).state == "RUNNING", "the next start judges it"
        assert [type(error) for error in kitchen.reported] == [StoreFull]
        queue.full = False


async def test_outcomes_of_all_kinds_leave_no_worker_behind(tmp_path: Path) -> None:
    ends: list[Outcome] = [Succeeded(), Failed("E", "x", permanent=True), Canceled(), Failed("E", "x")]

    async def handle(attempt: Attempt) -> Outcome:
        end: int = attempt.task.payload["result"]
        return ends[end]

    async with Kitchen(tmp_path / "d.db", {"noop": handle}) as kitchen:
        kitchen.start()
        many = [await kitchen.submit(noop(payload={"result": n % 4})) for n in range(20)]
        for n, task in enumerate(many):
            await kitchen.until(task.id, ("SUCCEEDED", "FAILED", "CANCELED", "RETRY_WAIT")[n % 4])
        await kitchen.turns(lambda: kitchen.pool.running == 0)
        assert await kitchen.database.read(tasks.held) == (0, 0)
