"""Names that bound how many tasks run at once: counted from the rows, so nothing can leak."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goclaw.core.outcome import Canceled, Failed, HandedBack, Outcome, Snoozed, Succeeded
from goclaw.kernel import upkeep
from goclaw.kernel.suspects import hold_suspects
from goclaw.store import concurrency
from tests.fakes_clock import START
from tests.scratch import commit, scratch
from tests.unit.kernel.lines import cancel, chat, claim, finish, ids, limits, submit, task, timers, why


def named(conn: sqlite3.Connection, *task_ids: str, **fields: Any) -> None:
    for task_id in task_ids:
        submit(conn, task_id, concurrency_key="deploy", **fields)


@pytest.mark.spec("GC-QUE-401")
@pytest.mark.parametrize("most", [1, 3])
def test_of_one_name_as_many_run_at_once_as_its_limit_says_one_without_a_limit(
    conn: sqlite3.Connection, most: int
) -> None:
    if most > 1:
        limits(conn, deploy=most)
    named(conn, *"abcdef"[: 2 * most])
    submit(conn, "free")
    first = claim(conn)
    assert ids(first) == [*"abcdef"[:most], "free"]
    assert why(conn, "abcdef"[most]) == ["concurrency"]
    assert claim(conn) == []
    for begun in first[:most]:
        assert finish(conn, begun) == {"default"}
        assert len(claim(conn)) == 1, "one leaves, one comes in"


@pytest.mark.spec("GC-QUE-401")
@pytest.mark.parametrize(
    "outcome",
    [Failed("E", "x"), Failed("E", "x", permanent=True), Canceled(), Snoozed(5_000), Succeeded()],
    ids=["retry", "failed", "canceled", "snoozed", "succeeded"],
)
def test_whoever_does_not_run_any_more_has_left_the_name(conn: sqlite3.Connection, outcome: Outcome) -> None:
    named(conn, "a", "b")
    (begun,) = claim(conn)
    finish(conn, begun, outcome)
    assert ids(claim(conn)) == ["b"]


@pytest.mark.spec("GC-QUE-401")
def test_a_wait_between_two_attempts_frees_the_name_and_lines_up_again(conn: sqlite3.Connection) -> None:
    named(conn, "a", "b", "c")
    (begun,) = claim(conn)
    finish(conn, begun, Failed("E", "x"))
    (second,) = claim(conn)
    timers(conn, 1_000)
    assert why(conn, "a", "b", "c") == ["concurrency", "RUNNING", "concurrency"]
    finish(conn, second, now=1_000)
    assert ids(claim(conn, now=1_000)) == ["a"], "it is older than c"


@pytest.mark.spec("GC-QUE-402")
def test_a_better_rank_takes_the_place_of_a_worse_one_that_does_not_run_yet(conn: sqlite3.Connection) -> None:
    named(conn, "a", "b")
    named(conn, "urgent", priority=10)
    assert why(conn, "a", "b", "urgent") == ["concurrency", "concurrency", "ready"]
    named(conn, "later", priority=-1)
    (begun,) = claim(conn)
    assert begun.task.id == "urgent"
    named(conn, "more-urgent", priority=10)
    assert why(conn, "more-urgent") == ["concurrency"], "who runs is not interrupted"
    order = []
    while True:
        order.append(begun.task.id)
        finish(conn, begun)
        following = claim(conn)
        if not following:
            break
        (begun,) = following
    assert order == ["urgent", "more-urgent", "a", "b", "later"]


@pytest.mark.spec("GC-QUE-402")
def test_equal_ranks_go_in_the_order_of_submission(conn: sqlite3.Connection) -> None:
    limits(conn, deploy=2)
    named(conn, *"abcd")
    limits(conn, deploy=1)
    assert why(conn, *"abcd") == ["ready", "concurrency", "concurrency", "concurrency"]
    limits(conn, deploy=3)
    assert why(conn, *"abcd") == ["ready", "ready", "ready", "concurrency"]


@pytest.mark.spec("GC-QUE-403")
def test_a_turn_needs_its_session_and_its_name(conn: sqlite3.Connection) -> None:
    submit(conn, "s1", chat("s", concurrency_key="model"))
    submit(conn, "s2", chat("s", concurrency_key="model"))
    submit(conn, "t1", chat("t", concurrency_key="model"))
    assert why(conn, "s1", "s2", "t1") == ["ready", "session", "concurrency"]
    (begun,) = claim(conn)
    finish(conn, begun)
    assert why(conn, "s2", "t1") == ["ready", "concurrency"], "s2 is older and its session is free now"
    (begun,) = claim(conn)
    assert begun.task.id == "s2"
    assert finish(conn, begun) == {"default"}
    assert ids(claim(conn)) == ["t1"]


@pytest.mark.spec("GC-QUE-403")
def test_a_head_that_waits_for_its_name_holds_its_session(conn: sqlite3.Connection) -> None:
    named(conn, "other")
    submit(conn, "s1", chat("s", concurrency_key="deploy"))
    submit(conn, "s2", chat("s"))
    assert why(conn, "s1", "s2") == ["concurrency", "session"]
    (begun,) = claim(conn)
    finish(conn, begun)
    assert ids(claim(conn)) == ["s1"]


@pytest.mark.spec("GC-QUE-403")
def test_a_delayed_task_takes_no_room_until_its_delay_is_over(conn: sqlite3.Connection) -> None:
    named(conn, "delayed", delay_ms=100)
    named(conn, "a", "b")
    assert why(conn, "delayed", "a", "b") == ["delay", "ready", "concurrency"]
    (begun,) = claim(conn)
    timers(conn, 100)
    assert why(conn, "delayed") == ["concurrency"]
    finish(conn, begun, now=100)
    assert ids(claim(conn, now=100)) == ["b"]


@pytest.mark.spec("GC-QUE-403")
def test_a_redriven_task_lines_up_for_its_name(conn: sqlite3.Connection) -> None:
    named(conn, "a")
    (begun,) = claim(conn)
    finish(conn, begun, Failed("E", "x", permanent=True))
    named(conn, "b")
    _, ready = commit(conn, upkeep.ask_redrive, "a", START + 1)
    assert (ready, why(conn, "a", "b")) == (frozenset(), ["concurrency", "ready"])


@pytest.mark.spec("GC-QUE-404")
def test_a_cancel_of_whoever_has_the_room_lets_the_next_one_in(conn: sqlite3.Connection) -> None:
    named(conn, *"abcd")
    assert cancel(conn, "a").ready == {"default"}
    assert cancel(conn, "c").ready == frozenset(), "it only waited"
    (begun,) = claim(conn)
    assert begun.task.id == "b"
    assert cancel(conn, "b").held == (begun.task.key,)
    assert why(conn, "d") == ["concurrency"], "until its handler has ended"
    assert finish(conn, begun, Canceled()) == {"default"}
    assert ids(claim(conn)) == ["d"]


@pytest.mark.spec("GC-QUE-404")
def test_a_deadline_that_passes_in_the_line_lets_nobody_in_and_one_at_its_head_does(conn: sqlite3.Connection) -> None:
    submit(conn, "head", concurrency_key="deploy", deadline_ms=100)
    submit(conn, "second", concurrency_key="deploy", deadline_ms=50)
    named(conn, "third")
    assert timers(conn, 50).ready == frozenset()
    assert timers(conn, 100).ready == {"default"}
    assert why(conn, "head", "second", "third") == ["CANCELED", "CANCELED", "ready"]


@pytest.mark.spec("GC-QUE-404")
def test_a_crash_leaks_nothing_of_a_name(conn: sqlite3.Connection) -> None:
    limits(conn, deploy=2)
    named(conn, *"abc")
    assert ids(claim(conn)) == ["a", "b"]
    commit(conn, upkeep.recover_all, "boot-2", START)
    assert why(conn, *"abc") == ["ready", "ready", "concurrency"]
    assert ids(claim(conn)) == ["a", "b"]
    assert concurrency.room(conn, "deploy") == 0


@pytest.mark.spec("GC-QUE-404")
def test_a_limit_that_was_lowered_while_tasks_ran_holds_after_a_crash_and_a_drain(conn: sqlite3.Connection) -> None:
    limits(conn, deploy=3)
    named(conn, *"abc")
    begun = claim(conn)
    limits(conn, deploy=1)
    assert why(conn, *"abc") == ["RUNNING"] * 3, "who runs is left alone"
    finish(conn, begun[0], HandedBack())
    assert why(conn, "a") == ["concurrency"]
    commit(conn, upkeep.recover_all, "boot-2", START)
    assert ids(claim(conn)) == ["a"]


@pytest.mark.spec("GC-QUE-404")
def test_whoever_is_held_back_after_deaths_leaves_its_name(conn: sqlite3.Connection) -> None:
    named(conn, "a", "b")
    claim(conn)
    commit(conn, upkeep.recover_all, "boot-2", START)
    assert why(conn, "a", "b") == ["ready", "concurrency"]
    commit(conn, hold_suspects, START + 60_000, START)
    assert why(conn, "a", "b") == ["delay", "ready"]


@pytest.mark.spec("GC-QUE-405")
def test_a_limit_can_be_raised_and_lowered_while_it_is_used(conn: sqlite3.Connection) -> None:
    named(conn, *"abcde")
    assert limits(conn, deploy=3) == {"default"}
    assert why(conn, *"abcde") == ["ready"] * 3 + ["concurrency"] * 2
    (begun, *_) = claim(conn, limit=1)
    assert limits(conn, deploy=2) == frozenset()
    assert why(conn, *"abcde") == ["RUNNING", "ready"] + ["concurrency"] * 3
    assert limits(conn) == frozenset(), "without a limit it is one"
    assert why(conn, *"abcde") == ["RUNNING"] + ["concurrency"] * 4
    assert finish(conn, begun) == {"default"}
    assert ids(claim(conn)) == ["b"]


@pytest.mark.spec("GC-QUE-405")
def test_limits_that_stay_as_they_are_write_nothing(conn: sqlite3.Connection) -> None:
    given = {("default", "noop"): 5}
    commit(conn, upkeep.set_limits, {"deploy": 2}, given)
    before = conn.total_changes
    commit(conn, upkeep.set_limits, {"deploy": 2}, given)
    assert conn.total_changes == before


@pytest.mark.spec("GC-QUE-423")
def test_the_overview_of_names_counts_who_runs_who_may_and_who_waits(conn: sqlite3.Connection) -> None:
    limits(conn, deploy=2, idle=7)
    named(conn, *"abcd")
    submit(conn, "other", concurrency_key="build")
    claim(conn, limit=1)
    assert concurrency.overview(conn) == [
        concurrency.Name("build", 1, 0, 1, 0),
        concurrency.Name("deploy", 2, 1, 1, 2),
    ]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.sampled_from("xy"), st.integers(-2, 2)),
        st.tuples(st.just("claim"), st.just("x"), st.integers(1, 3)),
        st.tuples(st.just("end"), st.just("x"), st.integers(0, 4)),
        st.tuples(st.just("cancel"), st.just("x"), st.integers(0, 9)),
        st.tuples(st.just("limit"), st.sampled_from("xy"), st.integers(1, 3)),
        st.tuples(st.just("crash"), st.just("x"), st.just(0)),
        st.tuples(st.just("snooze"), st.just("x"), st.integers(0, 9)),
        st.tuples(st.just("timers"), st.just("x"), st.just(0)),
    ),
    max_size=25,
)
ENDS: Sequence[Outcome] = (Succeeded(), Failed("E", "x"), Canceled(), HandedBack(), Snoozed(1_000))


@pytest.mark.spec("GC-QUE-401")
@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_whatever_happens_no_room_is_lost_and_none_is_given_twice(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, int]]
) -> None:
    conn = scratch(tmp_path_factory.mktemp("names") / "d.db")
    most = {"x": 1, "y": 1}
    now, made, boot = 0, 0, 1
    live = []
    for step, name, number in steps:
        now += 500
        if step == "submit":
            made += 1
            submit(conn, f"t{made}", now=now, concurrency_key=name, priority=number)
        elif step == "claim":
            live += claim(conn, limit=number, now=now)
        elif step == "end" and live:
            finish(conn, live.pop(0), ENDS[number], now)
        elif step == "cancel" and number < made:
            cancel(conn, f"t{number + 1}", now)
        elif step == "snooze" and number < made and task(conn, f"t{number + 1}").state == "QUEUED":
            commit(conn, upkeep.ask_snooze, f"t{number + 1}", 700, START + now)
        elif step == "limit":
            most[name] = number
            limits(conn, **most)
        elif step == "crash":
            boot, live = boot + 1, []
            commit(conn, upkeep.recover_all, f"boot-{boot}", START + now)
        elif step == "timers":
            timers(conn, now)
        _nothing_is_lost(conn, most)
    conn.close()


def _nothing_is_lost(conn: sqlite3.Connection, most: dict[str, int]) -> None:
    """Nobody waits beside free room; nobody who may be claimed ranks behind one who waits."""
    for name, limit in most.items():
        rows = conn.execute(
            "SELECT wait_reason IS NULL, lease_token IS NOT NULL, rank, key, deaths >= 2 FROM task"
            " WHERE concurrency_key = ? AND finished_at IS NULL"
            " AND coalesce(wait_reason, 'concurrency') = 'concurrency'",
            (name,),
        ).fetchall()
        running = [row for row in rows if row[1]]
        ready = [(row[2], row[3]) for row in rows if row[0] and not row[1] and not row[4]]
        waiting = [(row[2], row[3]) for row in rows if not row[0] and not row[4]]
        inside = sum(1 for row in rows if row[0])
        assert inside <= max(limit, len(running))
        assert not (waiting and inside < limit)
        if ready and waiting:
            assert max(ready) < min(waiting)
