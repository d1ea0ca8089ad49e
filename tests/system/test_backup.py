"""Backup, restore and verification with a real daemon process: under load, after kill -9, and in a fresh home."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from goclaw.db.backup import check_integrity
from goclaw.kernel.backup import read_backup
from tests.system.running import REPOSITORY, RpcFailed, RunningDaemon

CLIENTS = 4
QUIET = {"OLLAMA_HOST": ""}


def goclaw(*words: str) -> tuple[int, str, str]:
    env = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH", "VIRTUAL_ENV") if name in os.environ}
    ended = subprocess.run(
        [sys.executable, "-m", "goclaw", *words],
        env=env,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return ended.returncode, ended.stdout, ended.stderr


class Load:
    """Clients that submit as fast as they are answered; `acknowledged` grows with each answer."""

    def __init__(self, daemon: RunningDaemon) -> None:
        self._daemon = daemon
        self._over = threading.Event()
        self._some = threading.Semaphore(0)
        self._threads = [threading.Thread(target=self._submit) for _ in range(CLIENTS)]
        self.acknowledged: list[str] = []

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def more(self, count: int) -> None:
        """Return when so many more submissions were acknowledged."""
        for _ in range(count):
            assert self._some.acquire(timeout=60)

    def _submit(self) -> None:
        while not self._over.is_set():
            task = self._daemon.call("task.submit", kind="noop", payload={"result": "x" * 500})
            self.acknowledged.append(task["task_id"])
            self._some.release()


def tasks_in(path: Path, folder: Path) -> set[str]:
    """The ids of the tasks in a backup."""
    database = read_backup(path).manifest.files[0]
    copy = folder / "copy.db"
    with path.open("rb") as file:
        file.seek(database.offset)
        copy.write_bytes(file.read(database.size))
    assert check_integrity(copy) == []
    with closing(sqlite3.connect(copy)) as conn:
        return {row[0] for row in conn.execute("SELECT id FROM tasks")}


@pytest.mark.spec("GC-DATA-221")
def test_a_backup_under_load_is_whole_and_holds_everything_acknowledged_before_it_began(tmp_path: Path) -> None:
    with RunningDaemon(tmp_path / "home", env=QUIET) as daemon, Load(daemon) as load:
        for n in range(3):
            load.more(40)
            before = set(load.acknowledged)
            made = daemon.call("backup.create", path=str(tmp_path / f"{n}.tar"))
            assert before <= tasks_in(tmp_path / f"{n}.tar", tmp_path)
            assert daemon.call("backup.verify", path=made["path"])["ok"] is True
        report = daemon.call("system.verify")
        assert (report["ok"], report["findings"]) == (True, [])


@pytest.mark.spec("GC-DATA-222")
def test_a_restored_home_goes_on_and_old_cursors_are_told_so(tmp_path: Path) -> None:
    home, fresh, path = tmp_path / "home", tmp_path / "fresh", tmp_path / "b.tar"
    with RunningDaemon(home, env=QUIET) as daemon:
        done = daemon.call("task.submit", kind="noop", payload={"result": 1}, idempotency_key="key-1")
        daemon.wait(done["task_id"])
        running = daemon.call("task.submit", kind="noop", payload={"sleep_ms": 600_000})
        while daemon.call("task.get", task_id=running["task_id"])["state"] != "RUNNING":
            pass
        assert goclaw("--home", str(home), "backup", str(path))[0] == 0
        hello = daemon.call("system.hello", version="1.0")
        refused = goclaw("backup", "restore", str(path), "--home", str(home))
        assert (refused[0], "not empty" in refused[2]) == (1, True)
        daemon.kill()
    code, _, said = goclaw("backup", "restore", str(path), "--home", str(fresh), "--json")
    assert code == 0, said
    with RunningDaemon(fresh, env=QUIET) as daemon:
        assert daemon.call("system.hello", version="1.0")["log_id"] != hello["log_id"]
        assert daemon.token != (home / "auth.token").read_text().strip()
        again = daemon.call("task.submit", kind="noop", payload={"result": 1}, idempotency_key="key-1")
        assert (again["task_id"], again["deduplicated"]) == (done["task_id"], True)
        told = [one["event_type"] for one in daemon.call("task.events", task_id=running["task_id"])["events"]]
        assert "task.recovered" in told
        assert daemon.call("system.verify")["findings"] == []
        assert daemon.stop() == 0
    assert goclaw("verify", "--home", str(fresh))[0] == 0


@pytest.mark.spec("GC-DATA-209")
def test_a_row_changed_behind_the_daemons_back_is_found_beside_it_and_without_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with RunningDaemon(home, env=QUIET) as daemon:
        daemon.wait(daemon.call("task.submit", kind="noop", payload={})["task_id"])
        assert daemon.stop() == 0
    with closing(sqlite3.connect(home / "goclaw.db")) as conn:
        conn.execute("UPDATE task SET attempt = 3")
        conn.execute("UPDATE audit_log SET verdict = 'deny' WHERE id = 1")
        conn.commit()
    code, out, _ = goclaw("verify", "--home", str(home))
    assert code == 1
    assert "audit_log 1: row changed" in out
    assert "attempt is 3, its events say 1" in out
    with RunningDaemon(home, env=QUIET) as daemon:
        code, out, _ = goclaw("--home", str(home), "verify", "--json")
        assert (code, json.loads(out)["found"]) == (1, 2)
        told = [
            one["event_type"] for one in daemon.call("session.events.read", session_id="*", from_event_id=0)["events"]
        ]
        assert "security.chain_broken" in told


@pytest.mark.spec("GC-DATA-204")
def test_a_log_that_was_cut_off_is_told_at_the_next_start(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with RunningDaemon(home, env=QUIET) as daemon:
        assert daemon.stop() == 0
    with closing(sqlite3.connect(home / "goclaw.db")) as conn:
        conn.execute("DELETE FROM audit_log WHERE id = (SELECT max(id) FROM audit_log)")
        conn.commit()
    with RunningDaemon(home, env=QUIET) as daemon:
        events = daemon.call("session.events.read", session_id="*", from_event_id=0)["events"]
        (broken,) = [one for one in events if one["event_type"] == "security.chain_broken"]
        assert "cut off" in broken["payload"]["findings"][0]


@pytest.mark.spec("GC-DATA-219")
def test_bad_requests_are_refused_with_a_code_and_write_nothing(tmp_path: Path) -> None:
    with RunningDaemon(tmp_path / "home", env=QUIET) as daemon:
        head = daemon.call("system.status")["db"]["latest_event_id"]
        (tmp_path / "mine").write_text("mine")
        for path, number in (("relative", -32602), (str(tmp_path / "mine"), 4090), ("/nowhere/b.tar", -32602)):
            with pytest.raises(RpcFailed) as caught:
                daemon.call("backup.create", path=path)
            assert caught.value.error["code"] == number
        for path, number in (("relative", -32602), (str(tmp_path / "none"), 4040)):
            with pytest.raises(RpcFailed) as caught:
                daemon.call("backup.verify", path=path)
            assert caught.value.error["code"] == number
        assert daemon.call("system.status")["db"]["latest_event_id"] == head
