"""The rounds of retention, and a purge as a whole: with a real database file and a clock of our own."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import closing
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from goclaw.config.retention import (
    KeptArtifacts,
    KeptAudit,
    KeptEvents,
    KeptOccurrences,
    KeptSessions,
    KeptTasks,
    RetentionSettings,
)
from goclaw.db import Database
from goclaw.errors import StoreClosed, StoreFull
from goclaw.kernel.purging import Purging, residue
from goclaw.kernel.retention import EVERY_MS, FIRST_MS, Retention, scrub
from goclaw.kernel.sweep import Sweep
from goclaw.store import chains, purge, space
from goclaw.tools.artifacts import FolderArtifacts
from tests.fakes import FakeClock
from tests.fakes_rows import DAY, Rows
from tests.scratch import reopen, scratch

OLD = 100 * DAY


class Desk:
    """A database with retention and purge around it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "goclaw.db"
        scratch(self.path).close()
        self.clock = FakeClock()
        self.database = Database(self.path, self.clock)
        self.rules = RetentionSettings()
        self.told: list[tuple[str, Any]] = []
        self.artifacts = FolderArtifacts(folder / "artifacts")
        self.forgotten = 0
        sweep = Sweep(self.database, self.artifacts)
        self.retention = Retention(
            self.database,
            self.clock,
            lambda: self.rules,
            sweep,
            self._emit,
            lambda table, count: self.told.append((table, count)),
        )
        self.purging = Purging(
            self.database, self.clock, sweep, forget=self._forget, blank=lambda ids: len(ids), copies=lambda: []
        )

    def _emit(
        self,
        event_type: str,
        payload: Mapping[str, Any],
        *,
        task_id: str | None = None,
        session_id: str | None = None,
    ) -> None:
        self.told.append((event_type, payload))

    async def _forget(self) -> None:
        self.forgotten += 1

    def fill(self, make: Callable[[Rows], object]) -> None:
        """Rows by a connection of our own, before or between what is tested."""
        with closing(reopen(self.path)) as conn:
            conn.execute("BEGIN")
            make(Rows(conn, self.clock.wall()))
            conn.execute("COMMIT")

    def ask(self, sql: str) -> Any:
        with closing(sqlite3.connect(self.path)) as conn:
            return conn.execute(sql).fetchone()[0]

    def whole(self) -> bool:
        with closing(reopen(self.path)) as conn:
            return chains.first_break(conn) is None

    def bytes(self) -> bytes:
        return self.path.read_bytes() + Path(f"{self.path}-wal").read_bytes()


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    made = Desk(tmp_path)
    async with made.database:
        yield made


@pytest.mark.spec("GC-DATA-312")
async def test_a_round_takes_every_table_and_says_what_went(desk: Desk) -> None:
    old = desk.clock.wall() - OLD

    def some(rows: Rows) -> None:
        key = rows.session("s", at=old)
        rows.task(at=old, session=key, text="x")
        rows.task(at=old)
        rows.event(at=old)
        rows.event()

    desk.fill(some)
    desk.rules = replace(desk.rules, sessions=KeptSessions(days=30))
    assert await desk.retention.once() == {"tasks": 2, "sessions": 1, "events": 1}
    assert ("retention.removed", {"tasks": 2, "sessions": 1, "events": 1}) in desk.told
    assert ("tasks", 2) in desk.told
    assert desk.ask("SELECT count(*) FROM event") == 1
    assert desk.whole()


@pytest.mark.spec("GC-DATA-313")
async def test_a_round_that_finds_nothing_writes_nothing(desk: Desk) -> None:
    desk.fill(lambda rows: [rows.task(session=rows.session("s"), text="x"), rows.event()])
    await desk.retention.once()
    commits = desk.database.commits
    before = (desk.path.read_bytes(), os.stat(f"{desk.path}-wal").st_mtime_ns)
    assert await desk.retention.once() == {}
    assert desk.database.commits == commits
    assert (desk.path.read_bytes(), os.stat(f"{desk.path}-wal").st_mtime_ns) == before
    assert desk.told == []


@pytest.mark.spec("GC-DATA-314")
async def test_the_writer_serves_others_between_the_pieces(desk: Desk) -> None:
    old = desk.clock.wall() - OLD
    desk.fill(lambda rows: [*(rows.task(at=old) for _ in range(1_500)), rows.event()])
    seen: list[int] = []

    async def other() -> None:
        while True:
            seen.append(await desk.database.write(lambda conn: conn.execute("SELECT count(*) FROM task").fetchone()[0]))
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        busy = group.create_task(other())
        gone = await desk.retention.once()
        busy.cancel()
    assert gone["tasks"] == 1_500
    assert len(set(seen)) >= 8


