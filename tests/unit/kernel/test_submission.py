"""Taking work in: unique keys, several at once, and refusals that leave nothing behind."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from goclaw.core.outcome import Failed, Snoozed, Succeeded
from goclaw.core.task import NewTask
from goclaw.errors import BadRequest, Conflict, GoclawError, NotFound, Saturated, TooLarge
from goclaw.kernel import submission, upkeep
from goclaw.kernel.submission import Wish, as_wish
from goclaw.store import events, tasks
from goclaw.store.tasks import TaskFilter
from tests.fakes_clock import START
from tests.kitchen import Kitchen, agent
from tests.scratch import BOUNDS, commit, noop
from tests.unit.kernel.lines import chat, claim, finish, share, submit, task, timers, why, wish

NARROW = {"default": 2, "other": 1_000}


def narrow(task_id: str, **fields: Any) -> Wish:
    return as_wish(noop(**({"agent_id": "default"} | fields)), task_id, NARROW, START)


def head_and_rows(conn: sqlite3.Connection) -> tuple[int, int, int]:
    rows = conn.execute("SELECT (SELECT count(*) FROM task), (SELECT sum(queued) FROM queue_depth)").fetchone()
    return events.head(conn), rows[0], rows[1] or 0


@pytest.mark.spec("GC-QUE-410")
def test_a_unique_key_names_one_unfinished_task_in_every_state(conn: sqlite3.Connection) -> None:
    submit(conn, "a", unique_key="nightly", max_attempts=2)
    assert submit(conn, "b", unique_key="nightly", payload={"result": 1}).id == "a", "another request too"
    (begun,) = claim(conn)
    assert submit(conn, "b", unique_key="nightly").id == "a"
    finish(conn, begun, Failed("E", "x"))
    assert submit(conn, "b", unique_key="nightly").id == "a"
    timers(conn, 60_000)
    (begun,) = claim(conn, now=60_000)
    finish(conn, begun, Failed("E", "y"), now=60_000)
    assert task(conn, "a").state == "DEAD_LETTER"
    assert submit(conn, "b", unique_key="nightly").id == "b", "it is free after the end"
    assert tasks.by_id(conn, "c") is None


@pytest.mark.spec("GC-QUE-410")
def test_a_redrive_beside_a_task_with_the_same_unique_key_is_a_conflict(conn: sqlite3.Connection) -> None:
    submit(conn, "a", unique_key="nightly")
    (begun,) = claim(conn)
    finish(conn, begun, Failed("E", "x", permanent=True))
    submit(conn, "b", unique_key="nightly")
    before = head_and_rows(conn)
    with pytest.raises(Conflict) as refused:
        commit(conn, upkeep.ask_redrive, "a", START)
    assert refused.value.data["task_id"] == "b"
    assert head_and_rows(conn) == before
    (begun,) = claim(conn)
    finish(conn, begun)
    commit(conn, upkeep.ask_redrive, "a", START)
    assert submit(conn, "c", unique_key="nightly").id == "a"


@pytest.mark.spec("GC-QUE-410")
def test_several_with_one_unique_key_in_one_commit_are_one_task(conn: sqlite3.Connection) -> None:
    done = commit(conn, submission.submit_many, [(noop(unique_key="n"), name) for name in ("a", "b")], BOUNDS, START)
    assert [(one.task.id, one.known) for one in done] == [("a", False), ("a", True)]
    assert share(conn, wish("c", unique_key="n"), wish("d"), wish("e", unique_key="m"), wish("f", unique_key="m")) == [
        "a", "d", "e", "e",
    ]  # fmt: skip


@pytest.mark.spec("GC-QUE-410")
def test_an_idempotency_key_goes_before_a_unique_key(conn: sqlite3.Connection) -> None:
    submit(conn, "a", idempotency_key="i", unique_key="u")
    submit(conn, "b", unique_key="v")
    assert submit(conn, "c", idempotency_key="i", unique_key="u").id == "a"
    with pytest.raises(Conflict):
        submit(conn, "c", idempotency_key="i", unique_key="v")
    (begun, _) = claim(conn)
    finish(conn, begun)
    assert submit(conn, "c", idempotency_key="i", unique_key="u").id == "a", "kept as long as the task"
    assert submit(conn, "c", idempotency_key="j", unique_key="u").id == "c"


@pytest.mark.spec("GC-QUE-410")
async def test_of_many_at_once_with_one_unique_key_one_is_stored(tmp_path: Path) -> None:
    async with Kitchen(tmp_path / "d.db", {}) as kitchen:
        done = await asyncio.gather(*(kitchen.queue.submit(noop(unique_key="k")) for _ in range(50)))
        assert len({one.task.id for one in done}) == 1
        assert sum(not one.known for one in done) == 1


@pytest.mark.spec("GC-QUE-415")
def test_what_comes_together_is_stored_in_its_order_whatever_it_needs(conn: sqlite3.Connection) -> None:
    made = share(
        conn,
        wish("p1"),
        wish("p2", priority=3),
        wish("key", idempotency_key="k"),
        wish("p3", agent_id="other"),
        wish("turn", chat("s")),
        wish("child", parent_task_id="p1"),
        wish("name", concurrency_key="n"),
        wish("p4", delay_ms=5),
    )
    assert made == ["p1", "p2", "key", "p3", "turn", "child", "name", "p4"]
    told = events.read_after(conn, 0)
    enqueued = [one.task_id for one in told if one.event_type == "task.enqueued"]
    assert enqueued == made
    assert [one.event_id for one in told] == list(range(1, len(told) + 1))
    assert [task(conn, name).key for name in made] == list(range(1, 9))
    assert head_and_rows(conn)[1:] == (8, 8)


@pytest.mark.spec("GC-QUE-415")
def test_a_refusal_among_others_is_a_value_and_leaves_nothing(conn: sqlite3.Connection) -> None:
    share(conn, wish("known", idempotency_key="k"))
    before = head_and_rows(conn)
    done = share(
        conn,
        wish("a"),
        wish("bad-agent", agent_id="nobody"),
        wish("reused", idempotency_key="k", priority=1),
        wish("orphan", parent_task_id="nobody"),
        wish("b"),
    )
    assert [type(one) if isinstance(one, GoclawError) else one for one in done] == [
        "a", NotFound, Conflict, NotFound, "b",
    ]  # fmt: skip
    assert head_and_rows(conn) == tuple(number + 2 for number in before)
    assert conn.execute("SELECT count(*) FROM session").fetchone()[0] == 0


@pytest.mark.spec("GC-QUE-415")
def test_a_turn_that_is_refused_leaves_no_session_behind(conn: sqlite3.Connection) -> None:
    submit(conn, "owner", chat("mine"))
    before = conn.execute("SELECT count(*) FROM session").fetchone()[0]
    child = NewTask(kind="chat", payload={"content": "x"}, session_id="mine", parent_task_id="owner")
    (refused,) = share(conn, wish("child", child))
    assert isinstance(refused, Conflict)
    (refused,) = share(conn, wish("lost", NewTask(kind="chat", payload={"content": "x"}, agent_id="nobody")))
    assert isinstance(refused, NotFound)
    assert conn.execute("SELECT count(*) FROM session").fetchone()[0] == before


@pytest.mark.spec("GC-QUE-415")
def test_one_key_twice_in_one_group_is_one_task(conn: sqlite3.Connection) -> None:
    done = commit(
        conn,
        submission.submit_shared,
        [wish("a", idempotency_key="k"), wish("p"), wish("b", idempotency_key="k"), wish("c", idempotency_key="k")],
    )
    assert [(one.task.id, one.known) for one in done] == [("a", False), ("p", False), ("a", True), ("a", True)]  # type: ignore[union-attr]


@pytest.mark.spec("GC-QUE-418")
def test_a_queue_that_fills_up_within_a_group_refuses_the_rest_of_its_agent_only(conn: sqlite3.Connection) -> None:
    done = share(
        conn,
        narrow("a"),
        narrow("o1", agent_id="other"),
        narrow("b"),
        narrow("c"),
        narrow("o2", agent_id="other"),
        narrow("d", idempotency_key="k"),
        narrow("child", parent_task_id="a"),
    )
    assert [one if isinstance(one, str) else type(one) for one in done] == [
        "a", "o1", "b", Saturated, "o2", Saturated, "child",
    ]  # fmt: skip
    refused = done[3]
    assert refused.retryable
    assert refused.data == {"agent_id": "default", "limit": 2, "retry_after_ms": submission.RETRY_AFTER_MS}
    assert head_and_rows(conn) == (5, 5, 5)


@pytest.mark.spec("GC-QUE-418")
def test_a_full_queue_still_answers_for_what_it_knows(conn: sqlite3.Connection) -> None:
    share(conn, narrow("a", idempotency_key="k"), narrow("b", unique_key="u"))
    assert share(conn, narrow("c", idempotency_key="k"), narrow("d", unique_key="u")) == ["a", "b"]
    (refused,) = share(conn, narrow("e"))
    assert isinstance(refused, Saturated)


@pytest.mark.spec("GC-QUE-415")
def test_of_many_together_all_are_stored_or_none_and_the_wrong_one_is_numbered(conn: sqlite3.Connection) -> None:
    before = head_and_rows(conn)
    cases: list[tuple[list[NewTask], type[GoclawError], dict[str, int]]] = [
        ([noop(), noop(delay_ms=-1)], BadRequest, BOUNDS),
        ([noop(agent_id="default")] * 1 + [noop(agent_id="nobody")], NotFound, BOUNDS),
        ([noop(idempotency_key="k"), noop(idempotency_key="k", priority=1)], Conflict, BOUNDS),
        ([noop(agent_id="other"), noop(agent_id="default")], Saturated, {"default": 0, "other": 9}),
        ([noop(), noop(payload={"result": "x" * 1_048_577})], TooLarge, BOUNDS),
    ]
    for news, kind, bounds in cases:
        with pytest.raises(kind) as refused:
            commit(conn, submission.submit_many, [(new, str(n)) for n, new in enumerate(news)], bounds, START)
        assert refused.value.data["index"] == 1
        assert head_and_rows(conn) == before


@pytest.mark.spec("GC-QUE-422")
@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        ({"delay_ms": -1}, BadRequest),
        ({"deadline_ms": 0}, BadRequest),
        ({"priority": 11}, BadRequest),
        ({"max_attempts": 0}, BadRequest),
        ({"concurrency_key": ""}, BadRequest),
        ({"unique_key": ""}, BadRequest),
        ({"idempotency_key": ""}, BadRequest),
        ({"unique_key": "x" * 256}, BadRequest),
        ({"payload": {"result": "x" * 1_048_577}}, TooLarge),
        ({"payload": {"sleep": 1}}, BadRequest),
        ({"session_id": "a b"}, BadRequest),
        ({"agent_id": "nobody"}, NotFound),
        ({"parent_task_id": "nobody"}, NotFound),
        ({"idempotency_key": "used"}, Conflict),
    ],
    ids=str,
)
async def test_a_bad_submission_is_refused_by_name_and_writes_nothing(
    tmp_path: Path, bad: dict[str, Any], kind: type[GoclawError]
) -> None:
    async with Kitchen(tmp_path / "d.db", {}) as kitchen:
        await kitchen.submit(noop(idempotency_key="used", priority=1))
        head, rows = await kitchen.queue.head(), len(await kitchen.queue.page(TaskFilter(), 99, None))
        for ask in (kitchen.queue.submit(noop(**bad)), kitchen.queue.submit_many([noop(), noop(**bad)])):
            with pytest.raises(kind) as refused:
                await ask
            assert refused.value.message
        assert await kitchen.queue.head() == head
        assert len(await kitchen.queue.page(TaskFilter(), 99, None)) == rows
        with pytest.raises(BadRequest, match="unknown kind"):
            await kitchen.queue.submit(NewTask(kind="no-such-kind", payload={}))


@pytest.mark.spec("GC-QUE-418")
async def test_a_full_queue_takes_work_again_as_soon_as_one_leaves(tmp_path: Path) -> None:
    async with Kitchen(tmp_path / "d.db", {}, agent("default", depth=1)) as kitchen:
        await kitchen.submit(noop())
        with pytest.raises(Saturated):
            await kitchen.submit(noop())
        (begun,) = await kitchen.queue.claim("default", 1)
        await kitchen.submit(noop())
        with pytest.raises(Saturated):
            await kitchen.submit(noop())
        await kitchen.queue.finish(begun.stored, Snoozed(5_000))
        assert (await kitchen.get(begun.task.id)).wait_reason == "delay", "what is known is let back in"


def test_a_delayed_task_with_a_name_says_why_it_waits(conn: sqlite3.Connection) -> None:
    submit(conn, "a", delay_ms=1, concurrency_key="n", unique_key="u")
    assert why(conn, "a") == ["delay"]
    assert (task(conn, "a").concurrency_key, task(conn, "a").unique_key) == ("n", "u")
    (begun,) = (timers(conn, 1), claim(conn, now=1))[1]
    finish(conn, begun, Succeeded(), now=1)
