"""GOCLAW_HOME: found, created, locked, announced."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from goclaw.config.home import (
    GatewayInfo,
    Home,
    locate_home,
    lock_holder,
    lock_home,
    prepare_home,
    publish_gateway,
    read_gateway,
    withdraw_gateway,
)
from goclaw.errors import HomeLocked, HomeUnwritable

INFO = GatewayInfo(pid=os.getpid(), bind="127.0.0.1:1", url="http://127.0.0.1:1", boot_id="b", log_id="l", started_at=1)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def test_the_flag_wins_over_the_variable_and_that_over_the_default(tmp_path: Path) -> None:
    assert locate_home({"GOCLAW_HOME": "/x/y"}, str(tmp_path)).root == tmp_path
    assert locate_home({"GOCLAW_HOME": "/x/../y"}).root == Path("/y")
    assert locate_home({}).root == Path("~/.goclaw").expanduser()


def test_the_mark_is_that_of_the_resolved_path(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert Home(tmp_path / "link").home_mark == Home(tmp_path / "real").home_mark
    assert Home(tmp_path / "real").home_mark != Home(tmp_path).home_mark
    assert len(Home(tmp_path).home_mark) == 32


@pytest.mark.spec("GC-CFG-001")
def test_a_first_run_makes_everything_private_and_writes_the_starters(home: Home) -> None:
    before = os.umask(0)
    try:
        with lock_home(home):
            assert prepare_home(home)
    finally:
        os.umask(before)
    folders = ["skills", "installed", "workspace", "artifacts", "logs", "secrets", "run"]
    assert mode(home.root) == 0o700
    assert {name: mode(home.root / name) for name in folders} == dict.fromkeys(folders, 0o700)
    files = {path.name: mode(path) for path in home.root.iterdir() if path.is_file()}
    assert files == {"config.yaml": 0o600, "SOUL.md": 0o600, "AGENTS.md": 0o600}


@pytest.mark.spec("GC-CFG-001")
def test_starters_never_replace_a_file_and_stay_away_after_the_first_run(home: Home) -> None:
    home.root.mkdir()
    home.soul.write_text("mine")
    with lock_home(home):
        assert prepare_home(home)
        assert home.soul.read_text() == "mine"
        home.config.unlink()
        home.database.touch()
        assert not prepare_home(home)
        assert not home.config.exists()


@pytest.mark.spec("GC-CFG-002")
def test_a_second_daemon_is_told_who_serves_the_home(home: Home) -> None:
    with lock_home(home):
        prepare_home(home)
        publish_gateway(home, INFO)
        with (
            pytest.raises(HomeLocked, match=f"pid {os.getpid()} at http://127.0.0.1:1") as caught,
            lock_home(home),
        ):
            pass
        assert caught.value.data == {"pid": os.getpid(), "url": "http://127.0.0.1:1"}


@pytest.mark.spec("GC-CFG-002")
def test_the_lock_holds_though_everything_inside_was_deleted(home: Home) -> None:
    with lock_home(home):
        prepare_home(home)
        publish_gateway(home, INFO)
        for path in home.root.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        with pytest.raises(HomeLocked), lock_home(home):
            pass
    with lock_home(home):
        pass


@pytest.mark.spec("GC-CFG-002")
def test_the_lock_dies_with_its_process(home: Home) -> None:
    code = (
        "import sys; from pathlib import Path; from goclaw.config.home import Home, lock_home\n"
        "with lock_home(Home(Path(sys.argv[1]))): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(home.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(HomeLocked), lock_home(home):
            pass
        holder.kill()
        holder.wait()
    with lock_home(home):
        pass


def test_the_holder_is_known_without_touching_the_lock(home: Home) -> None:
    assert lock_holder(home) is None
    with lock_home(home):
        assert lock_holder(home) in (os.getpid(), None)  # None where /proc/locks does not tell
    assert lock_holder(home) is None


@pytest.mark.spec("GC-CFG-003")
def test_a_home_below_a_missing_folder_is_refused_by_name(tmp_path: Path) -> None:
    with (
        pytest.raises(HomeUnwritable, match="no/home: No such file") as caught,
        lock_home(Home(tmp_path / "no/home")),
    ):
        pass
    assert caught.value.code == "E_HOME_UNWRITABLE"
    assert not (tmp_path / "no").exists()


@pytest.mark.spec("GC-CFG-003")
def test_a_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(HomeUnwritable, match="Not a directory"), lock_home(Home(tmp_path / "file")):
        pass


@pytest.mark.spec("GC-CFG-003")
def test_a_home_where_nothing_can_be_made_is_refused(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    with lock_home(home):
        prepare_home(home)
        monkeypatch.setattr(os, "access", lambda *_: False)  # what root would be told of no folder
        with pytest.raises(HomeUnwritable, match="Permission denied"):
            prepare_home(home)


def test_the_gateway_file_comes_whole_and_goes(home: Home) -> None:
    with lock_home(home):
        prepare_home(home)
        assert read_gateway(home) is None
        publish_gateway(home, INFO)
        assert read_gateway(home) == INFO
        assert set(json.loads(home.gateway.read_text())) == {
            "pid", "bind", "url", "boot_id", "log_id", "started_at",
        }  # fmt: skip
        assert [path.name for path in home.run.iterdir()] == ["gateway.json"]
        withdraw_gateway(home)
        withdraw_gateway(home)
        assert read_gateway(home) is None


def test_a_damaged_gateway_file_reads_as_none(home: Home) -> None:
    home.run.mkdir(parents=True)
    for text in ("", "{", "[]", "{}", '{"pid": 1}', "null"):
        home.gateway.write_text(text)
        assert read_gateway(home) is None
