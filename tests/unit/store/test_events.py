"""The event log: numbered, read by cursor, held together by a chain."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from goclaw.core.event import NewEvent
from goclaw.kernel import submission
from goclaw.store import events, sessions
from goclaw.store.chains import first_break
from tests.fakes_clock import START
from tests.scratch import BOUNDS, commit, noop, scratch, tell


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    conn = scratch(tmp_path / "d.db")
    yield conn
    conn.close()


@pytest.mark.spec("GC-DATA-108")
def test_ids_are_consecutive_and_begin_at_one(conn: sqlite3.Connection) -> None:
    assert (events.head(conn), events.oldest(conn)) == (0, 0)
    assert commit(conn, events.append, [NewEvent(type="a"), NewEvent(type="b")], START) == 2
    assert commit(conn, events.append, [NewEvent(type="c")], START) == 3
    assert [(event.event_id, event.event_type) for event in events.read_after(conn, 0)] == [
        (1, "a"),
        (2, "b"),
        (3, "c"),
    ]
    assert (events.head(conn), events.oldest(conn)) == (3, 1)


def test_nothing_appended_is_nothing_changed(conn: sqlite3.Connection) -> None:
    tell(conn, 2)
    assert commit(conn, events.append, [], START) == 2


def test_an_id_of_an_undone_commit_is_given_to_the_next(conn: sqlite3.Connection) -> None:
    conn.execute("BEGIN IMMEDIATE")
    assert events.append(conn, [NewEvent(type="a")], START) == 1
    conn.execute("ROLLBACK")
    assert commit(conn, events.append, [NewEvent(type="b")], START) == 1
    assert first_break(conn) is None


def test_a_page_ends_at_its_limit_and_the_next_goes_on(conn: sqlite3.Connection) -> None:
    tell(conn, 25)
    seen: list[int] = []
    while page := events.read_after(conn, seen[-1] if seen else 0, 10):
        seen += [event.event_id for event in page]
    assert seen == list(range(1, 26))


def test_an_event_is_shown_with_the_names_of_its_task_and_session(conn: sqlite3.Connection) -> None:
    task = commit(conn, submission.submit, noop(session_id="s"), "0199-t", BOUNDS, START).task
    started, enqueued = events.read_after(conn, 0)
    assert (started.event_type, started.session_id, started.task_id) == ("session.started", "s", None)
    assert (enqueued.task_id, enqueued.session_id, enqueued.trace_id) == (task.id, "s", "0199t")
    assert (enqueued.state_from, enqueued.state_to, enqueued.run_id) == (None, "QUEUED", None)
    assert enqueued.payload == {"kind": "noop", "agent_id": "default"}
    assert enqueued.created_at == START


def test_a_session_and_a_task_have_their_own_pages(conn: sqlite3.Connection) -> None:
    for n, session in enumerate(["s", "t", "s"]):
        commit(conn, submission.submit, noop(session_id=session), f"task-{n}", BOUNDS, START)
    of_s = events.read_session(conn, "s", 0)
    assert [event.session_id for event in of_s] == ["s"] * 3
    assert events.read_session(conn, "s", of_s[1].event_id) == of_s[2:]
    assert events.read_session(conn, "s", 0, 1) == of_s[:1]
    assert [event.event_type for event in events.read_task(conn, "task-2", 0)] == ["task.enqueued"]
    assert events.read_task(conn, "task-9", 0) == events.read_session(conn, "nobody", 0) == []
    assert events.read_session_to_head(conn, "t", 0, 10) == (events.read_session(conn, "t", 0), 5)


def test_a_session_without_a_task_has_events_too(conn: sqlite3.Connection) -> None:
    session = commit(conn, sessions.ensure, "s", "default", START)
    commit(conn, sessions.end, session, START + 1)
    assert [event.event_type for event in events.read_session(conn, "s", 0)] == ["session.started", "session.ended"]
