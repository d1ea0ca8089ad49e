"""Settings that change while the daemon runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from goclaw.config.home import Home
from goclaw.config.live import LiveConfig, Reloaded, ReloadFailed
from goclaw.config.load import Problem, load_settings
from goclaw.config.settings import Settings


def nothing(_settings: Settings) -> Sequence[Problem]:
    return ()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def live(home: Home) -> LiveConfig:
    return LiveConfig(load_settings(home, {}), lambda: load_settings(home, {}), nothing)


def test_a_reload_without_a_change_says_nothing(live: LiveConfig, home: Home) -> None:
    before = live.current
    home.config.write_text("# only a comment\n")
    assert live.reload() is None
    assert live.current is before or live.current == before


@pytest.mark.spec("GC-CFG-013")
def test_live_keys_change_at_once_and_the_others_are_named_and_held(live: LiveConfig, home: Home) -> None:
    home.config.write_text("log_level: debug\nworker_count: 2\nallowed_hosts: [h]\nbind_addr: 127.0.0.1:9\n")
    told = live.reload()
    assert isinstance(told, Reloaded)
    assert (told.live, told.restart) == (("log_level", "allowed_hosts"), ("bind_addr", "worker_count"))
    assert live.current is told.settings
    assert (live.current.log_level, live.current.allowed_hosts) == ("debug", ("h",))
    assert (live.current.worker_count, live.current.bind_addr) == (16, "127.0.0.1:18789")
    assert told.as_json() == {
        "ok": True,
        "changed": ["log_level", "allowed_hosts"],
        "needs_restart": ["bind_addr", "worker_count"],
        "config_hash": live.current.config_hash,
    }
    assert live.reload() is None


@pytest.mark.spec("GC-CFG-013")
def test_a_file_with_a_mistake_changes_nothing_and_says_why(live: LiveConfig, home: Home) -> None:
    before = live.current
    home.config.write_text("log_level: debug\nworker_cuont: 2\n")
    told = live.reload()
    assert isinstance(told, ReloadFailed)
    assert "did you mean worker_count?" in told.message
    assert told.as_json() == {"ok": False, "error": told.message, "config_hash": before.config_hash}
    assert live.current is before
    home.config.write_text("log_level: debug\n")
    assert isinstance(live.reload(), Reloaded)


@pytest.mark.spec("GC-CFG-013")
def test_a_check_from_outside_can_refuse_and_no_error_gets_through(home: Home) -> None:
    def refuse(_settings: Settings) -> Sequence[Problem]:
        return (Problem("config.yaml line 1", "schedules[0].cron", "never fires"),)

    def broken() -> Settings:
        raise RuntimeError("a bug")

    settings = load_settings(home, {})
    told = LiveConfig(settings, lambda: settings, refuse).reload()
    assert isinstance(told, ReloadFailed)
    assert told.message == "config.yaml line 1: schedules[0].cron never fires"
    told = LiveConfig(settings, broken, nothing).reload()
    assert isinstance(told, ReloadFailed)
    assert told.message == "RuntimeError: a bug"


def test_the_soul_and_the_conventions_are_live(live: LiveConfig, home: Home) -> None:
    home.soul.write_text("I am somebody else.")
    home.conventions.write_text("Use tabs.")
    told = live.reload()
    assert isinstance(told, Reloaded)
    assert told.live == ("SOUL.md", "AGENTS.md")
    assert live.current.agents()["default"].soul == "I am somebody else."
