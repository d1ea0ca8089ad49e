"""A start that cannot succeed says why in one line and leaves what it found as it was; the phases of one that does."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from goclaw.log.startup import PHASES
from tests.system.running import REPOSITORY, RpcFailed, RunningDaemon

PASSED_ON = ("PATH", "HOME", "LANG", "PYTHONPATH", "VIRTUAL_ENV")
FORBIDDEN = {
    "aiohttp", "anthropic", "cronsim", "httpx", "httpx2", "jsonschema", "openai", "opentelemetry",
    "prometheus_client", "rich", "sqlalchemy", "textual", "typer", "wasmtime",
}  # fmt: skip


def start(home: Path, *words: str, **env: str) -> tuple[int, list[dict[str, Any]]]:
    """`goclaw serve` that ends by itself: exit code and lines. stdout stays empty."""
    base = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    bind = () if "--bind" in words else ("--bind", "127.0.0.1:0")
    ended = subprocess.run(
        [sys.executable, "-m", "goclaw", "serve", "--home", str(home), *bind, *words],
        env={**base, **env},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert ended.stdout == ""
    return ended.returncode, [json.loads(line) for line in ended.stderr.splitlines()]


def failure(home: Path, *words: str, **env: str) -> dict[str, Any]:
    """The one line that says why a start failed; nothing but phases comes before it."""
    code, lines = start(home, *words, **env)
    assert code == 1
    told = lines.pop()
    assert (told["msg"], told["level"]) == ("startup failure", "ERROR")
    assert [line["msg"] for line in lines] == list(PHASES)[: len(lines)]
    assert "ready" not in {line["msg"] for line in lines}
    return told


def picture(folder: Path) -> dict[str, str]:
    """Every file below a folder by its digest; logs and the folder run/ left out."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.relative_to(folder).parts[0] not in ("logs", "run")
    }


