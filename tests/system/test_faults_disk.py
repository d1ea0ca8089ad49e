"""A disk that is really full: what is refused, what goes on, and that it ends by itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest

from tests.system.running import REPOSITORY, DaemonDied, RpcFailed, RunningDaemon, wait_until

CONFIG = "worker_count: 2\nlow_disk_mb: 16\n"


class Disk:
    """A small disk of its own with a home on it, and a file that fills it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir(mode=0o700)
        (self.home / "config.yaml").write_text(CONFIG)
        self._filler = folder / "filler"

    def fill(self, leave: int = 0) -> None:
        """Take what is left but for `leave` bytes."""
        about = os.statvfs(self.folder)
        blocks = (about.f_bavail * about.f_frsize - leave) // 4096 if leave else 1 << 40
        # The daemon may take the last blocks meanwhile.
        with self._filler.open("ab", buffering=0) as file, suppress(OSError):
            for _ in range(blocks):
                file.write(b"x" * 4096)

    def clear(self) -> None:
        """Give everything back."""
        self._filler.unlink(missing_ok=True)

    def serve(self) -> RunningDaemon:
        return RunningDaemon(self.home, env={"OLLAMA_HOST": ""})


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root may make a small disk; a full store is tested without one in tests/unit/db")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def state(daemon: RunningDaemon) -> Any:
    return daemon.call("system.status")["storage"]["state"]


def submit(daemon: RunningDaemon, **params: Any) -> str:
    return str(daemon.call("task.submit", kind="noop", payload={}, **params)["task_id"])


def until_full(daemon: RunningDaemon) -> dict[str, Any]:
    """Ask for work until the daemon has seen the disk; the refusal."""
    for _ in range(1_000):
        try:
            submit(daemon, delay_ms=1_000_000)
        except RpcFailed as refused:
            return dict(refused.error)
    pytest.fail("new work was never refused")


def types(daemon: RunningDaemon) -> list[str]:
    """The events that belong to no task."""
    read, cursor = [], 0
    while page := daemon.call("session.events.read", session_id="*", from_event_id=cursor, limit=500)["events"]:
        read += page
        cursor = page[-1]["event_id"]
    return [event["event_type"] for event in read if event["task_id"] is None]


def refusal(daemon: RunningDaemon, path: str, body: Any = None) -> tuple[int, Any, Any]:
    """Status, headers and JSON of a request that is not answered with 200."""
    with pytest.raises(HTTPError) as refused:
        daemon.http(path, body)
    with refused.value as answer:
        return answer.code, answer.headers, json.loads(answer.read())


