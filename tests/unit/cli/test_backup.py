"""`goclaw backup` and `goclaw verify` without a daemon."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from goclaw.config.home import Home, lock_home
from tests.unit.cli.conftest import Goclaw
from tests.unit.client.conftest import FakeDaemon
from tests.worked import work_through


@pytest.fixture
async def worked(home: Path) -> Path:
    await work_through(home / "goclaw.db")
    (home / "config.yaml").write_text("log_level: info\n")
    return home


@pytest.mark.spec("GC-DATA-220")
async def test_a_backup_is_made_listed_verified_and_restored(goclaw: Goclaw, worked: Path, tmp_path: Path) -> None:
    made = await goclaw("backup", "create", str(tmp_path / "b.tar"))
    assert (made.code, made.out) == (0, f"{tmp_path / 'b.tar'}\n")
    assert (await goclaw("backup", "create")).code == 0
    told = json.loads((await goclaw("backup", "list", "--json")).out)
    assert len(told["backups"]) == 1
    assert told["last"]["path"] == told["backups"][0]["path"]
    assert told["backups"][0]["path"] in (await goclaw("backup", "list")).out
    assert (await goclaw("backup", "verify", str(tmp_path / "b.tar"))).code == 0
    fresh = tmp_path / "fresh"
    restored = await goclaw("backup", "restore", str(tmp_path / "b.tar"), "--home", str(fresh))
    assert (restored.code, restored.out) == (0, f"{fresh}\n")
    assert f"goclaw --home {fresh} serve" in restored.err
    assert (fresh / "config.yaml").read_text() == "log_level: info\n"
    again = await goclaw("backup", "restore", str(tmp_path / "b.tar"), "--home", str(fresh))
    assert (again.code, "not empty" in again.err) == (1, True)
    told = json.loads((await goclaw("backup", "restore", str(tmp_path / "b.tar"), "--home", f"{fresh}2", "--json")).out)
    assert told["home"] == f"{fresh}2"
    assert told["report"]["ok"] is True


@pytest.mark.spec("GC-DATA-220")
async def test_a_file_alone_stands_for_create(goclaw: Goclaw, worked: Path, tmp_path: Path) -> None:
    assert (await goclaw("backup", str(tmp_path / "b.tar"))).code == 0
    told = json.loads((await goclaw("backup", str(tmp_path), "--json")).out)
    assert Path(told["path"]).parent == tmp_path
    assert (await goclaw("backup", str(tmp_path / "b.tar"))).code == 1
    ended = await goclaw("backup", "creat")
    assert (ended.code, "nearest is 'create'" in ended.err) == (2, True)


@pytest.mark.spec("GC-DATA-220")
async def test_a_damaged_backup_ends_with_1_and_says_what(goclaw: Goclaw, worked: Path, tmp_path: Path) -> None:
    path = tmp_path / "b.tar"
    await goclaw("backup", str(path))
    body = bytearray(path.read_bytes())
    body[3_000] ^= 1
    path.write_bytes(body)
    ended = await goclaw("backup", "verify", str(path))
    assert (ended.code, ended.out) == (1, "goclaw.db is not what the manifest says\n")
    assert json.loads((await goclaw("backup", "verify", str(path), "--json")).out)["ok"] is False
    assert (await goclaw("verify", "--backup", str(path))).code == 1
    ended = await goclaw("backup", "restore", str(path), "--home", str(tmp_path / "fresh"))
    assert (ended.code, (tmp_path / "fresh").exists()) == (1, False)
    assert (await goclaw("backup", "verify", str(tmp_path / "none.tar"))).code == 6


@pytest.mark.spec("GC-DATA-209")
async def test_verify_ends_with_1_and_names_what_is_not_explained(goclaw: Goclaw, worked: Path) -> None:
    ended = await goclaw("verify")
    assert (ended.code, ended.out) == (0, "")
    assert "all explained" in ended.err
    with closing(sqlite3.connect(worked / "goclaw.db")) as conn:
        conn.execute("UPDATE task SET attempt = 9 WHERE key = 1")
        conn.execute("UPDATE event SET type = 'x' WHERE id = 3")
        conn.commit()
    ended = await goclaw("verify")
    assert ended.code == 1
    assert "event 3: row changed" in ended.out
    assert "attempt is 9, its events say 1" in ended.out
    told = json.loads((await goclaw("verify", "--json")).out)
    assert (told["ok"], told["found"]) == (False, len(told["findings"]))
    assert (await goclaw("verify", "--home", str(worked / "nobody"))).code == 6


@pytest.mark.spec("GC-DATA-209")
async def test_a_home_that_is_held_but_does_not_answer_is_not_touched(goclaw: Goclaw, worked: Path) -> None:
    with lock_home(Home(worked)):
        for words in (("verify",), ("backup", "create"), ("backup", "list")):
            assert (await goclaw(*words)).code in (1, 3), words
    assert not (worked / "backups").exists()


@pytest.mark.spec("GC-DATA-220")
async def test_a_running_daemon_is_asked(goclaw: Goclaw, daemon: FakeDaemon, home: Path, tmp_path: Path) -> None:
    ended = await goclaw("--bind", daemon.url.removeprefix("http://"), "backup", str(tmp_path / "b.tar"))
    assert ended.code != 0
    assert ("backup.create", {"path": str(tmp_path / "b.tar"), "with_secrets": False}) in daemon.asked


@pytest.mark.spec("GC-DATA-223")
async def test_the_doctor_tells_how_old_the_last_backup_is(goclaw: Goclaw, worked: Path, tmp_path: Path) -> None:
    async def said() -> tuple[str, str]:
        checks = json.loads((await goclaw("doctor", "--json")).out)["checks"]
        (one,) = [check for check in checks if check["name"] == "backup"]
        return one["status"], one["detail"]

    assert await said() == ("warn", "none was made yet")
    await goclaw("backup", str(tmp_path / "b.tar"))
    status, detail = await said()
    assert (status, str(tmp_path / "b.tar") in detail) == ("ok", True)
    note = worked / "backups" / "last.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | {"created_at": 1}))
    assert (await said())[0] == "warn"
    (tmp_path / "b.tar").unlink()
    status, detail = await said()
    assert (status, detail.endswith("not there any more")) == ("warn", True)
