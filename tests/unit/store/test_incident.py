"""Which rows belong to an incident."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from goclaw.errors import BadRequest, NotFound
from goclaw.store import audit, incident
from goclaw.store.incident import Query, outline, query_of
from tests.fakes_clock import START
from tests.fakes_rows import DAY, Rows
from tests.scratch import commit, scratch


@pytest.fixture
def rows(tmp_path: Path) -> Iterator[Rows]:
    with closing(scratch(tmp_path / "d.db")) as conn:
        yield Rows(conn, START)


def ids(found: incident.Found) -> list[str]:
    return [row["id"] for row in found.rows.get("tasks", [])]


@pytest.mark.spec("GC-DATA-332")
def test_a_task_comes_with_its_children_what_else_happened_then_and_the_decisions_about_it(rows: Rows) -> None:
    rows.event("config.reloaded", at=START - DAY)
    parent = rows.task(text="words of somebody")
    rows.task(parent=parent)
    rows.task()
    rows.event("provider.cooled_down")
    for task in ("task-1", "task-3", None):
        entry: audit.Entry = (START, "a", "tools.exec", "/home/words", ["words"], "deny", "no rule", "v", None, task)
        commit(rows.conn, audit.append, entry)
    found = incident.collect(rows.conn, Query(task_id="task-1"), START)
    assert ids(found) == ["task-1", "task-2"]
    assert [row["event_type"] for row in found.rows["other_events"]] == ["provider.cooled_down"]
    assert [row.get("task_id") for row in found.rows["decisions"]] == ["task-1", None]
    assert len(found.rows["steps"]) == 1
    assert "words" not in json.dumps(found.rows)
    assert "words" in json.dumps(incident.collect(rows.conn, Query(task_id="task-1"), START, content=True).rows)


@pytest.mark.spec("GC-DATA-332")
def test_a_span_of_time_holds_the_tasks_that_something_was_told_of(rows: Rows) -> None:
    for day in range(5):
        rows.task(at=START - day * DAY)
    rows.conn.execute("UPDATE event SET created_at = ? - (5 - (id + 1) / 2) * ?", (START, DAY))
    since = START - 3 * DAY
    found = incident.collect(rows.conn, Query(since=since, until=START - 2 * DAY), START)
    assert len(ids(found)) == 2
    assert ids(incident.collect(rows.conn, Query(since=START + 1), START)) == []


@pytest.mark.spec("GC-DATA-332")
def test_a_session_and_what_is_not_there(rows: Rows) -> None:
    key = rows.session("s")
    rows.task(session=key)
    rows.task()
    assert ids(incident.collect(rows.conn, Query(session_id="s"), START)) == ["task-1"]
    for query in (Query(task_id="never"), Query(session_id="never")):
        with pytest.raises(NotFound):
            incident.collect(rows.conn, query, START)


@pytest.mark.spec("GC-DATA-332")
def test_more_than_fits_is_cut_and_said(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incident, "TASKS", 3)
    monkeypatch.setattr(incident, "ROWS", 4)
    for _ in range(6):
        rows.task()
    found = incident.collect(rows.conn, Query(since=0), START)
    assert (len(found.rows["tasks"]), len(found.rows["events"])) == (3, 4)
    assert found.cut == ("events", "tasks")


@pytest.mark.spec("GC-DATA-332")
def test_one_question_at_a_time() -> None:
    assert query_of("t", None, None, None) == Query(task_id="t")
    for asked in ((None, None, None, None), ("t", "s", None, None), ("t", None, None, 5), (None, None, 5, 4)):
        with pytest.raises(BadRequest):
            query_of(*asked)


@pytest.mark.spec("GC-DATA-332")
def test_an_outline_keeps_the_shape_and_no_word() -> None:
    value = {"text": "abc", "n": 1, "list": ["ab", True, None], "reason": "xyz"}
    assert outline(value) == {
        "text": "(3 characters)",
        "n": 1,
        "list": ["(2 characters)", True, None],
        "reason": "(3 characters)",
    }
    assert outline({"kind": "chat", "said": "x"}, telling=True) == {"kind": "chat", "said": "(1 characters)"}
