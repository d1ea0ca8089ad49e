"""Everything in the database is explained, and what is not is named: the table, the row and what is wrong with it."""

# ruff: noqa: S608 (the harm is put together from words of the test)

from __future__ import annotations

import asyncio
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from goclaw.core.event import NewEvent
from goclaw.store import events, heads, removed
from goclaw.store.chains import AUDIT, EVENTS, Head, first_break, head
from goclaw.store.verify import PAGE_EVENTS, Anchor, Verification, verify
from tests.fakes_clock import START
from tests.scratch import commit, reopen
from tests.worked import Work, work_through


@dataclass(frozen=True)
class Worked:
    """A database in which much has happened, and its tasks by name."""

    conn: sqlite3.Connection
    named: dict[str, str]

    def key(self, name: str) -> int:
        (key,) = self.conn.execute("SELECT key FROM task WHERE id = ?", (self.named[name],)).fetchone()
        return int(key)

    def harm(self, sql: str, name: str = "succeeded") -> None:
        """Change the file as somebody with an editor would: no foreign keys, no triggers of ours in the way."""
        self.conn.execute("PRAGMA foreign_keys = OFF")
        given = {"id": self.named[name], "key": self.key(name)}
        self.conn.execute(sql, {name: value for name, value in given.items() if f":{name}" in sql})

    def found(self, *anchors: Anchor) -> list[str]:
        """What is wrong, with the names of the tasks instead of their ids."""
        lines = [str(finding) for finding in verify(self.conn, anchors).findings]
        for name, task_id in self.named.items():
            lines = [line.replace(task_id, name) for line in lines]
        return lines


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    path = tmp_path_factory.mktemp("worked") / "d.db"
    return path, asyncio.run(work_through(path))


@pytest.fixture
def worked(template: tuple[Path, dict[str, str]], tmp_path: Path) -> Iterator[Worked]:
    path, named = template
    shutil.copy(path, tmp_path / "d.db")
    with closing(reopen(tmp_path / "d.db")) as conn:
        yield Worked(conn, named)


@pytest.mark.spec("GC-DATA-201")
def test_what_the_kernel_has_written_is_explained(worked: Worked) -> None:
    report = verify(worked.conn)
    assert [str(finding) for finding in report.findings] == []
    assert report.ok
    assert not report.chain_broken
    (count,) = worked.conn.execute("SELECT count(*) FROM event").fetchone()
    assert (report.events, report.tasks, report.audit_rows) == (count, len(worked.named), 2)
    assert (report.event_head, report.audit_head) == (head(worked.conn, EVENTS), head(worked.conn, AUDIT))


@pytest.mark.spec("GC-DATA-201")
@pytest.mark.parametrize(
    ("name", "change", "what"),
    [
        ("queued", "state = 'CANCELED', finished_at = 1", "it is CANCELED, but event N left it QUEUED"),
        ("succeeded", "state = 'FAILED'", "it is FAILED, but event N left it SUCCEEDED"),
        ("failed", "state = 'DEAD_LETTER'", "it is DEAD_LETTER, but event N left it FAILED"),
        ("succeeded", "attempt = 2", "attempt is 2, its events say 1"),
        ("drained", "attempt = 1", "attempt is 1, its events say 0"),
        ("redriven", "attempt = 2", "attempt is 2, its events say 1"),
        ("succeeded", "deaths = 1", "deaths is 1, its events say 0"),
        ("running", "lease_token = lease_token + 1", "lease token is N, the claim's was N"),
        ("succeeded", "finished_at = finished_at + 1", "finished_at is N, but event N is of N"),
        ("failed", "error_code = 'DEADLINE'", "error_code is not what event N says"),
        ("failed", "error = 'all is well'", "error is not what event N says"),
        ("drained", "error = 'another reason'", "error is not what event N says"),
        ("succeeded", "error_code = 'TOOL_FAILED'", "it succeeded and has the error code TOOL_FAILED"),
        ("queued", "result_json = '1'", "it has a result while it is QUEUED"),
        ("waiting", "wait_reason = 'approval'", "wait_reason is not what event N says"),
        ("waiting", "available_at = available_at + 1", "available_at is N, event N says N"),
        ("second", "wait_reason = NULL", "it is QUEUED although task key N is before it in its session"),
        ("first", "place = place + 100", "it is RUNNING although task key N is before it in its session"),
    ],
)
def test_a_task_row_changed_by_hand_is_named(worked: Worked, name: str, change: str, what: str) -> None:
    worked.harm(f"UPDATE task SET {change} WHERE key = :key", name)
    found = [line for line in worked.found() if line.startswith(f"task {name}: ")]
    assert [_without_numbers(line) for line in found] == [_without_numbers(f"task {name}: {what}")]


def _without_numbers(line: str) -> str:
    return re.sub(r"\d+", "N", line)


