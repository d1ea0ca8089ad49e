"""A daemon that does not start says why, in its own words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from goclaw.cli import background
from goclaw.clock import SystemClock
from goclaw.config.home import Home, lock_home
from goclaw.errors import StartupError
from tests.unit.client.conftest import FakeClock


def _said(home: Home, text: str) -> None:
    home.logs.mkdir()
    (home.logs / background.OUTPUT).write_text(text)


def test_the_reason_of_a_failed_start_is_taken_from_its_log_line(tmp_path: Path) -> None:
    home = Home(tmp_path)
    line = {"msg": "startup failure", "reason_code": "E_BIND", "error": "cannot bind 127.0.0.1:1"}
    _said(home, json.dumps({"msg": "home_locked"}) + "\n" + json.dumps(line) + "\n")
    told = background.startup_failure(home, 1)
    assert "cannot bind 127.0.0.1:1" in told
    assert "E_BIND" in told


def test_without_such_a_line_the_last_one_is_told(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert "it said nothing" in background.startup_failure(home, 1)
    _said(home, "first\nImportError: no module\n")
    assert background.startup_failure(home, 1).endswith("(exit code 1): ImportError: no module")


def test_the_lock_and_not_a_file_says_who_serves(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert background.daemon_pid(home) is None
    with lock_home(home):
        assert background.daemon_pid(home) is not None


async def test_stopping_nothing_is_no_failure(tmp_path: Path) -> None:
    assert await background.stop(Home(tmp_path), FakeClock()) is None


async def test_a_home_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartupError, match="GOCLAW_HOME"):
        await background.start(Home(tmp_path / "file"), {}, SystemClock())


def test_nobody_there_is_not_ready() -> None:
    assert background.readiness("http://127.0.0.1:9") is None
