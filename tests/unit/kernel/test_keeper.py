"""Backups and verification beside a database that is in use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from goclaw.config.home import Home, lock_home
from goclaw.core.outcome import Succeeded
from goclaw.db import Connection
from goclaw.errors import BadRequest, Conflict, HomeLocked, NotFound, StoreFull
from goclaw.kernel import backup as making
from goclaw.kernel.backup import folder_of, read_backup
from goclaw.kernel.keeper import Keeper, verify_stopped
from goclaw.store import events, meta
from tests.fakes_clock import FakeClock
from tests.worked import Work, work_through


@dataclass
class House:
    """A keeper, and what it told."""

    work: Work
    keeper: Keeper
    told: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    counted: list[str] = field(default_factory=list)


@asynccontextmanager
async def opened(home: Home) -> AsyncIterator[House]:
    work = Work(home.database)
    work.clock = FakeClock()
    told: list[tuple[str, Mapping[str, Any]]] = []
    counted: list[str] = []

    def emit(
        event_type: str, payload: Mapping[str, Any], *, task_id: str | None = None, session_id: str | None = None
    ) -> None:
        told.append((event_type, payload))

    keeper = Keeper(home, work.database, _Rushing(), "log-1", emit, counted.append)
    async with work.database:
        await work.database.write(meta.put, "log_id", "log-1")
        yield House(work, keeper, told, counted)


class _Rushing(FakeClock):
    """A clock on which nobody waits."""

    async def sleep(self, ms: float) -> None:
        await asyncio.sleep(0)


@pytest.fixture
async def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.root.mkdir(mode=0o700)
    await work_through(home.database)
    return home


@pytest.mark.spec("GC-DATA-219")
async def test_a_backup_beside_the_work_holds_what_was_acknowledged_and_notes_the_heads(home: Home) -> None:
    async with opened(home) as house:
        task = await house.work.do(Succeeded())
        made = await house.keeper.create(None, secrets=False)
        assert made.path.parent == folder_of(home)
        kinds = [event.event_type for event in await house.work.database.read(events.read_after, 0)]
        assert kinds[-1] == "log.noted"
        assert made.manifest.event.id == len(kinds)
        assert [kind for kind, _ in house.told] == ["backup.created"]
        assert house.counted == ["made"]
        assert (await house.keeper.check(str(made.path))).ok
        listed = await house.keeper.listed()
        assert [one["path"] for one in listed["backups"]] == [str(made.path)]
        assert listed["last"]["path"] == str(made.path)
        assert task


@pytest.mark.spec("GC-DATA-219")
async def test_a_backup_that_cannot_be_begins_nothing(home: Home, tmp_path: Path) -> None:
    async with opened(home) as house:
        before = await house.work.queue.head()
        (tmp_path / "mine").write_text("mine")
        for path, kind in (
            ("relative", BadRequest),
            (str(tmp_path / "mine"), Conflict),
            ("/nowhere/b.tar", BadRequest),
        ):
            with pytest.raises(kind):
                await house.keeper.create(path, secrets=False)
        for path in ("relative", str(tmp_path / "none")):
            with pytest.raises((BadRequest, NotFound)):
                await house.keeper.check(path)
        assert await house.work.queue.head() == before
        assert house.told == []


@pytest.mark.spec("GC-DATA-219")
async def test_a_backup_that_fails_is_told_and_counted(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    async with opened(home) as house:
        monkeypatch.setattr(making, "_pack", full)
        with pytest.raises(StoreFull):
            await house.keeper.create(None, secrets=False)
        assert house.counted == ["failed"]
        assert [(kind, said["error_code"]) for kind, said in house.told] == [("backup.failed", "STORE_FULL")]
        assert list(folder_of(home).iterdir()) == []


@pytest.mark.spec("GC-DATA-219")
async def test_one_backup_and_one_verification_at_a_time(home: Home) -> None:
    async with opened(home) as house, asyncio.TaskGroup() as group:
        first = group.create_task(house.keeper.create(None, secrets=False))
        look = group.create_task(house.keeper.verify())
        await asyncio.sleep(0)
        with pytest.raises(Conflict, match="is being made"):
            await house.keeper.create(None, secrets=False)
        with pytest.raises(Conflict, match="is under way"):
            await house.keeper.verify()
        assert (await look).ok
        assert read_backup((await first).path).manifest.log_id == "log-1"


@pytest.mark.spec("GC-DATA-207")
async def test_a_verification_beside_the_work_finds_and_tells(home: Home) -> None:
    async with opened(home) as house:
        assert (await house.keeper.verify()).ok
        assert house.told == []
        await house.work.database.write(_harm, "UPDATE task SET deaths = 5 WHERE key = 1")
        assert not (await house.keeper.verify()).ok
        await house.work.database.write(_harm, "UPDATE event SET created_at = 1 WHERE id = 5")
        report = await house.keeper.verify()
        assert [kind for kind, _ in house.told] == ["security.state_unexplained", "security.chain_broken"]
        assert house.told[1][1]["found"] == report.found
        assert "event 5: row changed" in house.told[1][1]["findings"]


def _harm(conn: Connection, sql: str) -> None:
    conn.execute(sql)


@pytest.mark.spec("GC-DATA-204")
async def test_a_database_put_back_to_an_earlier_state_shows_against_its_backups(home: Home, tmp_path: Path) -> None:
    earlier = home.database.read_bytes()
    async with opened(home) as house:
        await house.work.do(Succeeded())
        made = await house.keeper.create(None, secrets=False)
    home.database.write_bytes(earlier)
    home.database.with_name("goclaw.db-wal").unlink(missing_ok=True)
    async with opened(home) as house:
        report = await house.keeper.verify()
        assert {finding.table for finding in report.findings} == {"event", "audit_log"}
        assert all(f"backup {made.path.name} notes" in finding.what for finding in report.findings)


@pytest.mark.spec("GC-DATA-204")
async def test_a_start_looks_at_the_heads_noted_last_and_notes_its_own(home: Home) -> None:
    async with opened(home) as house:
        before = await house.work.queue.head()
        await house.keeper.begin()
        await house.work.note()
        assert await house.work.queue.head() == before + 2
        assert house.told == []
        await house.work.database.write(_harm, "PRAGMA defer_foreign_keys = ON")
        await house.work.database.write(_harm, f"DELETE FROM event WHERE id > {before}")  # noqa: S608 (a number)
        await house.keeper.begin()
        assert [kind for kind, _ in house.told] == ["security.chain_broken"]
        assert "cut off" in house.told[0][1]["findings"][0]


@pytest.mark.spec("GC-DATA-208")
async def test_a_stopped_home_is_verified_without_a_change(home: Home) -> None:
    before = home.database.read_bytes()
    assert verify_stopped(home).ok
    assert home.database.read_bytes() == before
    with lock_home(home), pytest.raises(HomeLocked):
        verify_stopped(home)
    with pytest.raises(NotFound):
        verify_stopped(Home(home.root / "nobody"))
    assert not (home.root / "nobody").exists()
    async with opened(home) as house:
        await house.work.database.write(_harm, "PRAGMA user_version = 1")
    with pytest.raises(Conflict, match="schema 1"):
        verify_stopped(home)


@pytest.mark.spec("GC-DATA-208")
async def test_damage_of_a_stopped_home_is_a_finding(home: Home) -> None:
    with home.database.open("r+b") as file:
        file.seek(6_000)
        file.write(b"\xff" * 40_000)
    report = verify_stopped(home)
    assert not report.ok
    assert {finding.table for finding in report.findings} == {"file"}