@pytest.mark.spec("GC-DATA-201")
def test_the_head_of_a_session_that_waits_for_itself_is_named(worked: Worked) -> None:
    worked.harm("UPDATE task SET state = 'SUCCEEDED', finished_at = 1, lease_token = NULL WHERE key = :key", "first")
    assert "task second: it is the head of its session and waits for it" in worked.found()


@pytest.mark.spec("GC-DATA-201")
@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("UPDATE step SET state = 'failed' WHERE step_key = 'a'", "step 1 (a) is failed, its events say done"),
        ("UPDATE step SET result_json = '1' WHERE step_key = 'a'", "the result of step 1 (a) is not the one"),
        ("UPDATE step SET result_json = NULL WHERE step_key = 'a'", "the result of step 1 (a) is not the one"),
        ("UPDATE step SET request_hash = 'x' WHERE step_key = 'b'", "step 2 (b) is not the one its events name"),
        ("UPDATE step SET seq = 9 WHERE step_key = 'c'", "step 9 (c) is not the one its events name"),
        ("DELETE FROM step WHERE step_key = 'b'", "step b is gone, its events are there"),
        (
            "INSERT INTO step SELECT NULL, task_key, 4, 'd', kind, state, effect, tool, request_hash, created_at,"
            " finished_at, NULL, NULL, NULL FROM step WHERE step_key = 'c'",
            "step 4 (d) has no event",
        ),
    ],
)
def test_a_step_that_its_events_do_not_explain_is_named(worked: Worked, change: str, what: str) -> None:
    worked.harm(change)
    (line,) = worked.found()
    assert line.startswith(f"task stepped: {what}")


@pytest.mark.spec("GC-DATA-201")
def test_a_task_without_events_and_events_without_a_task_are_named(worked: Worked) -> None:
    (first,) = worked.conn.execute("SELECT min(id) FROM event WHERE task_key = ?", (worked.key("queued"),)).fetchone()
    worked.conn.execute(
        "INSERT INTO task (id, kind, agent_id, state, priority, rank, available_at, max_attempts, created_at,"
        " updated_at) SELECT 'stranger', kind, agent_id, state, 0, rank, 0, 3, 0, 0 FROM task WHERE id = ?",
        (worked.named["queued"],),
    )
    worked.harm("DELETE FROM task WHERE key = :key", "queued")
    found = worked.found()
    assert any(line.startswith(f"event {first}: names task ") and line.endswith("is not there") for line in found)
    assert "task stranger: it is QUEUED, and no event tells of it" in found


@pytest.mark.spec("GC-DATA-202")
@pytest.mark.parametrize("change", ["queued = queued + 1", "queued = -1", "agent_id = 'other'"])
def test_a_queue_depth_that_is_not_the_count_is_named(worked: Worked, change: str) -> None:
    worked.harm(f"UPDATE queue_depth SET {change}")
    assert all(line.startswith("queue_depth ") for line in worked.found())
    assert worked.found()


@pytest.mark.spec("GC-DATA-203")
@pytest.mark.parametrize(
    ("change", "lines"),
    [
        ("UPDATE event SET type = 'policy.denied' WHERE id = 5", ["event 5: row changed"]),
        ("UPDATE event SET created_at = 1 WHERE id = 5", ["event 5: row changed"]),
        ("UPDATE event SET payload_json = '{}' WHERE id = 2", ["event 2: payload changed"]),
        ("UPDATE event SET payload_json = NULL WHERE id = 2", ["event 2: payload missing"]),
        ("UPDATE event SET chain = zeroblob(32) WHERE id = 5", ["event 5: row changed"]),
        ("UPDATE audit_log SET reason = 'x' WHERE id = 1", ["audit_log 1: row changed"]),
        ("UPDATE audit_log SET verdict = 'deny' WHERE id = 2", ["audit_log 2: row changed"]),
        ("DELETE FROM audit_log WHERE id = 1", ["audit_log 1: missing"]),
        ("DELETE FROM event WHERE id = 1", ["event 1: missing"]),
    ],
)
def test_a_changed_or_missing_row_of_a_log_is_named_and_no_other(worked: Worked, change: str, lines: list[str]) -> None:
    worked.harm(change)
    found = [line for line in worked.found() if line.startswith(("event", "audit"))]
    assert found == lines
    assert str(first_break(worked.conn)) == lines[0]
    assert verify(worked.conn).chain_broken


@pytest.mark.spec("GC-DATA-203")
def test_several_missing_rows_are_one_line_and_the_tasks_they_told_of_are_named(worked: Worked) -> None:
    first, last = worked.conn.execute(
        "SELECT min(id), max(id) FROM event WHERE task_key = ? AND state_to IS NOT NULL", (worked.key("succeeded"),)
    ).fetchone()
    worked.harm(f"DELETE FROM event WHERE id BETWEEN {first + 1} AND {last}")
    found = worked.found()
    assert found[0] == f"event {first + 1}: missing, up to {last}"
    assert f"task succeeded: it is SUCCEEDED, but event {first} left it QUEUED" in found


