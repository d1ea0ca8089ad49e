"""Where the daemon is looked for, and with which token."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from goclaw.client import Target, find_daemon, serving, url_of
from goclaw.client.target import refused
from goclaw.config.home import GatewayInfo, Home, publish_gateway
from goclaw.errors import NotAuthorized, Unreachable


def _home(tmp_path: Path, pid: int | None = None) -> Home:
    home = Home(tmp_path)
    home.token.write_text("home-token\n")
    if pid is not None:
        info = GatewayInfo(
            pid=pid, bind="127.0.0.1:4711", url="http://127.0.0.1:4711", boot_id="b", log_id="l", started_at=1
        )
        publish_gateway(home, info)
    return home


@pytest.mark.spec("GC-ACP-101")
def test_a_flag_comes_before_the_environment_and_both_before_the_file(tmp_path: Path) -> None:
    home = _home(tmp_path, os.getpid())
    env = {"GOCLAW_BIND_ADDR": "127.0.0.1:1"}
    assert find_daemon(home, env, "127.0.0.1:2").url == "http://127.0.0.1:2"
    assert find_daemon(home, env).url == "http://127.0.0.1:1"
    assert find_daemon(home, {}) == Target("http://127.0.0.1:4711", "home-token")


@pytest.mark.spec("GC-ACP-101")
def test_port_0_names_no_address(tmp_path: Path) -> None:
    env = {"GOCLAW_BIND_ADDR": "127.0.0.1:0"}
    assert find_daemon(_home(tmp_path, os.getpid()), env).url == "http://127.0.0.1:4711"


def test_the_file_of_a_dead_daemon_is_not_believed(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    home = _home(tmp_path, pid)
    assert serving(home) is None
    assert find_daemon(home, {}) == Target("http://127.0.0.1:18789", "home-token", guessed=True)


def test_the_token_of_the_environment_comes_first(tmp_path: Path) -> None:
    found = find_daemon(_home(tmp_path), {"GOCLAW_AUTH_TOKEN": " theirs "})
    assert (found.token, found.guessed) == ("theirs", False)
    assert find_daemon(Home(tmp_path / "nowhere"), {}).token is None


@pytest.mark.parametrize(
    ("bind", "url"),
    [
        ("127.0.0.1:5", "http://127.0.0.1:5"),
        ("0.0.0.0:5", "http://127.0.0.1:5"),
        ("[::]:5", "http://[::1]:5"),
        ("[::1]:5", "http://[::1]:5"),
        (":5", "http://127.0.0.1:5"),
    ],
)
def test_an_address_to_listen_on_becomes_one_to_ask(bind: str, url: str) -> None:
    assert url_of(bind) == url


def test_a_401_at_a_guessed_address_means_that_another_home_serves_there() -> None:
    assert isinstance(refused(Target("u", "t", guessed=True), 401), Unreachable)
    assert isinstance(refused(Target("u", "t"), 401), NotAuthorized)
    assert isinstance(refused(Target("u", None), 401), NotAuthorized)
    assert isinstance(refused(Target("u", "t"), 500), Unreachable)
