"""A look at a file changes nothing in it and finds what is broken."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from goclaw.core.task import NewTask
from goclaw.db.damage import is_damage
from goclaw.db.migrate import connect
from goclaw.kernel import submission
from goclaw.store import integrity, meta
from tests.scratch import BOUNDS, commit, scratch


def filled(path: Path, *, closed: bool = False, tasks: int = 300) -> Path:
    """A database of some pages, left open as a crash leaves it unless `closed`."""
    conn = scratch(path)
    commit(conn, meta.open_log, "log", 5)
    for number in range(tasks):
        new = NewTask(kind="noop", payload={"sleep_ms": number})
        commit(conn, submission.submit, new, f"task-{number}", BOUNDS, 10)
    if closed:
        commit(conn, meta.close_log)
    conn.close()
    return path


def hurt(path: Path) -> None:
    """Overwrite some pages in the second half of the file, behind the schema and the roots of the tables."""
    body = bytearray(path.read_bytes())
    middle = len(body) * 3 // 4 // 2048 * 2048
    body[middle : middle + 4 * 2048] = b"\xa5" * (4 * 2048)
    path.write_bytes(body)


def contents(folder: Path) -> dict[str, bytes]:
    return {one.name: one.read_bytes() for one in folder.iterdir() if not one.name.endswith("-shm")}


@pytest.mark.spec("GC-REL-206")
def _read_all(conn: sqlite3.Connection) -> None:
    for table in ("task", "event", "task_input"):
        conn.execute(f"SELECT * FROM {table} ORDER BY 2").fetchall()  # noqa: S608 (names from here)


def test_an_unclean_stop_is_found_and_a_whole_file_passes(tmp_path: Path) -> None:
    path = filled(tmp_path / "d.db")
    assert integrity.look(path) == integrity.Found(clean=False, damage=None, checked=True)


@pytest.mark.spec("GC-REL-206")
def test_a_damaged_file_is_found_and_keeps_every_byte(tmp_path: Path) -> None:
    path = filled(tmp_path / "d.db")
    hurt(path)
    before = contents(tmp_path)
    found = integrity.look(path)
    assert found.damage
    assert not found.clean
    assert contents(tmp_path) == before


@pytest.mark.spec("GC-REL-206")
def test_a_file_with_a_log_beside_it_keeps_every_byte_of_both(tmp_path: Path) -> None:
    path = filled(tmp_path / "d.db")
    writing = connect(path)
    commit(writing, meta.put, "a", "b")
    copied = tmp_path / "copy"
    copied.mkdir()
    for name in ("d.db", "d.db-wal"):
        (copied / name).write_bytes((tmp_path / name).read_bytes())
    writing.close()
    hurt(copied / "d.db")
    before = contents(copied)
    assert set(before) == {"d.db", "d.db-wal"}
    assert integrity.look(copied / "d.db").damage
    assert contents(copied) == before


@pytest.mark.spec("GC-REL-207")
def test_a_large_file_is_not_checked_at_once_unless_it_is_suspect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = filled(tmp_path / "d.db")
    hurt(path)
    monkeypatch.setattr(integrity, "CHECKED_AT_ONCE_BYTES", 1_000)
    assert integrity.look(path) == integrity.Found(clean=False, damage=None, checked=False)
    assert integrity.look(path, suspect=True).damage


def test_after_a_clean_stop_only_a_suspect_file_is_checked(tmp_path: Path) -> None:
    path = filled(tmp_path / "d.db", closed=True)
    hurt(path)
    assert integrity.look(path) == integrity.Found(clean=True, damage=None, checked=True)
    assert integrity.look(path, suspect=True).damage


@pytest.mark.parametrize("content", [None, b"", b"no database at all" * 100])
def test_what_is_no_database_is_left_to_the_opening(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "d.db"
    if content is not None:
        path.write_bytes(content)
    assert integrity.look(path).damage is None
    assert integrity.unclean_stops(path) == ()


@pytest.mark.spec("GC-REL-207")
def test_a_check_by_table_finds_damage_and_can_be_stopped(tmp_path: Path) -> None:
    path = filled(tmp_path / "d.db")
    assert integrity.check_by_table(path, lambda: False) is None
    hurt(path)
    assert integrity.check_by_table(path, lambda: False)
    asked: list[int] = []

    def stopped() -> bool:
        asked.append(1)
        return True

    assert integrity.check_by_table(path, stopped) is None
    assert asked == [1], "no table was looked at"


@pytest.mark.spec("GC-REL-208")
def test_damage_is_told_from_other_errors(tmp_path: Path) -> None:
    path = filled(tmp_path / "d.db")
    hurt(path)
    conn = sqlite3.connect(path)
    with pytest.raises(sqlite3.DatabaseError) as damaged:
        _read_all(conn)
    with pytest.raises(sqlite3.OperationalError) as other:
        conn.execute("SELECT * FROM nowhere")
    conn.close()
    assert is_damage(damaged.value)
    assert is_damage(ExceptionGroup("part", [ValueError(), damaged.value]))
    assert not is_damage(other.value)
    assert not is_damage(ValueError("malformed"))


def test_unclean_stops_can_be_read_without_a_daemon(tmp_path: Path) -> None:
    path = filled(tmp_path / "d.db", tasks=1)
    conn = connect(path)
    commit(conn, meta.open_log, "log", 6)
    conn.close()
    assert integrity.unclean_stops(path) == (6,)