@pytest.mark.spec("GC-DATA-203")
def test_two_rows_that_changed_places_are_both_named(worked: Worked) -> None:
    worked.harm("UPDATE event SET id = -5 WHERE id = 5")
    worked.harm("UPDATE event SET id = 5 WHERE id = 9")
    worked.harm("UPDATE event SET id = 9 WHERE id = -5")
    found = worked.found()
    assert {"event 5: row changed", "event 9: row changed"} <= set(found)


@pytest.mark.spec("GC-DATA-203")
def test_an_inserted_row_is_named(worked: Worked) -> None:
    end = head(worked.conn, EVENTS).id
    worked.harm(f"INSERT INTO event (id, type, created_at, chain) VALUES ({end + 1}, 'a', 0, zeroblob(32))")
    assert worked.found() == [f"event {end + 1}: row changed"]


@pytest.mark.spec("GC-DATA-203")
def test_rows_that_make_no_sense_any_more_end_no_verification(worked: Worked) -> None:
    worked.harm("UPDATE event SET payload_json = '{'")
    worked.harm("UPDATE event SET state_to = 'ASLEEP' WHERE id = 4")
    worked.harm("UPDATE audit_log SET resource = 'event:x:y', argv_json = '['")
    found = worked.found()
    assert "event 4: row changed" in found
    assert "audit_log 1: row changed" in found
    assert any("names a state that does not exist" in line for line in found)


@pytest.mark.spec("GC-DATA-204")
def test_a_cut_off_event_log_shows_against_the_audit_log(worked: Worked) -> None:
    noted = head(worked.conn, EVENTS).id - 1  # the event before the last note
    worked.harm(f"DELETE FROM event WHERE id >= {noted}")
    worked.harm("DELETE FROM task WHERE key = :key", "queued")
    worked.harm("DELETE FROM queue_depth")
    assert f"event {noted}: cut off: the log ends at {noted - 1}, but audit row 2 notes {noted}" in worked.found()
    assert [finding.table for finding in heads.check(worked.conn)] == ["event"]


@pytest.mark.spec("GC-DATA-204")
def test_a_cut_off_audit_log_shows_against_the_event_log(worked: Worked) -> None:
    end = head(worked.conn, EVENTS).id
    worked.harm("DELETE FROM audit_log WHERE id = 2")
    assert worked.found() == [f"audit_log 2: cut off: the log ends at 1, but event {end} notes 2"]
    assert [finding.table for finding in heads.check(worked.conn)] == ["audit_log"]


@pytest.mark.spec("GC-DATA-204")
def test_a_log_that_grew_again_after_it_was_cut_off_shows_too(worked: Worked) -> None:
    end = head(worked.conn, EVENTS).id
    worked.harm(f"DELETE FROM event WHERE id >= {end - 1}")
    for _ in range(5):
        commit(worked.conn, events.append, [NewEvent(type="policy.loaded")], START)
    noted = [line for line in worked.found() if line.startswith("event ")]
    assert noted == [f"event {end - 1}: rewritten: audit row 2 notes another chain value"]


@pytest.mark.spec("GC-DATA-204")
def test_both_logs_cut_off_together_show_against_a_head_noted_outside(worked: Worked) -> None:
    kept = Anchor(by="backup b.tar", event=head(worked.conn, EVENTS), audit=head(worked.conn, AUDIT))
    assert worked.found(kept) == []
    worked.harm(f"DELETE FROM event WHERE id = {kept.event.id}")
    worked.harm("DELETE FROM audit_log WHERE id = 2")
    worked.harm("DELETE FROM meta WHERE name = 'noted_heads'")
    # Nothing in the file itself tells of it: only who has noted the heads elsewhere can know.
    assert worked.found() == []
    assert heads.check(worked.conn) == []
    assert worked.found(kept) == [
        f"event {kept.event.id}: cut off: the log ends at {kept.event.id - 1}, but backup b.tar notes {kept.event.id}",
        "audit_log 2: cut off: the log ends at 1, but backup b.tar notes 2",
    ]


@pytest.mark.spec("GC-DATA-204")
def test_an_empty_log_has_nothing_to_be_noted(worked: Worked) -> None:
    assert worked.found(Anchor(by="an empty one", event=Head(0, bytes(32)), audit=Head(0, bytes(32)))) == []


@pytest.mark.spec("GC-DATA-205")
def test_a_hole_that_retention_has_recorded_is_no_finding(worked: Worked) -> None:
    _retain(worked, "succeeded")
    assert worked.found() == []