def goclaw(home: Path, *words: str) -> tuple[int, Any]:
    """A command of the command line with --json; its exit code and what it said."""
    command = [sys.executable, "-m", "goclaw", "--home", str(home), *words, "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False, timeout=60)
    return ended.returncode, json.loads(ended.stdout)


@pytest.mark.spec("GC-REL-201")
@pytest.mark.spec("GC-REL-202")
def test_on_a_full_disk_work_is_refused_and_cancelling_and_stopping_go_on(disk: Disk) -> None:
    with disk.serve() as daemon:
        tasks = [{"kind": "noop", "payload": {"sleep_ms": 600_000}}] * 2 + [{"kind": "noop", "payload": {}}] * 300
        ids = [one["task_id"] for one in daemon.call("task.submit_many", tasks=tasks)["results"]]
        wait_until(lambda: daemon.call("system.status")["running_tasks"] == 2, "two tasks run")
        disk.fill()
        refused = until_full(daemon)
        assert (refused["code"], refused["data"]["code"], refused["data"]["retryable"]) == (4290, "STORE_FULL", True)
        depth = daemon.call("system.status")["queue_depth"]
        for task_id in ids[2:202]:
            assert daemon.call("task.cancel", task_id=task_id)["state"] == "CANCELED"
        assert daemon.call("task.cancel", task_id=ids[0])["canceled"], "a running one too"
        assert daemon.call("system.status")["queue_depth"] == depth - 200, "and nothing was claimed in its place"
        assert daemon.call("task.get", task_id=ids[250])["state"] == "QUEUED"
        assert daemon.stop() == 0
    disk.clear()
    with disk.serve() as daemon:
        assert next(line for line in daemon.lines if line["msg"] == "schema_migrated")["clean_stop"] is True
        assert daemon.call("task.get", task_id=ids[202])["state"] in ("QUEUED", "RUNNING", "SUCCEEDED")
        assert daemon.call("task.get", task_id=ids[201])["state"] == "CANCELED"


@pytest.mark.spec("GC-REL-202")
def test_when_the_reserve_is_used_up_too_reading_and_stopping_go_on(disk: Disk) -> None:
    with disk.serve() as daemon:
        tasks = [{"kind": "noop", "payload": {"sleep_ms": 600_000}}] + [{"kind": "noop", "payload": {}}] * 999
        daemon.call("system.pause", scope="all")
        ids = [one["task_id"] for one in daemon.call("task.submit_many", tasks=tasks)["results"]]
        disk.fill()
        until_full(daemon)
        canceled = 0
        for task_id in ids:
            try:
                daemon.call("task.cancel", task_id=task_id)
            except RpcFailed:
                break
            canceled += 1
        assert canceled >= 200
        assert daemon.call("task.get", task_id=ids[0])["state"] == "CANCELED"
        assert daemon.call("system.status")["storage"]["state"] == "full"
        assert daemon.stop() == 0
    disk.clear()
    with disk.serve() as daemon:
        states = [daemon.call("task.get", task_id=task_id)["state"] for task_id in ids]
        assert states == ["CANCELED"] * canceled + ["QUEUED"] * (1_000 - canceled)


@pytest.mark.spec("GC-REL-203")
def test_a_full_disk_is_seen_on_every_face_and_ends_by_itself(disk: Disk) -> None:
    with disk.serve() as daemon:
        disk.fill()
        until_full(daemon)
        told = daemon.call("system.status")
        assert told["healthy"] is False
        assert told["storage"]["state"] == "full"
        assert told["storage"]["full_since"] > 0
        code, headers, body = refusal(daemon, "/readyz")
        assert code == 503
        assert "disk is full" in body["reasons"][0]
        assert body["checks"]["storage"]["ok"] is False
        asked = {"model": "goclaw", "messages": [{"role": "user", "content": "hello"}]}
        code, headers, body = refusal(daemon, "/v1/chat/completions", asked)
        assert (code, headers["retry-after"], body["error"]["code"]) == (503, "5", "store_full")
        metrics = daemon.http("/metrics/json")
        assert metrics["goclaw_storage_full"]["samples"][0]["value"] == 1
        assert metrics["goclaw_storage_refused_total"]["samples"][0]["value"] >= 1
        code, shown = goclaw(disk.home, "status")
        assert (code, shown["storage"]["state"]) == (1, "full")
        code, shown = goclaw(disk.home, "doctor")
        checks = {check["name"]: check for check in shown["checks"]}
        assert (code, checks["disk"]["status"]) == (1, "fail")
        assert "new work is refused" in checks["disk"]["detail"]
        assert "disk is full" in checks["daemon"]["detail"]
        disk.clear()
        wait_until(lambda: state(daemon) == "ample", "there is room again")
        done = daemon.wait(submit(daemon))
        assert done["state"] == "SUCCEEDED"
        assert daemon.http("/readyz")["ready"] is True
        assert [one for one in types(daemon) if one.startswith("storage.")] == ["storage.full", "storage.room"]


@pytest.mark.spec("GC-REL-204")
def test_work_goes_on_where_it_stood_when_there_is_room(disk: Disk) -> None:
    with disk.serve() as daemon:
        disk.fill()
        until_full(daemon)
        disk.clear()
        wait_until(lambda: state(daemon) == "ample", "there is room again")
        tasks = [{"kind": "noop", "payload": {"sleep_ms": 100}}] * 50
        ids = [one["task_id"] for one in daemon.call("task.submit_many", tasks=tasks)["results"]]
        disk.fill()
        wait_until(lambda: state(daemon) == "full", "what runs meets the end of the disk")
        wait_until(lambda: daemon.call("system.status")["running_tasks"] == 0, "and ends")
        assert daemon.call("system.status")["queue_depth"] > 0, "and is not followed by more"
        disk.clear()
        assert {daemon.wait(task_id)["state"] for task_id in ids} == {"SUCCEEDED"}


@pytest.mark.spec("GC-REL-205")
def test_a_disk_that_comes_near_its_end_is_told_before_it_is_full(disk: Disk) -> None:
    with disk.serve() as daemon:
        disk.fill(leave=12 * 1024 * 1024)
        wait_until(lambda: submit(daemon) and "storage.low" in types(daemon), "it is told as an event")
        assert state(daemon) == "low"
        assert daemon.call("system.status")["healthy"] is True
        assert daemon.http("/readyz")["ready"] is True
        disk.clear()
        wait_until(lambda: submit(daemon) and "storage.ample" in types(daemon), "and that it is over")


@pytest.mark.spec("GC-REL-202")
def test_a_start_on_a_full_disk_says_why_it_fails_and_loses_nothing(disk: Disk) -> None:
    with disk.serve() as daemon:
        task_id = submit(daemon, delay_ms=1_000_000)
        daemon.kill()
    disk.fill()
    daemon = disk.serve()
    with pytest.raises(DaemonDied):
        daemon.__enter__()
    failure = next(line for line in daemon.lines if line.get("msg") == "startup failure")
    assert failure["reason_code"] in ("E_STORE_OPEN", "E_HOME_UNWRITABLE")
    assert not any("Traceback" in str(line.get("msg")) for line in daemon.lines)
    disk.clear()
    with disk.serve() as daemon:
        assert daemon.call("task.get", task_id=task_id)["state"] == "QUEUED"
