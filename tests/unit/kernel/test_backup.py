"""A backup holds all that a home means, a damaged one is told, and a fresh home is made of a whole one."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from goclaw.config.home import Home, lock_home
from goclaw.db import archive
from goclaw.db.archive import ArchiveWriter
from goclaw.errors import BackupDamaged, BadRequest, Conflict, GoclawError, HomeLocked, NotFound, StoreFull
from goclaw.kernel import backup as making
from goclaw.kernel.backup import anchors, backups, create, default_path, last_backup, read_backup
from goclaw.kernel.restore import check_backup, restore
from goclaw.store import meta
from goclaw.store.verify import verify
from tests.fakes_clock import START, FakeClock
from tests.scratch import reopen
from tests.worked import work_through

KEPT = "a" * 64
LOST = "b" * 64


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("worked") / "d.db"
    asyncio.run(work_through(path))
    with closing(reopen(path)) as conn:
        conn.execute("INSERT INTO meta VALUES ('log_id', 'log-1')")
        conn.execute("UPDATE task_input SET payload_json = ? WHERE task_key = 1", (json.dumps({"artifact": KEPT}),))
    return path


@pytest.fixture
def home(template: Path, tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    for name, text in {
        "config.yaml": "log_level: info\n",
        "policy.yaml": "{}\n",
        "SOUL.md": "soul",
        ".env": "KEY=secret",
        "auth.token": "token",
        "skills/weather/SKILL.md": "weather",
        "skills/weather/run.sh": "#!/bin/sh",
        "installed/x/SKILL.md": "x",
        "secrets/store.enc": "ciphertext",
        "secrets/master.key": "key",
        "logs/system.jsonl": "log",
        "workspace/mine.txt": "mine",
        f"artifacts/{KEPT}": "kept",
        f"artifacts/{LOST}": "lost",
    }.items():
        (home.root / name).parent.mkdir(parents=True, exist_ok=True)
        (home.root / name).write_text(text)
    (home.root / "skills/weather/run.sh").chmod(0o755)
    (home.root / "skills/weather/link").symlink_to("/etc/passwd")
    shutil.copy(template, home.database)
    return home


def names(path: Path) -> list[str]:
    return [one.name for one in read_backup(path).manifest.files]


@pytest.mark.spec("GC-DATA-213")
def test_a_backup_holds_what_a_home_means_and_no_token_no_key(home: Home, tmp_path: Path) -> None:
    made = create(home, tmp_path / "b.tar", START)
    assert names(made.path) == [
        "goclaw.db", "config.yaml", "policy.yaml", "SOUL.md",
        "skills/weather/SKILL.md", "skills/weather/run.sh", "installed/x/SKILL.md", "secrets/store.enc",
        f"artifacts/{KEPT}",
    ]  # fmt: skip
    assert made.manifest.left_out == ("skills/weather/link", "secrets/master.key")
    assert ".env" in names(create(home, tmp_path / "c.tar", START, secrets=True).path)
    assert made.path.stat().st_mode & 0o777 == 0o600
    assert made.bytes == made.path.stat().st_size
    assert (made.manifest.log_id, made.manifest.created_at, made.manifest.schema > 0) == ("log-1", START, True)
    assert read_backup(made.path).manifest.as_json() == made.manifest.as_json()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.tar", "c.tar", "home"]


@pytest.mark.spec("GC-DATA-213")
def test_a_whole_backup_is_found_whole(home: Home, tmp_path: Path) -> None:
    made = create(home, tmp_path / "b.tar", START)
    checked = check_backup(made.path, FakeClock())
    assert checked.ok
    assert checked.report is not None
    assert (checked.report.event_head, checked.report.audit_head) == (made.manifest.event, made.manifest.audit)
    assert checked.report.tasks > 5


@pytest.mark.spec("GC-DATA-214")
def test_a_backup_never_replaces_a_file_and_leaves_nothing_when_it_fails(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    for name in ("mine", "gone"):
        with pytest.raises(Conflict, match="already"):
            create(home, tmp_path / name, START)
    for path in (Path("relative.tar"), tmp_path / "no folder" / "b.tar"):
        with pytest.raises(BadRequest):
            create(home, path, START)
    with pytest.raises(NotFound):
        create(Home(tmp_path / "nobody"), tmp_path / "b.tar", START)
    monkeypatch.setattr(making, "free_bytes", lambda _: 1024)
    with pytest.raises(StoreFull, match="MiB"):
        create(home, tmp_path / "b.tar", START)
    monkeypatch.undo()

    def broken(*_: object) -> None:
        raise OSError(5, "broken")

    for where, name in ((ArchiveWriter, "add"), (ArchiveWriter, "close"), (os, "rename")):
        with monkeypatch.context() as patch:
            patch.setattr(where, name, broken)
            with pytest.raises(BadRequest, match="broken"):
                create(home, tmp_path / "b.tar", START)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gone", "home", "mine"]
    assert (tmp_path / "mine").read_text() == "mine"
    assert last_backup(home) is None


@pytest.mark.spec("GC-DATA-214")
def test_what_a_killed_backup_left_is_swept_by_the_next(home: Home, tmp_path: Path) -> None:
    left = tmp_path / f".goclaw-backup-{home.home_mark[:12]}-x.part"
    other = tmp_path / ".goclaw-backup-anotherhome0-x.part"
    for folder in (left, other):
        folder.mkdir()
        (folder / "goclaw.db").write_text("half")
    create(home, tmp_path / "b.tar", START)
    assert not left.exists()
    assert other.exists()


@pytest.mark.spec("GC-DATA-214")
def test_a_damaged_database_gives_no_backup(home: Home, tmp_path: Path) -> None:
    with home.database.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 40_000)
    with pytest.raises(GoclawError, match="damaged"):
        create(home, tmp_path / "b.tar", START)
    assert not (tmp_path / "b.tar").exists()


@pytest.mark.spec("GC-DATA-215")
def test_a_restored_home_is_the_old_one_with_a_log_of_its_own(home: Home, tmp_path: Path) -> None:
    made = create(home, tmp_path / "b.tar", START)
    fresh = Home(tmp_path / "fresh")
    done = restore(made.path, fresh, FakeClock())
    assert done.report.ok
    for name in ("config.yaml", "policy.yaml", "SOUL.md", "skills/weather/SKILL.md", f"artifacts/{KEPT}"):
        assert (fresh.root / name).read_bytes() == (home.root / name).read_bytes()
    assert sorted(path.name for path in fresh.root.iterdir()) == [
        "SOUL.md", "artifacts", "config.yaml", "goclaw.db", "installed", "policy.yaml", "secrets", "skills",
    ]  # fmt: skip
    assert (fresh.root / "skills/weather/run.sh").stat().st_mode & 0o777 == 0o700
    assert (fresh.root / "config.yaml").stat().st_mode & 0o777 == 0o600
    assert fresh.root.stat().st_mode & 0o777 == 0o700
    with closing(reopen(fresh.database)) as conn:
        assert meta.get(conn, "log_id") == done.log_id != "log-1"
        assert verify(conn).findings == ()
        rows = conn.execute(
            "SELECT event_type, payload_json FROM task_events ORDER BY event_id DESC LIMIT 2"
        ).fetchall()
        assert [row["event_type"] for row in rows] == ["log.noted", "log.restored"]
        assert json.loads(rows[1]["payload_json"]) == {
            "from_log_id": "log-1",
            "from_event_id": made.manifest.event.id,
            "backup_created_at": START,
        }
        assert conn.execute("SELECT count(*) FROM pause").fetchone()[0] == 0
        wanted = conn.execute("SELECT id, state, attempt FROM task ORDER BY id").fetchall()
    with closing(reopen(home.database)) as conn:
        assert conn.execute("SELECT id, state, attempt FROM task ORDER BY id").fetchall() == wanted


@pytest.mark.spec("GC-DATA-215")
def test_a_home_can_be_restored_paused(home: Home, tmp_path: Path) -> None:
    made = create(home, tmp_path / "b.tar", START)
    fresh = Home(tmp_path / "fresh")
    fresh.root.mkdir()
    restore(made.path, fresh, FakeClock(), paused=True)
    with closing(reopen(fresh.database)) as conn:
        assert [tuple(row) for row in conn.execute("SELECT scope, name FROM pause")] == [("all", "")]
        assert verify(conn).ok


@pytest.mark.spec("GC-DATA-216")
def test_a_home_that_is_not_empty_is_refused_untouched(home: Home, tmp_path: Path) -> None:
    made = create(home, tmp_path / "b.tar", START)
    fresh = Home(tmp_path / "fresh")
    fresh.root.mkdir()
    (fresh.root / ".hidden").write_text("mine")
    with pytest.raises(Conflict, match=r"it holds \.hidden"):
        restore(made.path, fresh, FakeClock())
    assert [path.name for path in fresh.root.iterdir()] == [".hidden"]
    (tmp_path / "file").write_text("mine")
    with pytest.raises(Conflict, match="no folder"):
        restore(made.path, Home(tmp_path / "file"), FakeClock())


@pytest.mark.spec("GC-DATA-216")
def test_a_home_that_a_daemon_holds_is_refused(home: Home, tmp_path: Path) -> None:
    made = create(home, tmp_path / "b.tar", START)
    fresh = Home(tmp_path / "fresh")
    with lock_home(fresh), pytest.raises(HomeLocked):
        restore(made.path, fresh, FakeClock())
    assert list(fresh.root.iterdir()) == []


def repacked(path: Path, target: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The backup with other contents and a manifest that fits them, as somebody hostile would make it."""
    found = read_backup(path)
    with path.open("rb") as file:
        bodies = {one.name: b"".join(archive.read_body(file, one)) for one in found.manifest.files}
    change(bodies)
    with target.open("wb") as out:
        writer = ArchiveWriter(out, START)
        for name, body in bodies.items():
            writer.add_bytes(name, body)
        told = found.manifest.as_json()
        told["files"] = [{"name": one.name, "size": one.size, "sha256": one.sha256} for one in writer.members]
        writer.add_bytes("manifest.json", json.dumps(told).encode())
        writer.close()
    return target


