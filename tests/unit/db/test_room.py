"""The reserve of the WAL, and when the disk counts as full."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from goclaw.clock import SystemClock
from goclaw.db import Database, room
from goclaw.db import writer as writer_module
from goclaw.db.migrate import open_checked
from goclaw.db.room import RESERVE_BYTES, Room, reserve
from goclaw.errors import GoclawError, StoreFailed, StoreFull
from tests.unit.db.test_writer import names, put


class Disk:
    """What the system says of the disk, as a test wants it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free: int | None = 1 << 40
        self.refuses: int | None = None
        self._fallocate = os.posix_fallocate
        monkeypatch.setattr(room, "free_bytes", lambda _: self.free)
        monkeypatch.setattr(os, "posix_fallocate", self._allocate)

    def _allocate(self, fd: int, offset: int, size: int) -> None:
        if self.refuses is not None:
            raise OSError(self.refuses, "no")
        self._fallocate(fd, offset, size)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def watched(path: Path) -> tuple[sqlite3.Connection, Room, list[bool]]:
    conn = open_checked(path, SystemClock())
    told: list[bool] = []
    return conn, Room(conn, told.append), told


@pytest.mark.spec("GC-REL-201")
def test_the_log_has_its_reserve_and_what_is_in_it_is_still_read(tmp_path: Path) -> None:
    conn, watch, told = watched(tmp_path / "d.db")
    put(conn, "a")
    watch.look()
    put(conn, "b")
    wal = tmp_path / "d.db-wal"
    assert wal.stat().st_size >= RESERVE_BYTES
    assert names(conn) == {"a", "b"}
    kept = tmp_path / "kept"
    kept.mkdir()
    for name in ("d.db", "d.db-wal"):
        (kept / name).write_bytes((tmp_path / name).read_bytes())
    again = open_checked(kept / "d.db", SystemClock())
    assert names(again) == {"a", "b"}, "as a successor finds it after a kill"
    for one in (conn, again):
        assert one.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        one.close()
    assert told == []


@pytest.mark.spec("GC-REL-201")
def test_a_disk_that_has_no_room_for_the_reserve_is_full(tmp_path: Path, disk: Disk) -> None:
    conn, watch, told = watched(tmp_path / "d.db")
    disk.refuses = errno.ENOSPC
    watch.look()
    assert (watch.full, told) == (True, [True])
    watch.look()
    assert told == [True], "said once"
    disk.refuses = None
    watch.look()
    assert (watch.full, told) == (False, [True, False])
    conn.close()


def test_a_file_system_that_cannot_reserve_is_not_full(tmp_path: Path, disk: Disk) -> None:
    conn, watch, told = watched(tmp_path / "d.db")
    disk.refuses = errno.EOPNOTSUPP
    watch.look()
    assert told == []
    conn.close()
    assert reserve(tmp_path / "absent"), "nothing to be reserved, and nothing made"
    assert not (tmp_path / "absent").exists()


@pytest.mark.spec("GC-REL-201")
def test_the_end_of_the_disk_is_seen_before_it_is_met(tmp_path: Path, disk: Disk) -> None:
    conn, watch, told = watched(tmp_path / "d.db")
    watch.glance(1_000)
    disk.free = room.FLOOR_BYTES - 1
    watch.glance(1_000 + room.GLANCE_MS - 1)
    assert told == [], "looked at just now"
    watch.glance(1_000 + room.GLANCE_MS)
    assert told == [True]
    disk.free = None
    watch.look()
    assert told == [True, False], "where the system does not tell, only meeting it counts"
    conn.close()


class Filled(sqlite3.Connection):
    """Its checkpoints meet a full disk while `full` and fail while `broken`; its commits meet one while `spent`."""

    full = False
    spent = False
    broken = False

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        if self.broken and sql.startswith("PRAGMA wal_checkpoint"):
            raise sqlite3.OperationalError("disk I/O error")
        if (self.full and sql.startswith("PRAGMA wal_checkpoint")) or (self.spent and sql == "COMMIT"):
            raise sqlite3.OperationalError("database or disk is full")
        return super().execute(sql, *args)


@pytest.fixture
def filled(monkeypatch: pytest.MonkeyPatch) -> type[Filled]:
    connect = sqlite3.connect
    monkeypatch.setattr(
        "goclaw.db.migrate.sqlite3.connect", lambda *args, **named: connect(*args, factory=Filled, **named)
    )
    monkeypatch.setattr(Filled, "full", False)
    monkeypatch.setattr(Filled, "spent", False)
    monkeypatch.setattr(Filled, "broken", False)
    monkeypatch.setattr(writer_module, "IDLE_CHECKPOINT_S", 0.01)
    monkeypatch.setattr(writer_module, "LOOK_S", 0.01)
    return Filled


@pytest.mark.spec("GC-REL-202")
@pytest.mark.spec("GC-REL-203")
async def test_a_checkpoint_that_finds_no_room_is_told_and_writing_goes_on_until_it_does(
    tmp_path: Path, filled: type[Filled], disk: Disk
) -> None:
    heard: asyncio.Queue[bool] = asyncio.Queue()
    async with Database(tmp_path / "d.db", SystemClock(), on_room=heard.put_nowait) as database:
        filled.full = True
        await database.write(put, "a")
        assert await heard.get() is True
        await database.write(put, "b")
        filled.full = False
        assert await heard.get() is False, "by itself, though nothing is written"
        assert await database.read(names) == {"a", "b"}


@pytest.mark.spec("GC-REL-202")
async def test_a_commit_that_finds_no_room_is_refused_and_told(
    tmp_path: Path, filled: type[Filled], disk: Disk
) -> None:
    heard: asyncio.Queue[bool] = asyncio.Queue()
    async with Database(tmp_path / "d.db", SystemClock(), on_room=heard.put_nowait) as database:
        await database.write(put, "a")
        filled.spent = filled.full = True
        with pytest.raises(StoreFull):
            await database.write(put, "b")
        assert await heard.get() is True
        filled.spent = filled.full = False
        assert await heard.get() is False
        assert await database.read(names) == {"a"}


@pytest.mark.spec("GC-REL-220")
async def test_a_checkpoint_that_fails_for_another_reason_ends_the_store(
    tmp_path: Path, filled: type[Filled], disk: Disk
) -> None:
    heard: asyncio.Queue[GoclawError] = asyncio.Queue()
    async with Database(tmp_path / "d.db", SystemClock(), on_failure=heard.put_nowait) as database:
        filled.broken = True
        await database.write(put, "a")
        assert (await heard.get()).code == "STORE_FAILED"
        with pytest.raises(StoreFailed):
            await database.write(put, "b")
        filled.broken = False
