"""A daemon that keeps dying: seen, said, and answered by letting wait what may be its cause."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.system.running import REPOSITORY, RunningDaemon, leftovers, wait_until

CONFIG = """
worker_count: 2
crash_loop_delay_seconds: 4
schedules:
  - {id: beat, every: 1s, kind: noop, payload: {}}
"""
POLICY = """
allow_capabilities: [acp.read, acp.mutate, tools.exec]
allow_paths: [workspace]
exec:
  allow:
    - {argv: "SCRIPT **", effect: pure}
"""
KILLER = """#!/bin/sh
# Note the run, and take the daemon along.
echo run >> LEDGER
kill -9 $PPID
exec sleep 300
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    (folder / "config.yaml").write_text(CONFIG)
    return folder


def serve(home: Path) -> RunningDaemon:
    return RunningDaemon(home, env={"OLLAMA_HOST": ""})


def die(home: Path, times: int) -> None:
    """So many unclean stops with nothing under way."""
    for _ in range(times):
        with serve(home) as daemon:
            daemon.kill()


def events(daemon: RunningDaemon, prefix: str) -> list[dict[str, Any]]:
    read, cursor = [], 0
    while page := daemon.call("session.events.read", session_id="*", from_event_id=cursor, limit=500)["events"]:
        read += page
        cursor = page[-1]["event_id"]
    return [event for event in read if event["event_type"].startswith(prefix)]


def told(daemon: RunningDaemon, prefix: str) -> list[str]:
    return [event["event_type"] for event in events(daemon, prefix)]


def goclaw(home: Path, *words: str) -> Any:
    command = [sys.executable, "-m", "goclaw", "--home", str(home), *words, "--json"]
    return json.loads(subprocess.run(command, capture_output=True, cwd=REPOSITORY, check=False, timeout=60).stdout)


@pytest.mark.spec("GC-REL-211")
@pytest.mark.spec("GC-REL-212")
def test_the_third_unclean_stop_is_a_crash_loop_that_delays_suspects_and_schedules_alone(home: Path) -> None:
    die(home, 2)
    with serve(home) as daemon:
        suspect = daemon.call("task.submit", kind="noop", payload={"sleep_ms": 1_500})["task_id"]
        wait_until(lambda: daemon.call("task.get", task_id=suspect)["state"] == "RUNNING", "it runs")
        assert daemon.call("system.status")["starts"]["crash_loop"] is False
        daemon.kill()
    with serve(home) as daemon:
        starts = daemon.call("system.status")["starts"]
        assert (starts["crash_loop"], starts["unclean_stops"]) == (True, 3)
        assert 0 < starts["hold_ms"] <= 300_000
        assert daemon.http("/readyz")["ready"] is True
        held = daemon.call("task.get", task_id=suspect)
        assert (held["state"], held["wait_reason"], held["available_at"]) == ("QUEUED", "delay", starts["held_until"])
        other = daemon.wait(daemon.call("task.submit", kind="noop", payload={})["task_id"])
        assert other["state"] == "SUCCEEDED"
        assert other["finished_at"] < starts["held_until"]
        assert "system.crash_loop" in told(daemon, "system.")
        assert told(daemon, "task.held") == ["task.held"]
        assert daemon.http("/metrics/json")["goclaw_crash_loop"]["samples"][0]["value"] == 1
        check = next(one for one in goclaw(home, "doctor")["checks"] if one["name"] == "starts")
        assert (check["status"], "crash loop" in check["detail"]) == ("warn", True)
        assert daemon.wait(suspect)["finished_at"] >= starts["held_until"]
        begun, until = starts["held_until"] - starts["hold_ms"], starts["held_until"]
        wait_until(
            lambda: [one for one in events(daemon, "cron.fired") if one["created_at"] >= until], "schedules go on"
        )
        assert [one for one in events(daemon, "cron.") if begun <= one["created_at"] < until] == []
        assert daemon.stop() == 0
    check = next(one for one in goclaw(home, "doctor")["checks"] if one["name"] == "starts")
    assert check["status"] == "warn", "also when nobody serves"


@pytest.mark.spec("GC-REL-213")
def test_clean_stops_are_no_crash_loop(home: Path) -> None:
    die(home, 2)
    for _ in range(3):
        with serve(home) as daemon:
            starts = daemon.call("system.status")["starts"]
            assert (starts["crash_loop"], starts["unclean_stops"], starts["hold_ms"]) == (False, 2, 0)
            assert daemon.stop() == 0


@pytest.mark.spec("GC-REL-214")
def test_a_task_that_kills_the_daemon_is_set_aside_at_its_third_death_and_others_are_done_meanwhile(
    home: Path, tmp_path: Path
) -> None:
    script, ledger = tmp_path / "killer.sh", tmp_path / "ledger"
    script.write_text(KILLER.replace("LEDGER", str(ledger)))
    script.chmod(0o755)
    (home / "config.yaml").write_text("worker_count: 2\ncrash_loop_delay_seconds: 1\n")
    (home / "policy.yaml").write_text(POLICY.replace("SCRIPT", str(script)))
    payload = {"argv": [str(script)], "effect": "pure"}
    # Two unclean stops before: from its first death on the daemon counts as looping.
    die(home, 2)
    with serve(home) as daemon:
        poison = daemon.call("task.submit", kind="exec", payload=payload, delay_ms=200)["task_id"]
        others = [daemon.call("task.submit", kind="noop", payload={})["task_id"] for _ in range(5)]
        assert daemon.wait_for_exit() == -signal.SIGKILL
    for _ in range(2):
        with serve(home) as daemon:
            assert daemon.http("/readyz")["ready"] is True
            others.append(daemon.call("task.submit", kind="noop", payload={})["task_id"])
            assert daemon.wait(others[-1])["state"] == "SUCCEEDED", "while the poison waits"
            assert daemon.wait_for_exit() == -signal.SIGKILL
    with serve(home) as daemon:
        task = daemon.wait(poison)
        assert (task["state"], task["error_code"], task["deaths"]) == ("DEAD_LETTER", "POISON", 3)
        assert {daemon.wait(one)["state"] for one in others} == {"SUCCEEDED"}
        assert daemon.call("system.status")["starts"]["crash_loop"] is True
        assert daemon.stop() == 0
    assert ledger.read_text().split() == ["run"] * 3
    for pid in leftovers(home):
        os.kill(pid, signal.SIGKILL)