@pytest.mark.spec("GC-DATA-315")
async def test_the_first_round_comes_after_a_minute_and_the_next_an_hour_later(desk: Desk) -> None:
    begun = desk.clock.monotonic()
    rounds: list[int] = []

    class Enough(Exception):
        """The test has seen what it wanted."""

    async def once() -> dict[str, int]:
        rounds.append(desk.clock.monotonic() - begun)
        if len(rounds) == 3:
            raise Enough
        return {}

    desk.retention.once = once  # type: ignore[method-assign]
    with pytest.raises(Enough):
        await desk.retention.run()
    assert rounds == [FIRST_MS, FIRST_MS + EVERY_MS, FIRST_MS + 2 * EVERY_MS]


@pytest.mark.spec("GC-DATA-315")
async def test_a_full_disk_ends_a_round_and_not_retention(desk: Desk) -> None:
    answers: list[BaseException] = [StoreFull(), StoreClosed()]

    async def once() -> dict[str, int]:
        raise answers.pop(0)

    desk.retention.once = once  # type: ignore[method-assign]
    with pytest.raises(StoreClosed):
        await desk.retention.run()


@pytest.mark.spec("GC-DATA-316")
async def test_new_rules_hold_from_the_next_round_on(desk: Desk) -> None:
    desk.rules = RetentionSettings(
        tasks=KeptTasks(days=0, rows=0),
        events=KeptEvents(days=0, rows=0),
        audit=KeptAudit(days=0, rows=0),
        occurrences=KeptOccurrences(days=0, rows=0),
        artifacts=KeptArtifacts(days=0),
    )
    desk.fill(lambda rows: [rows.task(at=1), rows.event(at=2), rows.event()])
    assert await desk.retention.once() == {}
    desk.rules = replace(desk.rules, tasks=KeptTasks(days=1))
    assert await desk.retention.once() == {"tasks": 1}
    desk.rules = replace(desk.rules, events=KeptEvents(days=1))
    assert await desk.retention.once() == {"events": 1}
    assert desk.whole()


@pytest.mark.spec("GC-DATA-311")
async def test_an_artifact_and_a_prompt_part_go_when_the_last_text_that_names_them_has_gone(desk: Desk) -> None:
    named, stray, part = await desk.artifacts.put(b"named"), await desk.artifacts.put(b"stray"), "cd" * 32
    old = desk.clock.wall() - OLD

    def some(rows: Rows) -> None:
        key = rows.session("s", at=old)
        rows.task(at=old, session=key, text=f"{named} {part}")
        rows.conn.execute("INSERT INTO prompt_part VALUES (?, 'body')", (part,))
        rows.event()

    desk.fill(some)
    for name in (named, stray):
        os.utime(desk.folder / "artifacts" / name, (old / 1000, old / 1000))
    assert await desk.retention.once() == {"tasks": 1, "events": 1, "artifacts": 1}
    assert await desk.artifacts.get(named) == b"named"
    desk.rules = replace(desk.rules, sessions=KeptSessions(days=1))
    assert await desk.retention.once() == {"sessions": 1, "artifacts": 1, "prompt_parts": 1}
    assert list((desk.folder / "artifacts").iterdir()) == []


@pytest.mark.spec("GC-DATA-330")
async def test_space_comes_back_in_steps_and_not_while_somebody_writes(desk: Desk) -> None:
    old = desk.clock.wall() - OLD
    desk.fill(lambda rows: [*(rows.task(at=old, text="x" * 30_000) for _ in range(200)), rows.event()])
    await desk.database.alone(space.take_up)
    before = desk.path.stat().st_size
    write = desk.database.write

    async def busy(ms: float) -> None:
        await FakeClock.sleep(desk.clock, ms)
        await write(lambda conn: conn.execute("INSERT INTO meta VALUES (hex(randomblob(8)), '')").rowcount)

    desk.clock.sleep = busy  # type: ignore[method-assign]
    assert (await desk.retention.once())["tasks"] == 200
    await desk.database.alone(space.take_up)
    assert desk.path.stat().st_size >= before
    del desk.clock.sleep
    await desk.retention.once()
    told = await desk.database.read(space.measure)
    assert told.returnable
    assert told.free_bytes <= space.SLACK_PAGES * 2048
    assert desk.path.stat().st_size == told.file_bytes < before / 2
    assert desk.whole()


