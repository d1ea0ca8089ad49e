"""A store that fails or is damaged: the daemon ends, and what it does not know to be whole it never serves."""

from __future__ import annotations

import hashlib
import json
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing, suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.system.running import REPOSITORY, DaemonDied, RpcFailed, RunningDaemon, wait_until

PAGE = 2048


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    (folder / "config.yaml").write_text("worker_count: 2\ncrash_loop_delay_seconds: 0\n")
    return folder


def serve(home: Path, launcher: Sequence[str] = ("-m", "goclaw")) -> RunningDaemon:
    return RunningDaemon(home, env={"OLLAMA_HOST": ""}, launcher=launcher)


def submit(daemon: RunningDaemon, **params: Any) -> str:
    return str(daemon.call("task.submit", kind="noop", payload={}, **params)["task_id"])


def load(daemon: RunningDaemon, tasks: int = 4_000) -> None:
    """So many tasks that wait, in a database of some megabytes."""
    one = {"kind": "noop", "payload": {"fail": "x" * 400}, "delay_ms": 1_000_000}
    for _ in range(tasks // 1_000):
        daemon.call("task.submit_many", tasks=[one] * 1_000)


def read_all(daemon: RunningDaemon) -> None:
    """Every event there is."""
    cursor = 0
    while page := daemon.call("session.events.read", session_id="*", from_event_id=cursor, limit=500)["events"]:
        cursor = page[-1]["event_id"]


def messages(daemon: RunningDaemon) -> list[str]:
    return [str(line.get("msg")) for line in daemon.lines]


def said(daemon: RunningDaemon, message: str) -> dict[str, Any]:
    return next(line for line in daemon.lines if line.get("msg") == message)


def until_taken_up(daemon: RunningDaemon, home: Path) -> None:
    """Until the log has been copied into the database and begun anew: what is in the file then is what is read."""
    log, polls = home / "goclaw.db-wal", count(1)
    salt = log.read_bytes()[16:24]

    def begun_anew() -> bool:
        # It is taken up in a pause of the writes, and begun anew by the next one.
        return next(polls) % 40 == 0 and bool(submit(daemon, delay_ms=1_000_000)) and log.read_bytes()[16:24] != salt

    wait_until(begun_anew, "the log is taken up")


def hurt_most(path: Path) -> None:
    """Overwrite the pages in the middle of the file."""
    pages = path.stat().st_size // PAGE
    with path.open("r+b") as file:
        file.seek(pages // 10 * PAGE)
        file.write(b"\xa5" * PAGE * (pages // 10 * 8))


def hurt(path: Path, root: str) -> None:
    """Overwrite the first page of a table or index, found by asking the file itself."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as conn:
        (page,) = conn.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (root,)).fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE)
        file.write(b"\xa5" * PAGE)


def digests(home: Path) -> dict[str, str]:
    """The database and its log, byte for byte."""
    files = [home / "goclaw.db", home / "goclaw.db-wal"]
    return {one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in files if one.exists()}


def doctor(home: Path) -> dict[str, dict[str, str]]:
    command = [sys.executable, "-m", "goclaw", "--home", str(home), "doctor", "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False, timeout=60)
    return {check["name"]: check for check in json.loads(ended.stdout)["checks"]}


def refused(home: Path, launcher: Sequence[str] = ("-m", "goclaw")) -> RunningDaemon:
    """A start that fails."""
    daemon = serve(home, launcher)
    with pytest.raises(DaemonDied):
        daemon.__enter__()
    return daemon


@pytest.mark.spec("GC-REL-220")
def test_a_write_that_fails_ends_the_process_and_acknowledges_nothing(home: Path) -> None:
    with serve(home) as daemon:
        acknowledged = [submit(daemon, idempotency_key=f"k{number}", delay_ms=1_000_000) for number in range(20)]
        size = max(one.stat().st_size for one in home.glob("goclaw.db*"))
        # From here on the kernel refuses what lies beyond this size: to SQLite a failing write.
        resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (PAGE, size))
        with pytest.raises((RpcFailed, OSError)) as failed:
            submit(daemon, idempotency_key="lost")
        assert not isinstance(failed.value, RpcFailed) or "STORE_FAILED" in str(failed.value.error)
        assert daemon.wait_for_exit() == 1
        assert said(daemon, "giving up")["code"] == "STORE_FAILED"
    with serve(home) as daemon:
        assert said(daemon, "schema_migrated")["clean_stop"] is False
        assert [daemon.call("task.get", task_id=one)["state"] for one in acknowledged] == ["QUEUED"] * 20
        assert daemon.call("system.status")["db"]["integrity"] == "checked"


@pytest.mark.spec("GC-REL-220")
@pytest.mark.skipif(shutil.which("strace") is None, reason="an fsync is made to fail with strace")
def test_an_fsync_error_ends_the_process_and_a_restart_recovers(home: Path) -> None:
    with serve(home) as daemon:
        acknowledged = [submit(daemon, delay_ms=1_000_000) for _ in range(5)]
        inject = ["-e", "trace=fdatasync,fsync", "-e", "inject=fdatasync,fsync:error=EIO"]
        command = ["strace", "-f", "-q", "-o", "/dev/null", *inject, "-p", str(daemon.pid)]
        with subprocess.Popen(command, stderr=subprocess.PIPE) as tracer:
            for number in range(10_000):
                try:
                    acknowledged.append(submit(daemon, delay_ms=1_000_000))
                except (RpcFailed, OSError):
                    break
                if tracer.poll() is not None and not number:
                    pytest.skip("this process may not be traced")
            assert daemon.wait_for_exit() == 1
            tracer.wait(10)
        assert said(daemon, "giving up")["code"] == "STORE_FAILED"
    with serve(home) as daemon:
        assert said(daemon, "schema_migrated")["clean_stop"] is False
        assert {daemon.call("task.get", task_id=one)["state"] for one in acknowledged} == {"QUEUED"}
        assert daemon.stop() == 0


@pytest.mark.spec("GC-REL-206")
def test_a_damaged_database_is_refused_at_the_start_and_keeps_every_byte(home: Path) -> None:
    with serve(home) as daemon:
        load(daemon)
        until_taken_up(daemon, home)
        daemon.kill()
    hurt(home / "goclaw.db", "event_task")
    before = digests(home)
    assert set(before) == {"goclaw.db", "goclaw.db-wal"}
    daemon = refused(home)
    failure = said(daemon, "startup failure")
    assert (failure["reason_code"], daemon.wait_for_exit()) == ("E_STORE_CORRUPT", 1)
    assert "goclaw backup restore" in failure["error"]
    assert digests(home) == before
    check = doctor(home)["database"]
    assert (check["status"], "goclaw backup restore" in check["fix"]) == ("fail", True)
    assert digests(home) == before


@pytest.mark.spec("GC-REL-207")
def test_damage_found_behind_a_start_ends_serving_and_the_next_start_is_refused(home: Path) -> None:
    with serve(home) as daemon:
        load(daemon)
        until_taken_up(daemon, home)
        daemon.kill()
    hurt(home / "goclaw.db", "occurrence_task")
    impatient = ("-m", "tests.system.impatient")
    with suppress(DaemonDied), serve(home, impatient) as daemon:
        assert daemon.wait_for_exit() == 1
    with suppress(DaemonDied):
        daemon = serve(home, impatient)
        daemon.__enter__()
    assert "ready" not in messages(daemon)
    assert said(daemon, "startup failure")["reason_code"] == "E_STORE_CORRUPT"
    assert "damaged" in (home / "goclaw.db.damaged").read_text()


@pytest.mark.spec("GC-REL-207")
def test_a_large_whole_database_is_served_at_once_and_checked_behind_the_start(home: Path) -> None:
    with serve(home) as daemon:
        load(daemon)
        daemon.kill()
    with serve(home, ("-m", "tests.system.impatient")) as daemon:
        wait_until(lambda: daemon.call("system.status")["db"]["integrity"] == "checked", "the check is done")
        assert daemon.wait(submit(daemon))["state"] == "SUCCEEDED"
        assert daemon.stop() == 0


@pytest.mark.spec("GC-REL-208")
def test_damage_met_while_serving_ends_it_with_a_guide_and_the_next_start_is_refused(home: Path) -> None:
    with serve(home) as daemon:
        load(daemon)
        until_taken_up(daemon, home)
        hurt_most(home / "goclaw.db")
        with pytest.raises((RpcFailed, OSError)):
            read_all(daemon)
        assert daemon.wait_for_exit() == 1
        gave_up = said(daemon, "giving up")
        assert gave_up["code"] == "E_STORE_CORRUPT"
        assert "goclaw backup restore" in gave_up["error"]
    assert said(refused(home), "startup failure")["reason_code"] == "E_STORE_CORRUPT"


@pytest.mark.spec("GC-REL-209")
def test_a_note_of_damage_goes_away_with_the_damage(home: Path) -> None:
    with serve(home) as daemon:
        assert daemon.stop() == 0
    note = home / "goclaw.db.damaged"
    note.write_text("goclaw.db is damaged\n")
    with serve(home) as daemon:
        assert not note.exists(), "the whole file was looked at"
        assert daemon.wait(submit(daemon))["state"] == "SUCCEEDED"
