"""What may go and what stays, row by row."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from goclaw.store import audit, chains, events, removed, retention
from goclaw.store.retention import Due
from tests.fakes_clock import START
from tests.fakes_rows import DAY, Rows
from tests.scratch import commit, scratch

OLD = START - 100 * DAY
BEFORE = START - 90 * DAY


@pytest.fixture
def rows(tmp_path: Path) -> Iterator[Rows]:
    with closing(scratch(tmp_path / "d.db")) as conn:
        yield Rows(conn, START)


def remove(rows: Rows, *, keep: int = 0, before: int = BEFORE) -> int:
    """One whole pass over the tasks; how many went."""
    due, below = retention.bounds(rows.conn, "task", before, keep)
    went = 0
    while keys := retention.due_tasks(rows.conn, due, below, 3):
        below = keys[-1]
        while keys:
            done = commit(rows.conn, retention.remove_tasks, keys, due, START)
            keys, went = keys[done.looked :], went + done.tasks
    return went


def whole(conn: sqlite3.Connection) -> None:
    assert chains.first_break(conn) is None
    assert conn.execute("PRAGMA foreign_key_check").fetchall() == []


@pytest.mark.spec("GC-DATA-301")
def test_an_old_task_that_is_over_goes_with_all_that_is_its_own(rows: Rows) -> None:
    session = rows.session("s", at=OLD)
    rows.task(at=OLD, session=session, text="old")
    young = rows.task(text="young")
    assert remove(rows) == 1
    assert [row["key"] for row in rows.conn.execute("SELECT key FROM task")] == [young]
    assert [rows.count(name) for name in ("task_input", "step")] == [1, 1]
    assert rows.conn.execute("SELECT count(*) FROM event WHERE task_key <> ?", (young,)).fetchone()[0] == 0
    whole(rows.conn)


@pytest.mark.spec("GC-DATA-301")
def test_what_was_said_stays_with_its_session(rows: Rows) -> None:
    session = rows.session("s", at=OLD)
    rows.task(at=OLD, session=session, text="hello")
    rows.event()
    remove(rows)
    assert [tuple(row) for row in rows.conn.execute("SELECT text, task_key FROM message")] == [("hello", None)]


@pytest.mark.spec("GC-DATA-301")
@pytest.mark.parametrize("state", ["QUEUED", "FAILED", "DEAD_LETTER", "CANCELED", "SUCCEEDED"])
def test_a_task_that_is_not_over_stays_however_old(rows: Rows, state: str) -> None:
    rows.task(at=OLD, state=state)
    rows.event()
    assert remove(rows) == (state != "QUEUED")
    whole(rows.conn)


@pytest.mark.spec("GC-DATA-301")
def test_the_age_of_a_task_counts_from_its_end(rows: Rows) -> None:
    rows.task(at=OLD, finished_at=START)
    rows.event()
    assert remove(rows) == 0


@pytest.mark.spec("GC-DATA-302")
def test_a_parent_stays_while_a_child_is_kept_and_goes_in_the_same_pass_as_its_children(rows: Rows) -> None:
    parent = rows.task(at=OLD)
    rows.task(at=OLD, parent=parent)
    kept_parent = rows.task(at=OLD)
    child = rows.task(parent=kept_parent)
    rows.event()
    assert remove(rows) == 2
    assert [row["key"] for row in rows.conn.execute("SELECT key FROM task ORDER BY key")] == [kept_parent, child]
    whole(rows.conn)


@pytest.mark.spec("GC-DATA-303")
def test_of_too_many_tasks_the_newest_are_kept(rows: Rows) -> None:
    keys = [rows.task() for _ in range(10)]
    rows.event()
    assert remove(rows, keep=4, before=0) == 6
    assert [row["key"] for row in rows.conn.execute("SELECT key FROM task ORDER BY key")] == keys[6:]


@pytest.mark.spec("GC-DATA-303")
def test_forever_keeps_everything(rows: Rows) -> None:
    rows.task(at=1)
    rows.event()
    assert remove(rows, keep=0, before=0) == 0


@pytest.mark.spec("GC-DATA-304")
def test_the_task_of_the_newest_event_stays_so_that_ids_go_on(rows: Rows) -> None:
    rows.task(at=OLD)
    rows.task(at=OLD)
    head = events.head(rows.conn)
    assert remove(rows) == 1
    assert events.head(rows.conn) == head
    rows.event()
    assert rows.conn.execute("SELECT max(id) FROM event").fetchone()[0] == head + 1
    whole(rows.conn)


@pytest.mark.spec("GC-DATA-305")
def test_holes_that_touch_become_one_range_and_the_chain_holds_over_them(rows: Rows) -> None:
    keys = [rows.task(at=OLD) for _ in range(6)]
    rows.event()
    due = Due(before=BEFORE)
    for key in (keys[0], keys[2], keys[4]):
        commit(rows.conn, retention.remove_tasks, [key], due, START)
    assert [(one.first, one.last) for one in removed.ranges(rows.conn, "event")] == [(1, 2), (5, 6), (9, 10)]
    whole(rows.conn)
    commit(rows.conn, retention.remove_tasks, [keys[1], keys[3]], due, START)
    assert [(one.first, one.last) for one in removed.ranges(rows.conn, "event")] == [(1, 10)]
    assert removed.floor(rows.conn) == 10
    whole(rows.conn)


@pytest.mark.spec("GC-DATA-305")
def test_every_change_of_the_ranges_is_sealed_in_the_audit_log(rows: Rows) -> None:
    keys = [rows.task(at=OLD) for _ in range(5)]
    rows.event()
    for key in (keys[0], keys[2], keys[4], keys[1]):
        commit(rows.conn, retention.remove_tasks, [key], Due(before=BEFORE), START)
    assert len(list(removed.ranges(rows.conn, "event"))) == 2
    told = audit.tail(rows.conn, 1)[0]
    assert told["capability"] == removed.RETENTION
    assert f"seal={removed.seal(rows.conn)}" in told["argv"]
    rows.conn.execute("UPDATE removed_range SET last_id = last_id + 1")
    assert f"seal={removed.seal(rows.conn)}" not in told["argv"]


@pytest.mark.spec("GC-DATA-306")
def test_events_of_no_task_go_by_their_own_age_and_never_the_newest(rows: Rows) -> None:
    for _ in range(3):
        rows.event(at=OLD)
    kept = rows.task(at=OLD, state="QUEUED")
    rows.event(at=OLD)
    due, below = retention.bounds(rows.conn, "event", BEFORE, 0)
    assert due.surplus == 0
    done = commit(rows.conn, retention.remove_events, 0, below, START)
    assert (done.rows, done.more) == (3, False)
    assert [
        (row["id"], row["task_key"]) for row in rows.conn.execute("SELECT id, task_key FROM event ORDER BY id")
    ] == [
        (4, kept),
        (5, None),
    ]
    whole(rows.conn)


@pytest.mark.spec("GC-DATA-306")
def test_the_search_for_an_age_finds_the_first_row_that_is_kept(rows: Rows) -> None:
    for day in range(200, 0, -1):
        rows.event(at=START - day * DAY)
    assert retention.bounds(rows.conn, "event", START - 90 * DAY, 0)[1] == 111
    assert retention.bounds(rows.conn, "event", START - 90 * DAY, 50)[1] == 151
    assert retention.bounds(rows.conn, "event", 0, 0)[1] == 1
    assert retention.bounds(rows.conn, "event", START + 1, 0)[1] == 201


@pytest.mark.spec("GC-DATA-307")
def test_old_decisions_go_and_the_newest_stays(rows: Rows) -> None:
    for number in range(4):
        at = OLD if number < 3 else START
        commit(rows.conn, audit.append, (at, "a", "tools.exec", "r", [], "allow", "", "v", None, None))
    _, below = retention.bounds(rows.conn, "audit", BEFORE, 0)
    assert commit(rows.conn, retention.remove_audit, below, START).rows == 3
    assert [one["id"] for one in audit.tail(rows.conn, 10)] == [4, 5]
    assert removed.floor(rows.conn, "audit") == 3
    assert not retention.due_audit(rows.conn, below)
    whole(rows.conn)


@pytest.mark.spec("GC-DATA-308")
def test_instants_without_a_task_go_by_age_and_number_and_a_run_goes_with_its_task(rows: Rows) -> None:
    task = rows.task(at=OLD)
    rows.event()
    sql = "INSERT INTO occurrence VALUES ('job', ?, ?, NULL, ?, ?, ?, 1, 0, ?)"
    for number in range(5):
        rows.conn.execute(sql, (number, "skipped", None, number, number, OLD if number < 2 else START))
    rows.conn.execute(sql, (9, "ran", task, 9, 9, OLD))
    assert retention.next_job(rows.conn, "") == "job"
    assert retention.next_job(rows.conn, "job") is None
    due = retention.due_occurrences(rows.conn, "job", BEFORE, 3)
    assert due is not None
    assert commit(rows.conn, retention.remove_occurrences, "job", due).rows == 3
    assert [row[0] for row in rows.conn.execute("SELECT planned_at FROM occurrence")] == [3, 4, 9]
    assert retention.due_occurrences(rows.conn, "job", BEFORE, 3) is None
    remove(rows)
    assert [row[0] for row in rows.conn.execute("SELECT planned_at FROM occurrence")] == [3, 4]


@pytest.mark.spec("GC-DATA-309")
def test_a_session_goes_only_when_it_is_still_and_no_task_is_left_to_it(rows: Rows) -> None:
    key = rows.session("s", at=OLD)
    rows.task(at=OLD, session=key, text="words")
    rows.event()
    assert retention.due_session(rows.conn, 0, BEFORE) is None
    remove(rows)
    assert retention.due_session(rows.conn, 0, BEFORE) == key
    steps = []
    while (done := commit(rows.conn, retention.remove_session, key, BEFORE, START)).more:
        steps.append(done.rows)
    assert steps == [1]
    assert [rows.count(name) for name in ("session", "message")] == [0, 0]
    whole(rows.conn)


@pytest.mark.spec("GC-DATA-310")
def test_a_version_of_the_policy_goes_when_nothing_kept_can_name_it(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "KEPT_POLICIES", 1)
    for number, at in enumerate((OLD - 2 * DAY, OLD - DAY, OLD, START)):
        audit.keep_policy(rows.conn, f"v{number}", "{}", at)
    rows.task(at=OLD - DAY - 1, state="QUEUED")
    rows.event()
    assert retention.due_policies(rows.conn, BEFORE) == []
    rows.conn.execute("UPDATE task SET created_at = ?", (OLD,))
    assert retention.due_policies(rows.conn, BEFORE) == ["v0"]
    rows.conn.execute("UPDATE task SET created_at = ?", (START,))
    assert sorted(retention.due_policies(rows.conn, BEFORE)) == ["v0", "v1"]
    assert commit(rows.conn, retention.remove_policies, ["v0", "v1"], BEFORE).rows == 2


@pytest.mark.spec("GC-DATA-301")
def test_one_write_takes_a_bounded_number_of_rows(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "ROWS", 5)
    keys = [rows.task(at=OLD) for _ in range(6)]
    rows.event()
    done = commit(rows.conn, retention.remove_tasks, keys, Due(before=BEFORE), START)
    assert (done.tasks, done.looked) == (2, 2)


@pytest.mark.spec("GC-DATA-301")
def test_one_write_takes_a_bounded_number_of_bytes(rows: Rows) -> None:
    session = rows.session("s", at=OLD)
    keys = [rows.task(at=OLD, session=session, text="x" * 200_000) for _ in range(8)]
    rows.event()
    done = commit(rows.conn, retention.remove_tasks, keys, Due(before=BEFORE), START)
    assert 1 <= done.looked <= 3
    remove(rows)
    steps = []
    while (gone := commit(rows.conn, retention.remove_session, session, BEFORE, START)).more:
        steps.append(gone.rows)
    assert sum(steps) == 8
    assert max(steps) <= 4


@pytest.mark.spec("GC-DATA-301")
def test_every_table_that_refers_to_a_task_is_known_to_retention(rows: Rows) -> None:
    """A new table with a reference to a task must be added to `remove_tasks`, or no task could ever go."""
    names = [row["name"] for row in rows.conn.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    referring = {
        name
        for name in names
        for key in rows.conn.execute(f"PRAGMA foreign_key_list({name})")
        if key["table"] == "task"
    }
    assert referring == {"task", "task_input", "event", "step", "message", "occurrence"}
