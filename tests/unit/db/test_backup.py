"""A consistent copy of the database while it is written, and a reader that changes nothing."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from goclaw.db import Database
from goclaw.db.backup import check_integrity, copy_database, open_read_only, schema_of
from goclaw.db.migrate import APPLICATION_ID, PAGE_SIZE, shipped_migrations
from goclaw.errors import StoreCorrupt, StoreOpen
from goclaw.store import meta
from tests.fakes_clock import FakeClock
from tests.scratch import commit, reopen, scratch


@pytest.mark.spec("GC-DATA-212")
def test_the_copy_is_whole_and_ours(tmp_path: Path) -> None:
    with closing(scratch(tmp_path / "d.db")) as conn:
        commit(conn, meta.put, "a", "1")
        copy_database(tmp_path / "d.db", tmp_path / "copy.db")
        commit(conn, meta.put, "a", "2")
    assert check_integrity(tmp_path / "copy.db") == []
    assert schema_of(tmp_path / "copy.db") == shipped_migrations()[-1].version
    with open_read_only(tmp_path / "copy.db") as copy:
        assert meta.get(copy, "a") == "1"
        pragmas = [copy.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "page_size")]
        assert pragmas == [APPLICATION_ID, PAGE_SIZE]


@pytest.mark.spec("GC-DATA-212")
async def test_a_copy_made_while_others_write_holds_what_was_acknowledged_before_it_began(tmp_path: Path) -> None:
    async with Database(tmp_path / "d.db", FakeClock()) as database:
        acknowledged, copying = 0, True

        async def write() -> None:
            nonlocal acknowledged
            while copying:
                await database.write(meta.put, "count", str(acknowledged + 1))
                acknowledged += 1

        async with asyncio.TaskGroup() as group:
            group.create_task(write())
            for n in range(5):
                before = acknowledged
                await asyncio.to_thread(copy_database, tmp_path / "d.db", tmp_path / f"copy{n}.db")
                with open_read_only(tmp_path / f"copy{n}.db") as copy:
                    assert int(meta.get(copy, "count") or 0) >= before
                assert check_integrity(tmp_path / f"copy{n}.db") == []
            copying = False
        assert acknowledged > 0


@pytest.mark.spec("GC-DATA-212")
def test_a_reader_leaves_every_byte_and_makes_no_file(tmp_path: Path) -> None:
    scratch(tmp_path / "d.db").close()
    before = (tmp_path / "d.db").read_bytes()
    with open_read_only(tmp_path / "d.db") as conn, pytest.raises(sqlite3.OperationalError):
        conn.execute("INSERT INTO meta VALUES ('a', 'b')")
    assert check_integrity(tmp_path / "d.db") == []
    assert (tmp_path / "d.db").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["d.db"]


@pytest.mark.spec("GC-DATA-212")
def test_damage_is_told_from_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(StoreOpen):
        copy_database(tmp_path / "none.db", tmp_path / "copy.db")
    scratch(tmp_path / "d.db").close()
    with (tmp_path / "d.db").open("r+b") as file:
        file.seek(PAGE_SIZE)
        file.write(b"\xff" * PAGE_SIZE * 20)
    assert check_integrity(tmp_path / "d.db")
    with pytest.raises(StoreCorrupt):
        copy_database(tmp_path / "d.db", tmp_path / "copy.db")


def test_a_row_that_refers_to_nothing_is_damage_too(tmp_path: Path) -> None:
    with closing(scratch(tmp_path / "d.db")) as conn:
        conn.execute("PRAGMA foreign_keys = OFF")
        conn.execute("INSERT INTO task_input VALUES (77, '{}')")
    with closing(reopen(tmp_path / "d.db")):
        pass
    assert check_integrity(tmp_path / "d.db") == ["row 77 of task_input names a row of task that is not there"]