CANARY = "canary-word-that-is-nowhere-else"


def speak(rows: Rows) -> None:
    """Conversations of all sizes side by side, with rows that grow and move between pages."""
    keys = [rows.session(name) for name in ("gone", "kept")]
    for number in range(400):
        word = CANARY if number % 2 else "harmless-word-that-is-elsewhere"
        # Names in no order: the pages they stand in are split again and again, and copies stay behind in them.
        part = sha256(str(number).encode()).hexdigest()
        rows.conn.execute("INSERT INTO prompt_part VALUES (?, ?)", (part, word * (1, 4, 11, 30)[number % 4]))
        text = f"{part} {word * (1 + number % 60)}"
        task = rows.task(session=keys[1 - number % 2], text=text, idempotency_key=f"{part}-{word}")
        # Rows before the last grow: their pages are split in the middle.
        for back in (2, 8, 14, 26):
            grown = f'"{word * (1 + (number * back) % 13)}"'
            rows.conn.execute("UPDATE step SET evidence_json = ? WHERE task_key = ?", (grown, task - back))
            rows.conn.execute("UPDATE task SET progress_json = ? WHERE key = ?", (grown, task - back))


@pytest.mark.spec("GC-DATA-327")
async def test_after_a_purge_no_byte_of_the_content_is_in_the_file_or_its_log(desk: Desk) -> None:
    desk.fill(speak)
    assert CANARY.encode() in desk.bytes()
    name = await desk.artifacts.put(CANARY.encode())
    shared = await desk.artifacts.put(b"shared")
    desk.fill(
        lambda rows: [
            rows.conn.execute("UPDATE message SET content_json = ? WHERE id = 2", (f'"{name} {shared}"',)),
            rows.conn.execute("UPDATE message SET content_json = ? WHERE id = 1", (f'"{shared}"',)),
        ]
    )
    report = await desk.purging.sessions(["gone"])
    assert report.scrubbed
    assert (report.samples, report.found) == (purge.NEEDLES, 0)
    assert (report.rows.messages, report.rows.tasks) == (200, 200)
    assert (report.artifacts, report.prompt_parts) == (1, 200)
    assert report.log_lines == 201
    assert desk.forgotten == 1
    assert CANARY.encode() not in desk.bytes()
    assert b"harmless-word" in desk.bytes()
    assert not [path for path in (desk.folder / "artifacts").iterdir() if CANARY.encode() in path.read_bytes()]
    assert await desk.artifacts.get(shared) == b"shared"
    assert desk.ask("SELECT count(*) FROM purge WHERE scrubbed_at IS NULL") == 0
    assert desk.whole()


@pytest.mark.spec("GC-DATA-328")
async def test_a_purge_that_was_cut_short_is_finished_by_the_next_round(desk: Desk) -> None:
    desk.fill(speak)
    seen = await desk.database.read(purge.survey, ["gone"])
    await desk.database.write(purge.redact, seen, desk.clock.wall())
    assert residue(desk.path, [CANARY.encode()]) == {CANARY.encode()}
    await desk.retention.once()
    assert residue(desk.path, [CANARY.encode()]) == set()
    assert desk.ask("SELECT count(*) FROM purge WHERE scrubbed_at IS NULL") == 0


@pytest.mark.spec("GC-DATA-328")
async def test_a_file_that_is_too_large_is_left_for_the_offline_command(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("goclaw.kernel.retention.SCRUB_BYTES", 1024)
    desk.fill(speak)
    report = await desk.purging.sessions(["gone"])
    assert not report.scrubbed
    assert report.found > 0
    assert await desk.database.read(purge.unscrubbed) == 1


@pytest.mark.spec("GC-DATA-328")
async def test_writes_go_on_after_the_file_was_rewritten_and_a_reader_in_the_way_is_no_failure(desk: Desk) -> None:
    desk.fill(speak)
    with closing(sqlite3.connect(desk.path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM task").fetchone()
        await desk.database.write(lambda conn: conn.execute("PRAGMA busy_timeout = 1").fetchall())
        assert not await scrub(desk.database, desk.clock)
        reader.execute("COMMIT")
    assert await scrub(desk.database, desk.clock)
    await desk.database.write(lambda conn: conn.execute("INSERT INTO meta VALUES ('after', '1')").rowcount)
    assert desk.ask("SELECT value FROM meta WHERE name = 'after'") == "1"
