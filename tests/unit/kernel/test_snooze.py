"""Snooze: a task stands aside for a while, by a person's word or by its own handler."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from goclaw.core.intake import MAX_MS
from goclaw.core.outcome import Outcome, Snoozed, Succeeded
from goclaw.core.ports import Attempt
from goclaw.core.step import Effect, Intend
from goclaw.core.task import NewTask
from goclaw.errors import BadRequest, Conflict, NotFound
from goclaw.kernel import operations, upkeep
from goclaw.store import events, verify
from tests.fakes_clock import START
from tests.kitchen import Kitchen
from tests.scratch import commit, noop
from tests.unit.kernel.lines import cancel, chat, claim, finish, ids, story, submit, task, timers, why


def snooze(conn: sqlite3.Connection, task_id: str, delay_ms: int, now: int = 0) -> frozenset[str]:
    return commit(conn, upkeep.ask_snooze, task_id, delay_ms, START + now)[1]


@pytest.mark.spec("GC-QUE-411")
def test_a_snoozed_task_waits_and_comes_back_by_itself(conn: sqlite3.Connection) -> None:
    submit(conn, "a")
    snooze(conn, "a", 1_000)
    now = task(conn, "a")
    assert (now.state, now.wait_reason, now.available_at, now.attempt) == ("QUEUED", "delay", START + 1_000, 0)
    assert claim(conn, now=999) == []
    assert timers(conn, 999).next_wake == START + 1_000
    assert timers(conn, 1_000).ready == {"default"}
    assert ids(claim(conn, now=1_000)) == ["a"]
    assert story(conn, "a") == ["task.enqueued", "task.snoozed", "task.claimed", "task.running"]


@pytest.mark.spec("GC-QUE-411")
def test_a_snooze_is_no_change_of_state_and_says_until_when(conn: sqlite3.Connection) -> None:
    submit(conn, "a")
    snooze(conn, "a", 1_000)
    told = events.read_task(conn, "a", 0)[-1]
    assert (told.state_from, told.state_to, told.payload) == (None, None, {"available_at": START + 1_000})


@pytest.mark.spec("GC-QUE-411")
def test_a_snooze_can_be_made_longer_and_shorter(conn: sqlite3.Connection) -> None:
    submit(conn, "a", delay_ms=10)
    for delay in (5_000, 50):
        snooze(conn, "a", delay)
        assert timers(conn, 0).next_wake == START + delay
    timers(conn, 50)
    assert ids(claim(conn, now=50)) == ["a"]


@pytest.mark.spec("GC-QUE-411")
def test_a_snoozed_task_ranks_by_the_instant_it_waited_for(conn: sqlite3.Connection) -> None:
    submit(conn, "a")
    submit(conn, "b", now=1)
    submit(conn, "urgent", priority=1)
    snooze(conn, "a", 1_000)
    snooze(conn, "urgent", 1_000)
    timers(conn, 1_000)
    assert ids(claim(conn, now=1_000)) == ["urgent", "b", "a"]


@pytest.mark.spec("GC-QUE-411")
def test_a_turn_that_is_snoozed_lets_the_next_one_go_and_lines_up_behind(conn: sqlite3.Connection) -> None:
    for name in ("one", "two", "three"):
        submit(conn, name, chat("s"))
    assert snooze(conn, "one", 1_000) == {"default"}
    assert why(conn, "one", "two", "three") == ["delay", "ready", "session"]
    timers(conn, 1_000)
    assert why(conn, "one") == ["session"]
    order = []
    for _ in range(3):
        (begun,) = claim(conn, now=1_000)
        order.append(begun.task.id)
        finish(conn, begun, now=1_000)
    assert order == ["two", "three", "one"]


@pytest.mark.spec("GC-QUE-411")
def test_who_is_snoozed_leaves_its_name_to_the_next(conn: sqlite3.Connection) -> None:
    submit(conn, "a", concurrency_key="n")
    submit(conn, "b", concurrency_key="n")
    assert snooze(conn, "a", 1_000) == {"default"}
    assert why(conn, "a", "b") == ["delay", "ready"]


@pytest.mark.spec("GC-QUE-411")
def test_a_deadline_counts_on_while_a_task_is_snoozed(conn: sqlite3.Connection) -> None:
    submit(conn, "a", deadline_ms=500)
    snooze(conn, "a", 1_000)
    timers(conn, 500)
    assert task(conn, "a").error_code == "DEADLINE"


@pytest.mark.spec("GC-QUE-422")
def test_only_a_queued_task_can_be_snoozed_and_a_refusal_writes_nothing(conn: sqlite3.Connection) -> None:
    submit(conn, "running")
    claim(conn)
    submit(conn, "ended")
    cancel(conn, "ended")
    submit(conn, "queued")
    head = events.head(conn)
    for name in ("running", "ended"):
        with pytest.raises(Conflict, match="only a QUEUED one"):
            snooze(conn, name, 1_000)
    with pytest.raises(NotFound):
        snooze(conn, "nobody", 1_000)
    for delay in (0, -1, MAX_MS + 1):
        with pytest.raises(BadRequest):
            snooze(conn, "queued", delay)
    assert events.head(conn) == head


@pytest.mark.spec("GC-QUE-412")
def test_a_handler_that_snoozes_is_called_again_uncharged(conn: sqlite3.Connection) -> None:
    submit(conn, "a", max_attempts=1)
    for n in range(5):
        (begun,) = claim(conn, now=n * 1_000)
        assert begun.task.attempt == 1
        finish(conn, begun, Snoozed(1_000), now=n * 1_000)
        assert task(conn, "a").attempt == 0
        assert claim(conn, now=n * 1_000 + 999) == []
        timers(conn, (n + 1) * 1_000)
    last = events.read_task(conn, "a", 0)[-1]
    assert (last.event_type, last.state_from, last.state_to) == ("task.requeued", "RUNNING", "QUEUED")
    assert last.payload == {"reason": "snooze", "available_at": START + 5_000, "attempt": 0}


@pytest.mark.spec("GC-QUE-412")
def test_a_turn_whose_handler_snoozes_gives_up_its_place(conn: sqlite3.Connection) -> None:
    submit(conn, "one", chat("s", concurrency_key="model"))
    submit(conn, "two", chat("s"))
    submit(conn, "else", chat("t", concurrency_key="model"))
    (begun,) = claim(conn)
    assert finish(conn, begun, Snoozed(1_000)) == {"default"}
    assert why(conn, "one", "two", "else") == ["delay", "ready", "ready"]


@pytest.mark.spec("GC-QUE-412")
def test_a_cancel_that_was_asked_goes_before_a_snooze(conn: sqlite3.Connection) -> None:
    submit(conn, "a")
    (begun,) = claim(conn)
    cancel(conn, "a")
    finish(conn, begun, Snoozed(1_000))
    assert task(conn, "a").state == "CANCELED"


@pytest.mark.spec("GC-QUE-412")
def test_a_call_whose_effect_has_begun_cannot_be_snoozed_away(conn: sqlite3.Connection) -> None:
    submit(conn, "a", NewTask(kind="exec", payload={"argv": ["true"]}))
    (begun,) = claim(conn)
    unsafe = Intend(key="u", kind="tool", request={}, request_hash="h", tool="exec", effect=Effect.UNSAFE, running=True)
    commit(conn, operations.record, begun.stored, [unsafe], START)
    finish(conn, begun, Snoozed(1_000))
    assert task(conn, "a").error_code == "OUTCOME_UNKNOWN"


@pytest.mark.spec("GC-QUE-411")
def test_the_events_of_a_snoozed_task_explain_its_row(conn: sqlite3.Connection) -> None:
    submit(conn, "a")
    snooze(conn, "a", 1_000)
    timers(conn, 1_000)
    (begun,) = claim(conn, now=1_000)
    finish(conn, begun, Snoozed(1_000), now=1_000)
    assert verify.verify(conn).findings == ()


@pytest.mark.spec("GC-QUE-412")
async def test_snoozes_survive_a_restart(tmp_path: Path) -> None:
    asked: list[int] = []

    async def later(attempt: Attempt) -> Outcome:
        asked.append(attempt.task.attempt)
        return Snoozed(60_000) if len(asked) == 1 else Succeeded(len(asked))

    async with Kitchen(tmp_path / "d.db", {"noop": later}) as kitchen:
        one, two = await kitchen.submit(noop()), await kitchen.submit(noop(agent_id="other"))
        await kitchen.queue.snooze(two.id, 60_000)
        kitchen.start()
        await kitchen.until(one.id, "QUEUED", holds=lambda now: now.wait_reason == "delay")
        clock = kitchen.clock
    async with Kitchen(tmp_path / "d.db", {"noop": later}, clock=clock) as kitchen:
        kitchen.start()
        await clock.asleep()
        assert asked == [1]
        clock.advance(60_000)
        for waiting in (one, two):
            assert (await kitchen.finished(waiting.id)).state == "SUCCEEDED"
        assert asked == [1, 1, 1]