@pytest.mark.spec("GC-DATA-205")
@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("DELETE FROM removed_range", "the ranges are not those that the audit log seals"),
        ("UPDATE removed_range SET chain = zeroblob(32)", "row changed"),
        ("UPDATE removed_range SET last_id = last_id + 1", "is there, although it is recorded as removed"),
        ("UPDATE removed_range SET last_id = last_id - 1", "missing"),
        ("UPDATE removed_range SET last_id = 9999", "lies behind the end of event"),
        (
            "INSERT INTO removed_range SELECT 'event', id, id, chain, 0 FROM event WHERE id = 6",
            "is there, although it is recorded as removed",
        ),
    ],
)
def test_a_recorded_hole_that_was_changed_shows(worked: Worked, change: str, what: str) -> None:
    _retain(worked, "succeeded")
    worked.harm(change, "failed")
    found = worked.found()
    assert any(line.endswith(what) for line in found), found
    assert any("seals" in line for line in found)


def _retain(worked: Worked, name: str) -> None:
    """Take a task out as retention does: whole, with its ranges and their audit row in one commit."""

    def take_out(conn: sqlite3.Connection, key: int) -> None:
        rows = conn.execute("SELECT id, chain FROM event WHERE task_key = ? ORDER BY id", (key,)).fetchall()
        removed.note(conn, "event", [(row["id"], row["chain"]) for row in rows], START)
        removed.tell(conn, removed.RETENTION, "tasks", ["tasks=1"], START)
        for table, column in (("event", "task_key"), ("task_input", "task_key"), ("task", "key")):
            conn.execute(f"DELETE FROM {table} WHERE {column} = ?", (key,))

    commit(worked.conn, take_out, worked.key(name))


@pytest.mark.spec("GC-DATA-205")
def test_a_purged_payload_is_no_finding_and_its_task_is_replayed_without_it(worked: Worked) -> None:
    session = worked.conn.execute("SELECT session_key FROM task WHERE key = ?", (worked.key("first"),)).fetchone()[0]
    worked.harm(f"UPDATE event SET payload_json = NULL WHERE session_key = {session}")
    assert all(line.endswith("payload missing") for line in worked.found())
    assert worked.found()
    worked.conn.execute("INSERT INTO purge (session_key, purged_at) VALUES (?, 0)", (session,))
    assert worked.found() == []
    worked.harm("UPDATE task SET state = 'QUEUED', lease_token = NULL WHERE key = :key", "first")
    assert any(line.startswith("task first: it is QUEUED, but event") for line in worked.found())


@pytest.mark.spec("GC-DATA-206")
async def test_a_task_with_more_events_than_a_page_is_replayed_across_pages(tmp_path: Path) -> None:
    work = Work(tmp_path / "d.db")
    async with work.database:
        await work.submit()
        claimed = await work.claim()
        for n in range(2 * PAGE_EVENTS + 10):
            work.database.post(events.append, [NewEvent(type="task.progress", task_key=claimed.task.key)], START + n)
        await work.note()
    with closing(reopen(tmp_path / "d.db")) as conn:
        verification, pages = Verification(), 1
        while verification.step(conn):
            pages += 1
        assert verification.report.ok, verification.report.findings
        assert pages > 6
        conn.execute("UPDATE task SET attempt = 7")
        assert [finding.what for finding in verify(conn).findings] == ["attempt is 7, its events say 1"]


@pytest.mark.spec("GC-DATA-206")
def test_what_is_written_during_a_verification_is_no_finding(worked: Worked) -> None:
    verification, more, n = Verification(), True, 0
    while more:
        more = verification.step(worked.conn)
        n += 1
        commit(worked.conn, events.append, [NewEvent(type="policy.loaded", payload={"n": n})], START)
        commit(worked.conn, heads.note, "backup", START)
    assert [str(finding) for finding in verification.report.findings] == []


@pytest.mark.spec("GC-DATA-206")
def test_a_task_that_moves_between_two_pages_is_no_finding(worked: Worked) -> None:
    """Its row and its events are read in one snapshot, whichever it is."""
    verification = Verification()
    for _ in range(3):
        assert verification.step(worked.conn)
    _retain(worked, "failed")
    while verification.step(worked.conn):
        pass
    assert [str(finding) for finding in verification.report.findings] == []


@pytest.mark.spec("GC-DATA-206")
def test_the_findings_that_are_kept_are_bounded_and_all_are_counted(worked: Worked) -> None:
    worked.harm("UPDATE event SET chain = randomblob(32), created_at = 1")
    for _ in range(150):
        end = head(worked.conn, EVENTS).id
        worked.harm(f"INSERT INTO event (id, type, created_at, chain) VALUES ({end + 1}, 'a', 0, randomblob(32))")
    report = verify(worked.conn)
    assert report.found > 150
    assert len(report.findings) == 100
