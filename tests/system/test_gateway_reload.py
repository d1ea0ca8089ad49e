"""policy.yaml and config.yaml saved while the daemon serves: in force at once, and never worse than before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.running import RpcFailed, RunningDaemon, wait_until

OPEN = "allow_capabilities: [acp.read, acp.mutate, tools.read_file]\nallow_paths: [workspace]\n"
CLOSED = "allow_capabilities: [acp.read]\n"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[RunningDaemon]:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "policy.yaml").write_text(OPEN)
    with RunningDaemon(home) as running:
        yield running


def told(daemon: RunningDaemon, event_type: str) -> list[Any]:
    events = daemon.call("session.events.read", session_id="*", from_event_id=0, limit=1000)["events"]
    return [event for event in events if event["event_type"] == event_type]


def denied(call: Callable[[], Any]) -> bool:
    """Whether a call is denied; any other failure is one of the test."""
    try:
        call()
    except RpcFailed as refused:
        if refused.error["code"] != 4030:
            raise
        return True
    return False


def submit(daemon: RunningDaemon) -> Any:
    return daemon.call("task.submit", kind="noop", payload={})


@pytest.mark.spec("GC-SEC-210")
def test_a_saved_policy_is_in_force_at_once_and_told(daemon: RunningDaemon) -> None:
    submit(daemon)
    before = daemon.call("policy.show")["version"]
    (daemon.home / "policy.yaml").write_text(CLOSED)
    wait_until(lambda: denied(lambda: submit(daemon)), "the new policy is in force")
    (event,) = told(daemon, "policy.reloaded")
    assert event["payload"]["version"] == daemon.call("policy.show")["version"] != before
    # An editor that replaces the file by renaming another onto it.
    (daemon.home / "policy.new").write_text(OPEN)
    (daemon.home / "policy.new").rename(daemon.home / "policy.yaml")
    wait_until(lambda: not denied(lambda: submit(daemon)), "the old policy is in force again")
    assert daemon.call("policy.show")["version"] == before


@pytest.mark.spec("GC-SEC-210")
def test_a_broken_policy_keeps_the_last_good_one_and_is_told(daemon: RunningDaemon) -> None:
    before = daemon.call("policy.show")["version"]
    (daemon.home / "policy.yaml").write_text("allow_capabilities: [everything]\n")
    wait_until(lambda: told(daemon, "policy.reload_failed"), "the mistake is told")
    submit(daemon)
    assert daemon.call("policy.show")["version"] == before
    payload = told(daemon, "policy.reload_failed")[0]["payload"]
    assert "everything" in payload["reason"]
    assert payload["denies_all"] is False
    rows = daemon.call("audit.tail")["rows"]
    assert ("goclaw", "policy.change", "deny") in [(row["subject"], row["capability"], row["verdict"]) for row in rows]
    (daemon.home / "policy.yaml").write_text(OPEN)
    wait_until(lambda: told(daemon, "policy.reloaded"), "that it is well again is told")


@pytest.mark.spec("GC-SEC-210")
def test_a_deleted_policy_denies_everything_until_it_is_back(daemon: RunningDaemon) -> None:
    (daemon.home / "policy.yaml").unlink()
    wait_until(lambda: denied(lambda: daemon.call("system.status")), "reading is denied too")
    assert denied(lambda: submit(daemon))
    assert daemon.http("/healthz")["healthy"] is True
    (daemon.home / "policy.yaml").write_text(OPEN)
    wait_until(lambda: not denied(lambda: daemon.call("system.status")), "it is back")
    assert told(daemon, "policy.reload_failed")[-1]["payload"]["denies_all"] is True


@pytest.mark.spec("GC-CFG-210")
def test_a_saved_config_is_in_force_at_once_and_a_broken_one_changes_nothing(daemon: RunningDaemon) -> None:
    before = daemon.call("system.status")
    (daemon.home / "config.yaml").write_text("agents:\n  helper:\n    display_name: Helper\n    worker_count: 3\n")
    wait_until(lambda: told(daemon, "config.reloaded"), "the change is told")
    status = daemon.call("system.status")
    assert status["config_hash"] != before["config_hash"]
    lanes = {agent["agent_id"]: agent["worker_count"] for agent in status["agents"]}
    assert lanes == {"default": before["worker_count"], "helper": 3}
    done = daemon.call("task.submit", kind="noop", payload={}, agent_id="helper")
    assert daemon.wait(done["task_id"])["state"] == "SUCCEEDED"
    assert [entry["id"] for entry in daemon.http("/v1/models")["data"]][-1] == "goclaw/helper"
    (daemon.home / "config.yaml").write_text("worker_cuont: 4\n")
    wait_until(lambda: told(daemon, "config.reload_failed"), "the mistake is told")
    assert daemon.call("system.status")["config_hash"] == status["config_hash"]


@pytest.mark.spec("GC-CFG-210")
def test_schedules_in_the_config_come_and_go_with_it(daemon: RunningDaemon) -> None:
    config = daemon.home / "config.yaml"
    config.write_text("schedules:\n  - {id: tick, every: 1s, kind: noop}\n")
    wait_until(lambda: daemon.call("cron.list")["schedules"], "the schedule is there")
    wait_until(lambda: told(daemon, "cron.fired"), "it fires")
    assert daemon.call("cron.history", id="tick")["occurrences"][0]["outcome"] == "ran"
    assert daemon.call("task.list", kind="noop")["tasks"]
    config.write_text("")
    wait_until(lambda: not daemon.call("cron.list")["schedules"], "it is gone")
