"""What a purge takes away and what it leaves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from goclaw.errors import Conflict, NotFound
from goclaw.store import audit, chains, purge, references, removed
from tests.fakes_clock import START
from tests.fakes_rows import Rows
from tests.scratch import commit, scratch

SECRET = "the-secret-word-of-this-session-that-nobody-else-has-ever-said"


@pytest.fixture
def rows(tmp_path: Path) -> Iterator[Rows]:
    with closing(scratch(tmp_path / "d.db")) as conn:
        yield Rows(conn, START)


def dump(rows: Rows) -> str:
    return "\n".join(rows.conn.iterdump())


def decide(rows: Rows, task_id: str | None, resource: str) -> None:
    entry: audit.Entry = (START, "agent:default", "tools.exec", resource, [resource], "allow", "", "v", None, task_id)
    commit(rows.conn, audit.append, entry)


def forget(rows: Rows, *names: str) -> purge.Purged:
    return commit(rows.conn, purge.redact, purge.survey(rows.conn, names), START)


@pytest.mark.spec("GC-DATA-320")
def test_nothing_of_the_content_is_left_in_any_table_and_the_chains_hold(rows: Rows) -> None:
    key = rows.session(f"chat:{SECRET}")
    rows.task(session=key, text=SECRET, error=SECRET, idempotency_key=SECRET, cancel_reason=SECRET, fingerprint=SECRET)
    rows.task(session=key, state="FAILED", text=SECRET, concurrency_key=SECRET, request_digest=SECRET)
    other = rows.session("other")
    rows.task(session=other, text="kept")
    decide(rows, "task-1", SECRET)
    decide(rows, "task-3", "kept")
    done = forget(rows, f"chat:{SECRET}")
    assert (done.messages, done.tasks, done.steps, done.decisions) == (2, 2, 2, 1)
    assert SECRET not in dump(rows)
    assert "kept" in dump(rows)
    assert rows.conn.execute("SELECT count(*) FROM message").fetchone()[0] == 1
    assert chains.first_break(rows.conn) is None
    assert f"seal={removed.seal(rows.conn)}" in audit.tail(rows.conn, 1)[0]["argv"]


@pytest.mark.spec("GC-DATA-321")
def test_what_is_left_tells_that_something_happened_and_when(rows: Rows) -> None:
    key = rows.session("s")
    task = rows.task(session=key, state="FAILED", text=SECRET, error_code="TOOL_FAILED")
    forget(rows, "s")
    kept = rows.conn.execute("SELECT state, error_code, finished_at FROM task").fetchone()
    assert tuple(kept) == ("FAILED", "TOOL_FAILED", START)
    told = rows.conn.execute(
        "SELECT type, state_to, digest IS NULL, payload_json FROM event WHERE task_key = ?", (task,)
    )
    assert [tuple(row) for row in told] == [
        ("task.enqueued", "QUEUED", 0, None),
        ("task.failed", "FAILED", 0, None),
    ]
    assert tuple(rows.conn.execute("SELECT id, ended_at FROM session").fetchone()) == (f"purged-{key}", START)
    assert purge.is_purged(rows.conn, task)
    last = rows.conn.execute("SELECT type, payload_json FROM event ORDER BY id DESC LIMIT 1").fetchone()
    assert tuple(last) == ("session.purged", '{"decisions":0,"messages":1,"steps":1,"tasks":1}')


@pytest.mark.spec("GC-DATA-322")
def test_a_payload_that_was_purged_is_told_from_one_that_somebody_took_out(rows: Rows) -> None:
    key = rows.session("s")
    rows.task(session=key, text=SECRET)
    number = rows.event()
    rows.event()
    forget(rows, "s")
    assert chains.first_break(rows.conn) is None
    rows.conn.execute("UPDATE event SET payload_json = NULL WHERE id = ?", (number,))
    found = chains.first_break(rows.conn)
    assert found is not None
    assert (found.row, found.what) == (number, "payload missing")


@pytest.mark.spec("GC-DATA-323")
@pytest.mark.parametrize("state", ["QUEUED", "RUNNING", "RETRY_WAIT"])
def test_a_session_with_a_task_that_is_not_over_is_refused_and_stays_whole(rows: Rows, state: str) -> None:
    key = rows.session("s")
    rows.task(session=key, text=SECRET)
    columns = {"lease_token": 1} if state == "RUNNING" else {"wait_reason": "backoff", "wake_at": 1}
    rows.task(session=key, state=state, **(columns if state != "QUEUED" else {}))
    before = dump(rows)
    with pytest.raises(Conflict) as caught:
        purge.survey(rows.conn, ["s"])
    assert caught.value.data == {"task_id": "task-2", "state": state}
    assert dump(rows) == before


@pytest.mark.spec("GC-DATA-323")
def test_a_task_that_was_begun_after_the_look_is_not_lost(rows: Rows) -> None:
    key = rows.session("s")
    rows.task(session=key, text=SECRET)
    seen = purge.survey(rows.conn, ["s"])
    rows.task(session=key, text="late")
    with pytest.raises(Conflict):
        commit(rows.conn, purge.redact, seen, START)
    assert SECRET in dump(rows)


@pytest.mark.spec("GC-DATA-323")
def test_a_schedule_that_speaks_in_the_session_is_named(rows: Rows) -> None:
    rows.session("s")
    rows.conn.execute(
        "INSERT INTO schedule (id, name, source, kind, at, task_kind, payload_json, session_id, priority, max_attempts,"
        " enabled, missed, overlap, watermark, created_at, updated_at)"
        " VALUES ('daily', '', 'api', 'at', 1, 'chat', '{}', 's', 0, 3, 0, 'skip', 'skip', 0, 0, 0)"
    )
    with pytest.raises(Conflict) as caught:
        purge.survey(rows.conn, ["s"])
    assert caught.value.data == {"schedule": "daily"}


@pytest.mark.spec("GC-DATA-323")
def test_an_unknown_session_and_one_that_was_purged_are_not_found(rows: Rows) -> None:
    rows.session("s")
    forget(rows, "s")
    for name in ("s", "never"):
        with pytest.raises(NotFound):
            purge.survey(rows.conn, [name])


@pytest.mark.spec("GC-DATA-324")
def test_the_name_of_a_purged_session_is_free_again(rows: Rows) -> None:
    rows.session("s")
    forget(rows, "s")
    rows.session("s")
    assert forget(rows, "s").messages == 0
    assert chains.first_break(rows.conn) is None


@pytest.mark.spec("GC-DATA-325")
def test_several_sessions_go_together(rows: Rows) -> None:
    for name in ("root", "fork"):
        rows.task(session=rows.session(name), text=SECRET)
    assert forget(rows, "root", "fork").messages == 2
    assert SECRET not in dump(rows)
    assert chains.first_break(rows.conn) is None


@pytest.mark.spec("GC-DATA-326")
def test_a_survey_knows_what_the_texts_refer_to_and_samples_them(rows: Rows) -> None:
    key = rows.session("s")
    name = "ab" * 32
    rows.task(session=key, text=f"see {name} and 0{'cd' * 32}")
    seen = purge.survey(rows.conn, ["s"])
    assert seen.names == {name}
    assert seen.needles
    assert all(len(needle) == purge.NEEDLE_CHARS for needle in seen.needles)


@pytest.mark.spec("GC-DATA-311")
def test_what_a_kept_text_refers_to_is_found_wherever_it_stands(rows: Rows) -> None:
    names = [f"{number:02x}" * 32 for number in range(5)]
    key = rows.session("s")
    for name in names[:4]:
        rows.task(session=key, text=name)
    for where in references.WHERE:
        found, more = references.referred(rows.conn, where, names)
        assert found == set(names[:4])
        assert more is None


@pytest.mark.spec("GC-DATA-311")
def test_a_part_that_was_referred_to_meanwhile_stays(rows: Rows) -> None:
    names = [f"{number:02x}" * 32 for number in range(2)]
    for name in names:
        rows.conn.execute("INSERT INTO prompt_part VALUES (?, 'body')", (name,))
    seen = references.newest_step(rows.conn)
    rows.task(text=names[0])
    assert commit(rows.conn, references.remove_parts, names, seen) == 1
    assert list(references.parts(rows.conn)) == [names[0]]


@pytest.mark.spec("GC-DATA-311")
def test_no_part_goes_while_a_turn_runs(rows: Rows) -> None:
    name = "aa" * 32
    rows.conn.execute("INSERT INTO prompt_part VALUES (?, 'body')", (name,))
    rows.task(kind="chat", state="RUNNING", lease_token=1)
    assert commit(rows.conn, references.remove_parts, [name], 0) == 0
    rows.conn.execute("UPDATE task SET state = 'SUCCEEDED', lease_token = NULL, finished_at = 1")
    assert commit(rows.conn, references.remove_parts, [name], 0) == 1