@pytest.mark.spec("GC-DATA-217")
@pytest.mark.parametrize("name", ["auth.token", "run/gateway.json", "logs/system.jsonl", "goclaw.db-wal", "skills"])
def test_a_file_that_belongs_into_no_home_is_refused(home: Home, tmp_path: Path, name: str) -> None:
    made = create(home, tmp_path / "b.tar", START)
    path = repacked(made.path, tmp_path / "evil.tar", lambda bodies: bodies.update({name: b"evil"}))
    with pytest.raises(BackupDamaged, match="belongs into no home"):
        restore(path, Home(tmp_path / "fresh"), FakeClock())
    assert not (tmp_path / "fresh").exists()


@pytest.mark.spec("GC-DATA-217")
def test_every_changed_byte_is_told_and_never_restored(home: Home, tmp_path: Path) -> None:
    made = create(home, tmp_path / "b.tar", START)
    whole = made.path.read_bytes()
    for member in made.manifest.files:
        harmed = bytearray(whole)
        harmed[member.offset + member.size // 2] ^= 1
        made.path.write_bytes(harmed)
        assert check_backup(made.path, FakeClock()).damage == (f"{member.name} is not what the manifest says",)
        with pytest.raises(BackupDamaged, match=member.name):
            restore(made.path, Home(tmp_path / "fresh"), FakeClock())
        assert not (tmp_path / "fresh").exists()


@pytest.mark.spec("GC-DATA-217")
def test_a_file_that_is_no_backup_or_only_a_part_of_one_is_told(home: Home, tmp_path: Path) -> None:
    made = create(home, tmp_path / "b.tar", START)
    whole = made.path.read_bytes()
    for body in (b"", b"x" * 5_000, bytes(5_000), whole[: len(whole) // 2], whole[:-1_600], b"\0" * 10 + whole):
        made.path.write_bytes(body)
        with pytest.raises(BackupDamaged):
            read_backup(made.path)
    with pytest.raises(NotFound):
        read_backup(tmp_path / "none.tar")
    with pytest.raises(NotFound):
        read_backup(tmp_path)
    os.mkfifo(tmp_path / "pipe")


@pytest.mark.spec("GC-DATA-217")
@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"files": []},
        {"files": "none"},
        {"event": {"id": 1, "chain": "zz"}},
        {"created_at": None},
        {"files": [{"name": "goclaw.db", "size": 1, "sha256": "0" * 64}]},
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(home: Home, tmp_path: Path, change: dict[str, object]) -> None:
    made = create(home, tmp_path / "b.tar", START)
    with (tmp_path / "evil.tar").open("wb") as out:
        writer = ArchiveWriter(out, START)
        writer.add_bytes("goclaw.db", b"db")
        writer.add_bytes("manifest.json", json.dumps(made.manifest.as_json() | change).encode())
        writer.close()
    with pytest.raises(BackupDamaged):
        read_backup(tmp_path / "evil.tar")


def harm_database(sql: str, tmp_path: Path) -> Callable[[dict[str, bytes]], None]:
    def change(bodies: dict[str, bytes]) -> None:
        path = tmp_path / "harmed.db"
        path.write_bytes(bodies["goclaw.db"])
        with closing(sqlite3.connect(path)) as conn:
            conn.execute(sql)
            conn.commit()
        bodies["goclaw.db"] = path.read_bytes()

    return change


@pytest.mark.spec("GC-DATA-217")
def test_a_database_that_is_not_explained_is_restored_only_by_a_word(home: Home, tmp_path: Path) -> None:
    made = create(home, tmp_path / "b.tar", START)
    sql = "UPDATE task SET deaths = 2 WHERE key = 1"
    path = repacked(made.path, tmp_path / "odd.tar", harm_database(sql, tmp_path))
    checked = check_backup(path, FakeClock())
    assert checked.report is not None
    assert [finding.what for finding in checked.report.findings] == ["deaths is 2, its events say 0"]
    assert not checked.ok
    fresh = Home(tmp_path / "fresh")
    with pytest.raises(BackupDamaged, match="deaths is 2"):
        restore(path, fresh, FakeClock())
    assert not fresh.root.exists()
    restore(path, fresh, FakeClock(), despite_findings=True)
    assert fresh.database.exists()


@pytest.mark.spec("GC-DATA-217")
@pytest.mark.parametrize("word", [False, True])
def test_a_damaged_or_foreign_database_is_never_restored(home: Home, tmp_path: Path, word: bool) -> None:
    made = create(home, tmp_path / "b.tar", START)

    def zero(bodies: dict[str, bytes]) -> None:
        body = bytearray(bodies["goclaw.db"])
        body[8192:20_480] = b"\xff" * 12_288
        bodies["goclaw.db"] = bytes(body)

    def foreign(bodies: dict[str, bytes]) -> None:
        with closing(sqlite3.connect(tmp_path / "foreign.db")) as conn:
            conn.execute("CREATE TABLE a (b)")
        bodies["goclaw.db"] = (tmp_path / "foreign.db").read_bytes()

    for change in (zero, foreign):
        path = repacked(made.path, tmp_path / f"{change.__name__}.tar", change)
        with pytest.raises(GoclawError):
            restore(path, Home(tmp_path / "fresh"), FakeClock(), despite_findings=word)
        assert not (tmp_path / "fresh").exists()


@pytest.mark.spec("GC-DATA-217")
def test_a_manifest_whose_heads_are_not_those_of_its_database_is_refused(home: Home, tmp_path: Path) -> None:
    made = create(home, tmp_path / "b.tar", START)
    end = made.manifest.event.id
    sql = f"DELETE FROM event WHERE id = {end}"  # noqa: S608 (a number)
    path = repacked(made.path, tmp_path / "cut.tar", harm_database(sql, tmp_path))
    with pytest.raises(BackupDamaged, match="do not end where"):
        check_backup(path, FakeClock())


@pytest.mark.spec("GC-DATA-218")
def test_the_backups_of_a_home_are_listed_newest_first_with_what_is_wrong(home: Home) -> None:
    assert backups(home) == []
    paths = [default_path(home, START + n * 86_400_000) for n in range(3)]
    for n, path in enumerate(paths):
        create(home, path, START + n)
    paths[1].write_bytes(b"x" * 600)
    listed = backups(home)
    assert [path for path, _ in listed] == paths[::-1]
    assert [isinstance(one, BackupDamaged) for _, one in listed] == [False, True, False]
    assert paths[0].name == "goclaw-20260921T000000.000000Z.tar"
    last = last_backup(home)
    assert last is not None
    assert (last["path"], last["created_at"]) == (str(paths[2]), START + 2)


@pytest.mark.spec("GC-DATA-204")
def test_the_backups_of_this_very_log_note_its_heads(home: Home) -> None:
    made = create(home, default_path(home, START), START)
    (anchor,) = anchors(home, "log-1")
    assert (anchor.event, anchor.audit) == (made.manifest.event, made.manifest.audit)
    assert anchors(home, "log-2") == []
