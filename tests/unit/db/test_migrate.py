"""Opening: only what is ours, whole, and not newer; what is refused keeps every byte."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from goclaw.db.migrate import (
    APPLICATION_ID,
    PAGE_SIZE,
    Migration,
    open_checked,
    shipped_migrations,
    split_statements,
)
from goclaw.errors import SchemaChecksum, SchemaNewer, StartupError, StoreCorrupt, StoreForeign, StoreOpen
from tests.fakes_clock import START, FakeClock

FIRST = Migration(1, "create_a", "CREATE TABLE a (x INTEGER) STRICT;\n-- a comment at the end\n")
SECOND = Migration(2, "create_b", "CREATE TABLE b (x INTEGER) STRICT;\nINSERT INTO b VALUES (1);\n")
BROKEN = Migration(2, "break_a", "CREATE TABLE b (x INTEGER) STRICT;\nINSERT INTO nowhere VALUES (1);\n")


def made(path: Path, *migrations: Migration) -> Path:
    open_checked(path, FakeClock(), migrations or None).close()
    return path


def contents(folder: Path) -> dict[str, str]:
    return {item.name: hashlib.sha256(item.read_bytes()).hexdigest() for item in folder.iterdir()}


def pragma(conn: sqlite3.Connection, name: str) -> object:
    return conn.execute(f"PRAGMA {name}").fetchone()[0]


@pytest.mark.spec("GC-DATA-103")
def test_a_fresh_file_is_made_as_the_house_wants_it(tmp_path: Path) -> None:
    with closing(open_checked(tmp_path / "goclaw.db", FakeClock())) as conn:
        assert {
            "journal_mode": pragma(conn, "journal_mode"),
            "synchronous": pragma(conn, "synchronous"),
            "foreign_keys": pragma(conn, "foreign_keys"),
            "page_size": pragma(conn, "page_size"),
            "application_id": pragma(conn, "application_id"),
            "user_version": pragma(conn, "user_version"),
            "wal_autocheckpoint": pragma(conn, "wal_autocheckpoint"),
            "integrity_check": pragma(conn, "integrity_check"),
        } == {
            "journal_mode": "wal",
            "synchronous": 2,
            "foreign_keys": 1,
            "page_size": PAGE_SIZE,
            "application_id": APPLICATION_ID,
            "user_version": shipped_migrations()[-1].version,
            "wal_autocheckpoint": 0,
            "integrity_check": "ok",
        }
    assert PAGE_SIZE == 2048
    assert (tmp_path / "goclaw.db").stat().st_mode & 0o777 == 0o600


@pytest.mark.spec("GC-DATA-104")
def test_the_ledger_holds_the_sha256_of_each_shipped_file(tmp_path: Path) -> None:
    with closing(open_checked(tmp_path / "goclaw.db", FakeClock())) as conn:
        rows = conn.execute("SELECT version, name, checksum, applied_at FROM schema_migrations").fetchall()
    files = sorted((Path(__file__).parents[3] / "migrations").glob("*.sql"))
    assert [tuple(row) for row in rows] == [
        (int(file.name[:4]), file.name[5:-4], hashlib.sha256(file.read_bytes()).hexdigest(), START) for file in files
    ]
    assert [row["version"] for row in rows] == list(range(1, len(files) + 1))


def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    path = made(tmp_path / "goclaw.db")
    before = contents(tmp_path)
    made(path)
    assert contents(tmp_path) == before


def foreign(path: Path) -> type[StartupError]:
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("PRAGMA journal_mode = WAL")
        conn.execute("CREATE TABLE tasks (id TEXT)")
    return StoreForeign


def foreign_with_our_mark(path: Path) -> type[StartupError]:
    with closing(sqlite3.connect(path)) as conn:
        conn.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        conn.execute("CREATE TABLE tasks (id TEXT)")
    return StoreForeign


def newer(path: Path) -> type[StartupError]:
    made(path)
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("PRAGMA user_version = 9999")
    return SchemaNewer


def newer_by_its_ledger(path: Path) -> type[StartupError]:
    made(path)
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("INSERT INTO schema_migrations VALUES (9999, 'from_the_future', 'x', 0)")
    return SchemaNewer


def changed(path: Path) -> type[StartupError]:
    made(path)
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("UPDATE schema_migrations SET checksum = 'x' WHERE version = 1")
    return SchemaChecksum


def no_database(path: Path) -> type[StartupError]:
    path.write_bytes(b"This is a letter to my aunt. " * 300)
    return StoreCorrupt


def short(path: Path) -> type[StartupError]:
    path.write_bytes(b"SQLite format 3\0")
    return StoreCorrupt


def truncated(path: Path) -> type[StartupError]:
    made(path)
    body = path.read_bytes()
    path.write_bytes(body[: len(body) // 2])
    return StoreCorrupt


def scribbled(path: Path) -> type[StartupError]:
    made(path)
    body = bytearray(path.read_bytes())
    body[100:PAGE_SIZE] = b"\xff" * (PAGE_SIZE - 100)
    path.write_bytes(body)
    return StoreCorrupt


@pytest.mark.spec("GC-DATA-105")
@pytest.mark.parametrize(
    "prepare",
    [
        foreign,
        foreign_with_our_mark,
        newer,
        newer_by_its_ledger,
        changed,
        no_database,
        short,
        truncated,
        scribbled,
    ],
)
def test_a_refused_file_keeps_every_byte(tmp_path: Path, prepare: Callable[[Path], type[StartupError]]) -> None:
    path = tmp_path / "goclaw.db"
    error = prepare(path)
    before = contents(tmp_path)
    with pytest.raises(error):
        open_checked(path, FakeClock())
    assert contents(tmp_path) == before


@pytest.mark.spec("GC-DATA-105")
def test_a_refused_file_with_a_log_beside_it_keeps_both(tmp_path: Path) -> None:
    path = tmp_path / "goclaw.db"
    conn = open_checked(path, FakeClock())
    conn.execute("INSERT INTO schema_migrations VALUES (9999, 'from_the_future', 'x', 0)")
    image = tmp_path / "image"
    image.mkdir()
    for name in ("goclaw.db", "goclaw.db-wal"):
        (image / name).write_bytes((tmp_path / name).read_bytes())
    conn.close()
    before = contents(image)
    with pytest.raises(SchemaNewer):
        open_checked(image / "goclaw.db", FakeClock())
    after = contents(image)
    after.pop("goclaw.db-shm", None)  # an index of the log, made by reading; it holds no data
    assert after == before


def killed_after_the_mark(path: Path) -> None:
    with closing(sqlite3.connect(path)) as conn:
        conn.execute(f"PRAGMA page_size = {PAGE_SIZE}")
        conn.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def killed_after_the_switch_to_wal(path: Path) -> None:
    killed_after_the_mark(path)
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("PRAGMA journal_mode = WAL")


@pytest.mark.spec("GC-DATA-106")
@pytest.mark.parametrize("prepare", [Path.touch, killed_after_the_mark, killed_after_the_switch_to_wal])
def test_a_first_start_that_was_killed_is_begun_again(tmp_path: Path, prepare: Callable[[Path], None]) -> None:
    path = tmp_path / "goclaw.db"
    prepare(path)
    with closing(open_checked(path, FakeClock())) as conn:
        assert pragma(conn, "user_version") == shipped_migrations()[-1].version
        assert pragma(conn, "page_size") == PAGE_SIZE
        assert pragma(conn, "journal_mode") == "wal"


def test_a_file_that_was_killed_before_its_checkpoint_opens(tmp_path: Path) -> None:
    conn = open_checked(tmp_path / "goclaw.db", FakeClock())
    conn.execute("INSERT INTO meta VALUES ('a', 'b')")
    image = tmp_path / "image"
    image.mkdir()
    for name in ("goclaw.db", "goclaw.db-wal"):
        (image / name).write_bytes((tmp_path / name).read_bytes())
    conn.close()
    with closing(open_checked(image / "goclaw.db", FakeClock())) as again:
        assert again.execute("SELECT value FROM meta WHERE name = 'a'").fetchone()[0] == "b"


@pytest.mark.spec("GC-DATA-107")
def test_a_copy_is_taken_before_migrating(tmp_path: Path) -> None:
    path = tmp_path / "goclaw.db"
    with closing(open_checked(path, FakeClock(), (FIRST,))) as conn:
        conn.execute("INSERT INTO a VALUES (7)")
    with closing(open_checked(path, FakeClock(), (FIRST, SECOND))) as conn:
        assert conn.execute("SELECT x FROM b").fetchone()[0] == 1
        assert pragma(conn, "user_version") == 2
    copy = tmp_path / "goclaw.db.before-0002"
    with closing(open_checked(copy, FakeClock(), (FIRST,))) as old:
        assert pragma(old, "user_version") == 1
        assert old.execute("SELECT x FROM a").fetchone()[0] == 7
    assert copy.stat().st_mode == path.stat().st_mode


def test_no_copy_is_taken_when_there_is_nothing_to_do(tmp_path: Path) -> None:
    made(made(tmp_path / "goclaw.db"))
    assert not list(tmp_path.glob("*.before-*"))


@pytest.mark.spec("GC-DATA-107")
def test_a_migration_that_fails_leaves_the_schema_as_it_was(tmp_path: Path) -> None:
    path = made(tmp_path / "goclaw.db", FIRST)
    with pytest.raises(StoreOpen, match="nowhere"):
        open_checked(path, FakeClock(), (FIRST, BROKEN))
    with closing(open_checked(path, FakeClock(), (FIRST,))) as conn:
        names = {row[0] for row in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert names == {"a", "schema_migrations"}
        assert pragma(conn, "user_version") == 1


def test_a_folder_in_the_place_of_the_file_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(StoreOpen):
        open_checked(tmp_path, FakeClock())


def test_statements_are_split_where_they_end() -> None:
    script = (
        "-- first\nCREATE TABLE a (x);\n"
        "CREATE TRIGGER t AFTER INSERT ON a BEGIN\n  DELETE FROM a;\n  DELETE FROM a;\nEND;\n-- the end\n"
    )
    statements = split_statements(script)
    assert len(statements) == 2
    assert statements[1].startswith("CREATE TRIGGER")
    with pytest.raises(ValueError, match="unfinished statement: DELETE FROM a"):
        split_statements("DELETE FROM a")


def test_migrations_are_numbered_without_a_hole() -> None:
    assert [one.version for one in shipped_migrations()] == list(range(1, len(shipped_migrations()) + 1))


def test_a_first_start_that_was_killed_before_our_name_was_in_the_file_is_begun_again(tmp_path: Path) -> None:
    path = tmp_path / "goclaw.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("PRAGMA page_size = 2048")
        conn.execute("PRAGMA auto_vacuum = INCREMENTAL")
    assert path.stat().st_size > 0
    with closing(open_checked(path, FakeClock())) as conn:
        assert conn.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
        assert conn.execute("PRAGMA auto_vacuum").fetchone()[0] == 2


@pytest.mark.spec("GC-DATA-330")
def test_a_fresh_database_can_give_its_free_pages_back_and_overwrites_what_is_deleted(tmp_path: Path) -> None:
    with closing(open_checked(tmp_path / "goclaw.db", FakeClock())) as conn:
        assert conn.execute("PRAGMA auto_vacuum").fetchone()[0] == 2
        assert conn.execute("PRAGMA secure_delete").fetchone()[0] == 1
