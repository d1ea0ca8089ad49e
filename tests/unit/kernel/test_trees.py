"""Cancel of task trees, and redrive of many."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from goclaw.core.outcome import Canceled, Failed, Succeeded
from goclaw.core.ports import Handler
from goclaw.core.task import TaskState
from goclaw.errors import Conflict
from goclaw.kernel import upkeep
from goclaw.kernel.noop import noop_handler
from goclaw.kernel.queue import REDRIVE_BATCH
from goclaw.kernel.submission import TREE_DEPTH
from goclaw.store import events
from goclaw.store.tasks import TaskFilter
from tests.fakes_clock import START
from tests.kitchen import Held, Kitchen
from tests.scratch import commit, noop
from tests.unit.kernel.lines import cancel, chat, claim, finish, submit, task, timers, why


def child(conn: sqlite3.Connection, task_id: str, parent: str, **fields: Any) -> None:
    submit(conn, task_id, parent_task_id=parent, **fields)


@pytest.mark.spec("GC-QUE-413")
def test_a_cancel_takes_all_below_with_it_whatever_they_do(conn: sqlite3.Connection) -> None:
    submit(conn, "root", agent_id="other")
    child(conn, "retrying", "root")
    (begun,) = claim(conn)
    finish(conn, begun, Failed("E", "x"))
    child(conn, "running", "root")
    (running,) = claim(conn)
    child(conn, "queued", "root")
    child(conn, "delayed", "queued", delay_ms=99)
    child(conn, "named", "running", concurrency_key="n")
    child(conn, "parked", "named", concurrency_key="n")
    done = cancel(conn, "root")
    assert (done.stored.task.state, done.below, done.held) == ("CANCELED", 6, (running.task.key,))
    assert why(conn, "retrying", "queued", "delayed", "named", "parked") == ["CANCELED"] * 5
    asked = task(conn, "running")
    assert (asked.state, asked.cancel_requested, asked.cancel_reason) == ("RUNNING", True, "enough")
    finish(conn, running, Canceled())
    assert (task(conn, "running").state, task(conn, "running").error) == ("CANCELED", "enough")
    assert claim(conn) == []
    assert timers(conn, 999_999).next_wake is None, "nothing is left that would come back"


@pytest.mark.spec("GC-QUE-413")
def test_a_tree_is_canceled_to_its_last_leaf_deep_and_wide(conn: sqlite3.Connection) -> None:
    submit(conn, "t0")
    for n in range(1, TREE_DEPTH + 1):
        child(conn, f"t{n}", f"t{n - 1}")
    with pytest.raises(Conflict, match="100 deep"):
        child(conn, "too-deep", f"t{TREE_DEPTH}")
    for n in range(400):
        child(conn, f"w{n}", "t50")
    submit(conn, "beside")
    done = cancel(conn, "t1")
    assert done.below == 99 + 400
    assert why(conn, "t0", "beside") == ["ready", "ready"]
    assert conn.execute("SELECT count(*) FROM task WHERE state = 'CANCELED'").fetchone()[0] == 500
    assert sum(one.event_type == "task.canceled" for one in events.read_after(conn, 0, 9_999)) == 500


@pytest.mark.spec("GC-QUE-413")
def test_what_runs_below_a_task_that_has_ended_is_ended_too(conn: sqlite3.Connection) -> None:
    submit(conn, "root")
    (root,) = claim(conn)
    child(conn, "child", "root")
    (running,) = claim(conn)
    child(conn, "grandchild", "child")
    finish(conn, root)
    done = cancel(conn, "root")
    assert (done.stored.task.state, done.below, done.held) == ("SUCCEEDED", 2, (running.task.key,))
    assert why(conn, "grandchild") == ["CANCELED"]
    again = cancel(conn, "root")
    assert (again.below, again.held) == (1, (running.task.key,)), "asking again changes nothing"
    finish(conn, running, Canceled())
    assert cancel(conn, "root").below == 0


@pytest.mark.spec("GC-QUE-413")
def test_a_tree_that_is_canceled_grows_no_more(conn: sqlite3.Connection) -> None:
    submit(conn, "root")
    (root,) = claim(conn)
    child(conn, "child", "root")
    (begun,) = claim(conn)
    finish(conn, begun)
    cancel(conn, "root")
    head = events.head(conn)
    for parent in ("root", "child"):
        with pytest.raises(Conflict, match="no more children"):
            child(conn, "late", parent)
    finish(conn, root, Canceled())
    with pytest.raises(Conflict, match="no more children"):
        child(conn, "late", "child")
    assert events.head(conn) == head + 1
    commit(conn, upkeep.ask_redrive, "root", START)
    child(conn, "late", "child")


@pytest.mark.spec("GC-QUE-413")
async def test_the_answer_comes_when_every_handler_of_the_tree_has_ended(tmp_path: Path) -> None:
    held = Held(Succeeded())
    async with Kitchen(tmp_path / "d.db", {"noop": held}) as kitchen:
        kitchen.start()
        root = await kitchen.submit(noop())
        below = [await kitchen.submit(noop(parent_task_id=root.id, agent_id=name)) for name in ("default", "other")]
        await held.arrived(3)
        assert await kitchen.pool.cancel(root.id, "enough") == (True, TaskState.CANCELED, 2)
        assert sorted(held.canceled) == sorted([root.id, *(one.id for one in below)])
        for one in below:
            assert (await kitchen.get(one.id)).state == "CANCELED"


@pytest.mark.spec("GC-QUE-414")
async def test_progress_is_an_event_each_and_stays_with_the_task(tmp_path: Path) -> None:
    handlers: dict[str, Handler] = {}
    async with Kitchen(tmp_path / "d.db", handlers) as kitchen:
        handlers["noop"] = noop_handler(kitchen.clock)
        kitchen.start()
        made = await kitchen.submit(noop(payload={"progress": [{"done": 1}, {"done": 2}]}))
        done = await kitchen.finished(made.id)
        assert done.progress == {"done": 2}
        told = [one for one in await kitchen.events(made.id) if one.event_type == "task.progress"]
        assert [one.payload for one in told] == [{"progress": {"done": 1}}, {"progress": {"done": 2}}]
        assert all(one.run_id is not None and one.state_to is None for one in told)


async def rest(kitchen: Kitchen, count: int, **fields: Any) -> list[str]:
    """So many tasks that have failed for good."""
    made = await kitchen.queue.submit_many([noop(**fields)] * count)
    for _ in range(count):
        (begun,) = await kitchen.queue.claim("default", 1)
        await kitchen.queue.finish(begun.stored, Failed("E", "x", permanent=True))
    return [one.task.id for one in made]


@pytest.mark.spec("GC-QUE-417")
async def test_all_that_match_are_put_back_the_oldest_first_a_hundred_in_a_commit(tmp_path: Path) -> None:
    async with Kitchen(tmp_path / "d.db", {}) as kitchen:
        made = await rest(kitchen, 2 * REDRIVE_BATCH + 1)
        one_more = await kitchen.submit(noop(unique_key="u"))
        commits = kitchen.database.commits
        done = await kitchen.queue.redrive_all(TaskFilter(kind="noop"))
        assert (done.count, done.skipped, done.refused) == (len(made), 0, ())
        assert kitchen.database.commits - commits == 3
        again = [
            event.task_id
            for event in await kitchen.database.read(events.read_after, 0, 100_000)
            if event.event_type == "task.requeued"
        ]
        assert again == made
        assert (await kitchen.get(one_more.id)).state == "QUEUED"
        assert (await kitchen.queue.redrive_all(TaskFilter(kind="noop"))).count == 0, "nothing rests any more"


@pytest.mark.spec("GC-QUE-417")
async def test_filters_choose_and_what_cannot_be_put_back_is_told(tmp_path: Path) -> None:
    async with Kitchen(tmp_path / "d.db", {}) as kitchen:
        (old,) = await rest(kitchen, 1, unique_key="u")
        kitchen.clock.advance(1_000)
        since = kitchen.clock.wall()
        (late,) = await rest(kitchen, 1)
        twin = await kitchen.submit(noop(unique_key="u"))
        canceled = await kitchen.submit(noop())
        await kitchen.queue.cancel(canceled.id, None)
        assert (await kitchen.queue.redrive_all(TaskFilter(state=TaskState.DEAD_LETTER))).count == 0
        assert (await kitchen.queue.redrive_all(TaskFilter(agent_id="other"))).count == 0
        done = await kitchen.queue.redrive_all(TaskFilter(state=TaskState.FAILED, since=since))
        assert (done.count, done.skipped) == (1, 0)
        assert (await kitchen.get(late)).state == "QUEUED"
        done = await kitchen.queue.redrive_all(TaskFilter(kind="noop"))
        assert (done.count, done.skipped) == (1, 1)
        assert [(one.task_id, one.code) for one in done.refused] == [(old, "CONFLICT")]
        assert twin.id in done.refused[0].message


@pytest.mark.spec("GC-QUE-417")
async def test_named_tasks_are_put_back_as_far_as_they_can_be(tmp_path: Path) -> None:
    async with Kitchen(tmp_path / "d.db", {}) as kitchen:
        (failed,) = await rest(kitchen, 1)
        queued = await kitchen.submit(noop())
        done = await kitchen.queue.redrive_listed([failed, queued.id, "nobody", failed])
        assert (done.count, done.skipped) == (1, 3)
        assert [(one.task_id, one.code) for one in done.refused] == [
            (queued.id, "CONFLICT"),
            ("nobody", "NOT_FOUND"),
            (failed, "CONFLICT"),
        ]


@pytest.mark.spec("GC-QUE-417")
async def test_other_work_goes_on_between_the_batches(tmp_path: Path) -> None:
    async with Kitchen(tmp_path / "d.db", {}) as kitchen:
        await rest(kitchen, 3 * REDRIVE_BATCH)
        all_back = asyncio.ensure_future(kitchen.queue.redrive_all(TaskFilter(kind="noop")))
        stored = await kitchen.submit(noop(idempotency_key="between"))
        assert stored.state == "QUEUED"
        assert not all_back.done()
        assert (await all_back).count == 3 * REDRIVE_BATCH


@pytest.mark.spec("GC-QUE-417")
def test_turns_that_are_put_back_keep_their_order(conn: sqlite3.Connection) -> None:
    for name in ("one", "two"):
        submit(conn, name, chat("s"))
        (begun,) = claim(conn)
        finish(conn, begun, Failed("E", "x", permanent=True))
    commit(conn, upkeep.redrive_each, ["one", "two"], START)
    assert why(conn, "one", "two") == ["ready", "session"]
