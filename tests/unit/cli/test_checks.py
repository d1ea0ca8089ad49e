"""`goclaw doctor` finds what is wrong and says how to mend it."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from goclaw.clock import SystemClock
from goclaw.store import meta
from tests.scratch import commit, reopen
from tests.unit.cli.conftest import Goclaw
from tests.unit.store.test_integrity import filled, hurt


def _private(home: Path) -> None:
    home.chmod(0o755)


def _bad_token(home: Path) -> None:
    (home / "auth.token").write_text("short\n")
    (home / "auth.token").chmod(0o600)


def _open_token(home: Path) -> None:
    (home / "auth.token").write_text("x" * 43 + "\n")
    (home / "auth.token").chmod(0o644)


def _bad_config(home: Path) -> None:
    (home / "config.yaml").write_text("wrker_count: 3\n")


def _bad_policy(home: Path) -> None:
    (home / "policy.yaml").write_text("allow_everything: true\n")


def _deleted_policy(home: Path) -> None:
    (home / "goclaw.db").touch()


async def _doctor(goclaw: Goclaw) -> tuple[int, dict[str, dict[str, str]]]:
    ended = await goclaw("doctor", "--json")
    told = json.loads(ended.out)
    assert told["ok"] == (ended.code == 0)
    return ended.code, {check["name"]: check for check in told["checks"]}


@pytest.mark.spec("GC-RUN-107")
async def test_an_empty_home_passes_with_warnings(goclaw: Goclaw, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("GOCLAW_BIND_ADDR", "127.0.0.1:0")
    code, checks = await _doctor(goclaw)
    assert code == 0
    assert {name for name, check in checks.items() if check["status"] == "fail"} == set()
    assert set(checks) >= {
        "python", "sqlite", "home", "disk", "database", "starts", "token", "config", "policy", "providers",
        "wasmtime", "bubblewrap", "daemon", "port",
    }  # fmt: skip
    assert checks["daemon"]["status"] == "warn"
    assert all(set(check) == {"name", "status", "detail", "fix"} for check in checks.values())


@pytest.mark.spec("GC-RUN-107")
@pytest.mark.parametrize(
    ("harm", "name", "status", "told"),
    [
        (_private, "home", "warn", "0755"),
        (_bad_token, "token", "fail", "5 characters"),
        (_open_token, "token", "fail", "0644"),
        (_bad_config, "config", "fail", "worker_count"),
        (_bad_policy, "policy", "fail", "allow_everything"),
        (_deleted_policy, "policy", "fail", "denied"),
    ],
)
async def test_what_is_wrong_is_found(
    goclaw: Goclaw, home: Path, harm: Callable[[Path], None], name: str, status: str, told: str
) -> None:
    harm(home)
    code, checks = await _doctor(goclaw)
    assert (checks[name]["status"], told in checks[name]["detail"]) == (status, True), checks[name]
    assert checks[name]["fix"]
    assert status != "fail" or code == 1


async def test_a_home_that_is_a_file_fails(goclaw: Goclaw, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "file").touch()
    monkeypatch.setenv("GOCLAW_HOME", str(home / "file"))
    code, checks = await _doctor(goclaw)
    assert (code, checks["home"]["status"]) == (1, "fail")


async def test_a_port_that_is_taken_fails(goclaw: Goclaw, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv("GOCLAW_BIND_ADDR", f"127.0.0.1:{taken.getsockname()[1]}")
        code, checks = await _doctor(goclaw)
    assert (code, checks["port"]["status"]) == (1, "fail")


async def test_a_key_in_the_environment_is_a_provider(goclaw: Goclaw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-not-a-key")
    _, checks = await _doctor(goclaw)
    assert (checks["providers"]["status"], checks["providers"]["detail"]) == ("ok", "anthropic")


@pytest.mark.spec("GC-REL-206")
async def test_a_damaged_database_fails_with_a_way_out(goclaw: Goclaw, home: Path) -> None:
    filled(home / "goclaw.db")
    _, checks = await _doctor(goclaw)
    assert (checks["database"]["status"], "checked and whole" in checks["database"]["detail"]) == ("warn", True)
    hurt(home / "goclaw.db")
    code, checks = await _doctor(goclaw)
    assert (code, checks["database"]["status"]) == (1, "fail")
    assert "goclaw backup restore" in checks["database"]["fix"]


@pytest.mark.spec("GC-REL-211")
async def test_a_crash_loop_is_seen_also_when_nobody_serves(goclaw: Goclaw, home: Path) -> None:
    filled(home / "goclaw.db", closed=True)
    _, checks = await _doctor(goclaw)
    assert (checks["starts"]["status"], checks["database"]["status"]) == ("ok", "ok")
    conn = reopen(home / "goclaw.db")
    for _ in range(4):
        commit(conn, meta.open_log, "log", SystemClock().wall())
    conn.close()
    _, checks = await _doctor(goclaw)
    assert (checks["starts"]["status"], "3 unclean stops" in checks["starts"]["detail"]) == ("warn", True)
