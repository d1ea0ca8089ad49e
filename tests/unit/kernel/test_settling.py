"""Ends that come together: settled in one commit, each for itself."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from typing import Any

import pytest

from goclaw.core.outcome import Canceled, Failed, HandedBack, Succeeded
from goclaw.errors import StoreError
from goclaw.kernel import upkeep
from goclaw.store import events, verify
from tests.fakes_clock import START
from tests.scratch import HOLDER, commit
from tests.unit.kernel.lines import cancel, chat, claim, ended, finish, ids, settle, story, submit, task, why

NARROW = replace(HOLDER, lanes={"default": 2, "other": 1})


def flood(conn: sqlite3.Connection, names: str, **fields: Any) -> None:
    for name in names:
        submit(conn, name, **fields)


def following(settled: list[Any]) -> list[str | None]:
    return [one.following.task.id if one.following else None for one in settled]


@pytest.mark.spec("GC-QUE-416")
def test_ends_of_every_sort_are_settled_together_in_their_order(conn: sqlite3.Connection) -> None:
    flood(conn, "abcd")
    submit(conn, "turn", chat("s"))
    submit(conn, "turn2", chat("s"))
    submit(conn, "named", concurrency_key="n")
    submit(conn, "named2", concurrency_key="n")
    a, b, c, d, turn, named = sorted(claim(conn), key=lambda one: one.task.key)
    done = settle(
        conn,
        ended(a, Succeeded({"n": 1}, usage={"tokens": 3})),
        ended(b, Failed("E", "x")),
        ended(turn),
        ended(c, Canceled()),
        ended(named),
        ended(d, HandedBack()),
    )
    assert [one.task.id for one in done] == ["a", "b", "turn", "c", "named", "d"]
    assert [one.task.state for one in done] == [
        "SUCCEEDED", "RETRY_WAIT", "SUCCEEDED", "CANCELED", "SUCCEEDED", "QUEUED",
    ]  # fmt: skip
    assert why(conn, "turn2", "named2") == ["ready", "ready"]
    assert [one.task for one in done] == [task(conn, one.task.id) for one in done], "what is told is what is stored"
    assert verify.verify(conn).findings == ()


@pytest.mark.spec("GC-QUE-416")
def test_a_stale_end_among_good_ones_changes_nothing_and_stops_nobody(conn: sqlite3.Connection) -> None:
    flood(conn, "abc")
    a, b, c = claim(conn)
    finish(conn, b, Failed("E", "first", permanent=True))
    head = events.head(conn)
    done = settle(conn, ended(a), ended(b, Succeeded("late")), ended(c))
    assert [one.task.state for one in done] == ["SUCCEEDED", "FAILED", "SUCCEEDED"]
    assert (task(conn, "b").error, task(conn, "b").result) == ("first", None)
    assert events.head(conn) == head + 2


@pytest.mark.spec("GC-QUE-416")
def test_an_end_of_an_earlier_claim_of_the_same_task_is_stale_too(conn: sqlite3.Connection) -> None:
    flood(conn, "a")
    (early,) = claim(conn)
    commit(conn, upkeep.recover_all, "boot-2", START)
    (late,) = claim(conn)
    (done, again) = settle(conn, ended(early, Succeeded("old")), ended(late, Succeeded("new")))
    assert (done.task.state, again.task.state, task(conn, "a").result) == ("RUNNING", "SUCCEEDED", "new")


@pytest.mark.spec("GC-QUE-416")
def test_the_same_end_twice_counts_once(conn: sqlite3.Connection) -> None:
    flood(conn, "a")
    (begun,) = claim(conn)
    settle(conn, ended(begun, Succeeded(1)), ended(begun, Succeeded(1)))
    assert story(conn, "a").count("task.succeeded") == 1


@pytest.mark.spec("GC-QUE-416")
def test_a_success_that_was_asked_to_cancel_ends_by_the_rules_of_one_that_is_alone(conn: sqlite3.Connection) -> None:
    flood(conn, "abc")
    a, b, c = claim(conn)
    cancel(conn, "b")
    done = settle(conn, ended(a), ended(b, Succeeded("done anyway")), ended(c))
    assert [one.task.state for one in done] == ["SUCCEEDED"] * 3
    assert (task(conn, "b").result, task(conn, "b").cancel_requested) == ("done anyway", False)


@pytest.mark.spec("GC-QUE-416")
def test_every_agent_gets_the_next_of_its_own_as_far_as_its_lane_is_wide(conn: sqlite3.Connection) -> None:
    flood(conn, "abcdef")
    flood(conn, "xyz", agent_id="other")
    mine, theirs = claim(conn, limit=3), claim(conn, "other", limit=1)
    assert ids(mine) == ["a", "b", "c"]
    done = settle(
        conn,
        ended(mine[0], holder=NARROW),
        ended(theirs[0], holder=NARROW),
        ended(mine[1], Failed("E", "x"), holder=NARROW),
        ended(mine[2]),
    )
    assert following(done) == ["d", "y", "e", None]
    assert claim(conn, holder=NARROW) == [], "two of two"
    wide = replace(NARROW, lanes={"default": 3})
    assert ids(claim(conn, holder=wide)) == ["f"]
    assert claim(conn, "other", holder=wide) == [], "it is no agent any more"


@pytest.mark.spec("GC-QUE-409")
def test_a_lane_that_became_narrower_gives_nothing_out_until_it_has_room(conn: sqlite3.Connection) -> None:
    flood(conn, "abcdef")
    begun = claim(conn, limit=4)
    done = settle(conn, *(ended(one, holder=NARROW) for one in begun[:2]))
    assert following(done) == [None, None], "two still run"
    done = settle(conn, *(ended(one, holder=NARROW) for one in begun[2:]))
    assert following(done) == ["e", "f"]


@pytest.mark.spec("GC-QUE-409")
def test_a_lane_is_counted_from_the_rows_so_no_crash_can_narrow_it(conn: sqlite3.Connection) -> None:
    flood(conn, "abcd")
    assert len(claim(conn, holder=NARROW)) == 2
    assert claim(conn, holder=NARROW) == []
    commit(conn, upkeep.recover_all, "boot-2", START)
    assert len(claim(conn, holder=NARROW)) == 2


@pytest.mark.spec("GC-QUE-416")
@pytest.mark.parametrize("bad", [object(), "\ud800", {"a": float("nan")}], ids=["object", "surrogate", "nan"])
def test_a_result_that_is_no_json_fails_the_group_and_writes_nothing(conn: sqlite3.Connection, bad: Any) -> None:
    """The writer then carries each out alone, so that only the bad one is refused."""
    flood(conn, "ab")
    a, b = claim(conn)
    head = events.head(conn)
    with pytest.raises((TypeError, ValueError)):
        settle(conn, ended(a), ended(b, Succeeded(bad)))
    assert events.head(conn) == head
    assert why(conn, "a", "b") == ["RUNNING", "RUNNING"]
    settle(conn, ended(a))
    assert why(conn, "a", "b") == ["SUCCEEDED", "RUNNING"]
    assert not issubclass(TypeError, StoreError)