@pytest.fixture(scope="module")
def lived_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one finished task, of a daemon that was stopped."""
    home = tmp_path_factory.mktemp("startup") / "home"
    with RunningDaemon(home) as daemon:
        daemon.wait(daemon.call("task.submit", kind="noop", payload={}, idempotency_key="kept")["task_id"])
        assert daemon.stop() == 0
    return home


@pytest.fixture
def home(lived_in: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "home"
    shutil.copytree(lived_in, copy)
    copy.chmod(0o700)
    return copy


@pytest.fixture
def another(tmp_path: Path) -> Iterator[RunningDaemon]:
    """A daemon that must not be disturbed."""
    with RunningDaemon(tmp_path / "another") as daemon:
        daemon.wait(daemon.call("task.submit", kind="noop", payload={}, idempotency_key="mine")["task_id"])
        yield daemon
        assert daemon.call("task.submit", kind="noop", payload={}, idempotency_key="mine")["deduplicated"] is True
        assert daemon.call("system.status")["healthy"] is True
        assert daemon.stop() == 0


@pytest.mark.spec("GC-RUN-201")
def test_the_phases_are_logged_in_their_order_and_the_url_comes_last(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with RunningDaemon(home) as daemon:
        told = [line["msg"] for line in daemon.lines if line["msg"] in PHASES]
        assert told == list(PHASES)
        ready = daemon.lines[-1]
        assert ready["url"] == daemon.url
        published = json.loads((home / "run" / "gateway.json").read_text())
        assert set(published) == {"pid", "bind", "url", "boot_id", "log_id", "started_at"}
        assert (published["pid"], published["url"]) == (daemon.pid, daemon.url)
        assert daemon.stop() == 0
    assert not (home / "run" / "gateway.json").exists()
    in_file = [json.loads(line) for line in (home / "logs" / "system.jsonl").read_text().splitlines()]
    assert [line["msg"] for line in in_file if line["msg"] in PHASES] == list(PHASES)


@pytest.mark.spec("GC-RUN-201")
def test_a_home_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with RunningDaemon(home) as daemon:
        assert daemon.token == (home / "auth.token").read_text().strip()
    assert home.stat().st_mode & 0o777 == 0o700
    assert (home / "auth.token").stat().st_mode & 0o777 == 0o600
    for name in ("skills", "installed", "workspace", "artifacts", "logs", "run", "secrets"):
        assert (home / name).is_dir(), name
    with closing(sqlite3.connect(home / "goclaw.db")) as conn:
        assert conn.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert conn.execute("PRAGMA application_id").fetchone()[0] != 0
        assert conn.execute("PRAGMA user_version").fetchone()[0] > 0


@pytest.mark.spec("GC-RUN-202")
@pytest.mark.parametrize(
    ("text", "said"),
    [("worker_cuont: 3\n", "worker_count"), ("worker_count: many\n", "worker_count"), ("a: [\n", "config.yaml")],
)
def test_a_bad_config_is_e_config_load(home: Path, text: str, said: str) -> None:
    (home / "config.yaml").write_text(text)
    before = picture(home)
    told = failure(home)
    assert told["reason_code"] == "E_CONFIG_LOAD"
    assert said in told["error"]
    assert picture(home) == before


@pytest.mark.spec("GC-RUN-202")
@pytest.mark.parametrize(
    "text", ["allow_everything: true\n", "allow_capabilities: [acp.raed]\n", "allow_paths: {\n", "- list\n"]
)
def test_a_bad_policy_is_e_policy_load(home: Path, text: str) -> None:
    (home / "policy.yaml").write_text(text)
    told = failure(home)
    assert told["reason_code"] == "E_POLICY_LOAD"
    assert (home / "policy.yaml").read_text() == text
    assert count_tasks(home) == 1


@pytest.mark.spec("GC-RUN-202")
def test_a_policy_that_is_missing_denies_everything_and_starts(home: Path) -> None:
    (home / "policy.yaml").unlink()
    with RunningDaemon(home) as daemon:
        with pytest.raises(RpcFailed) as caught:
            daemon.call("system.status")
        assert caught.value.error["code"] == 4030
    assert not (home / "policy.yaml").exists(), "a starter is written into a fresh home only"


@pytest.mark.spec("GC-RUN-203")
def test_a_home_that_cannot_be_written_is_e_home_unwritable(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    for place in (file, file / "home", tmp_path / "missing" / "home", Path("/proc/goclaw")):
        told = failure(place)
        assert told["reason_code"] == "E_HOME_UNWRITABLE"
        assert "GOCLAW_HOME" in told["error"]
    assert file.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.spec("GC-RUN-204")
def test_a_busy_port_is_e_bind_and_names_its_holder_and_a_free_port(another: RunningDaemon, home: Path) -> None:
    port = int(another.url.rpartition(":")[2])
    told = failure(home, "--bind", f"127.0.0.1:{port}")
    assert told["reason_code"] == "E_BIND"
    details = told["details"]
    assert details["holder"]["pid"] == another.pid
    assert f"process {another.pid} " in told["error"]
    assert f"port {details['free_port']} is free" in told["error"]
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", details["free_port"]))
    assert count_tasks(home) == 1
    # Nothing is left behind that would keep the next start from succeeding.
    with RunningDaemon(home) as daemon:
        assert daemon.call("task.submit", kind="noop", payload={}, idempotency_key="kept")["deduplicated"] is True


@pytest.mark.spec("GC-RUN-204")
@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:", "127.0.0.1:70000", "192.0.2.1:0"])
def test_an_address_that_cannot_be_is_refused(home: Path, address: str) -> None:
    assert failure(home, "--bind", address)["reason_code"] in ("E_BIND", "E_CONFIG_LOAD")


@pytest.mark.spec("GC-RUN-205")
def test_a_second_daemon_on_a_home_is_e_home_locked_also_when_run_was_deleted(another: RunningDaemon) -> None:
    told = failure(another.home)
    assert told["reason_code"] == "E_HOME_LOCKED"
    assert told["details"] == {"pid": another.pid, "url": another.url}
    shutil.rmtree(another.home / "run")
    told = failure(another.home)
    assert told["reason_code"] == "E_HOME_LOCKED"
    assert told["details"]["pid"] == another.pid


@pytest.mark.spec("GC-RUN-206")
def test_a_foreign_database_is_e_store_foreign_and_not_a_byte_of_it_changes(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    with closing(sqlite3.connect(home / "goclaw.db")) as conn:
        conn.execute("PRAGMA journal_mode = WAL")
        conn.execute("CREATE TABLE tasks (id TEXT PRIMARY KEY)")
        conn.execute("INSERT INTO tasks VALUES ('theirs')")
        conn.commit()
    before = (home / "goclaw.db").read_bytes()
    told = failure(home)
    assert told["reason_code"] == "E_STORE_FOREIGN"
    assert (home / "goclaw.db").read_bytes() == before
    assert not (home / "goclaw.db-wal").exists()


@pytest.mark.spec("GC-RUN-206")
@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("PRAGMA user_version = 9999", "E_SCHEMA_NEWER"),
        ("INSERT INTO schema_migrations VALUES (9999, 'x', 'y', 0)", "E_SCHEMA_NEWER"),
        ("UPDATE schema_migrations SET checksum = 'changed'", "E_SCHEMA_CHECKSUM"),
    ],
)
def test_a_newer_or_changed_schema_is_refused_untouched(home: Path, statement: str, code: str) -> None:
    with closing(sqlite3.connect(home / "goclaw.db")) as conn:
        conn.execute(statement)
        conn.commit()
    before = picture(home)
    assert failure(home)["reason_code"] == code
    assert picture(home) == before


@pytest.mark.spec("GC-RUN-206")
@pytest.mark.parametrize("damage", ["header", "garbage", "pages"])
def test_a_damaged_database_is_e_store_corrupt_and_stays_as_it_is(home: Path, damage: str) -> None:
    path = home / "goclaw.db"
    body = bytearray(path.read_bytes())
    if damage == "header":
        body[:16] = b"SQLite format 9\0"
    elif damage == "garbage":
        body[:] = os.urandom(len(body))
    else:
        body[4096:] = b"\xff" * (len(body) - 4096)
    path.write_bytes(body)
    assert failure(home)["reason_code"] == "E_STORE_CORRUPT"
    assert path.read_bytes() == body


@pytest.mark.spec("GC-RUN-207")
@pytest.mark.parametrize("fault", ["short", "empty", "readable", "folder"])
def test_a_weak_or_readable_token_is_e_auth_token(home: Path, fault: str) -> None:
    token = home / "auth.token"
    if fault == "readable":
        token.chmod(0o644)
    elif fault == "folder":
        token.unlink()
        token.mkdir()
    else:
        token.write_text("short" if fault == "short" else "")
    secret = token.read_text() if fault != "folder" else "x" * 40
    told = failure(home)
    assert told["reason_code"] == "E_AUTH_TOKEN"
    assert fault == "empty" or secret not in json.dumps(told)
    assert failure(home, GOCLAW_AUTH_TOKEN="weak")["reason_code"] == "E_AUTH_TOKEN"


@pytest.mark.spec("GC-RUN-208")
def test_a_serving_daemon_has_loaded_no_library_that_it_does_not_need_yet(tmp_path: Path) -> None:
    env = {"OPENAI_API_KEY": "sk-test", "ANTHROPIC_API_KEY": "sk-ant", "GOCLAW_MODULES_TO": str(tmp_path / "loaded")}
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "config.yaml").write_text("schedules:\n  - {id: tick, every: 1h, kind: noop}\n")
    with RunningDaemon(home, env=env, launcher=("-m", "tests.system.listing")) as daemon:
        daemon.call("system.ping")
        assert daemon.stop() == 0
    at_ready, later = json.loads((tmp_path / "loaded").read_text())
    assert {"starlette", "uvicorn", "pydantic", "yaml", "aiosqlite"} <= set(at_ready)
    assert set(at_ready) & FORBIDDEN == set()
    assert set(later) & FORBIDDEN == set(), "a request loaded it"


def count_tasks(home: Path) -> int:
    with closing(sqlite3.connect(f"file:{home / 'goclaw.db'}?mode=ro", uri=True)) as conn:
        return int(conn.execute("SELECT count(*) FROM tasks").fetchone()[0])
