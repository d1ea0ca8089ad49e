"""What a successor finds after SIGKILL, and what it makes of it: real processes, real signals, a real file."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.system.running import DaemonDied, RpcFailed, RunningDaemon, leftovers, wait_until

POLICY = """
allow_capabilities: [acp.read, acp.mutate, tools.read_file, tools.exec]
allow_paths: [workspace]
exec:
  allow:
    - {argv: "SCRIPT **", effect: pure}
    - {argv: "sleep *", effect: pure}
"""
SCRIPT = """#!/bin/sh
# NAME WHEN: note the run, then end well, or kill the daemon and live on.
echo "$1 $GOCLAW_EFFECT_KEY $$" >> LEDGER
case $2 in
    never) exit 0 ;;
    once) [ ! -e LEDGER.once ] || exit 0; : > LEDGER.once ;;
    go) until [ -e LEDGER.go ]; do sleep 0.02; done ;;
esac
kill -9 $PPID
exec sleep 300
"""


@dataclass
class Place:
    """A home, a ledger outside of it, and the script that writes there."""

    home: Path
    ledger: Path
    script: Path

    def runs(self, name: str | None = None) -> list[list[str]]:
        """[name, effect key, pid] of every run, in order."""
        text = self.ledger.read_text() if self.ledger.exists() else ""
        return [line.split() for line in text.splitlines() if name is None or line.split()[0] == name]

    def exec(self, name: str, when: str, **payload: Any) -> dict[str, Any]:
        """A submission, known again by its key."""
        argv = [str(self.script), name, when]
        return {"kind": "exec", "payload": {"argv": argv, **payload}, "idempotency_key": name}

    def serve(self, **env: str) -> RunningDaemon:
        launcher = ("-m", "tests.system.crashing") if "GOCLAW_CRASH_AT" in env else ("-m", "goclaw")
        return RunningDaemon(self.home, env={"OLLAMA_HOST": "", **env}, launcher=launcher)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path / "home", tmp_path / "ledger", tmp_path / "script.sh")
    (made.home / "workspace").mkdir(parents=True)
    made.home.chmod(0o700)
    made.script.write_text(SCRIPT.replace("LEDGER", str(made.ledger)))
    made.script.chmod(0o755)
    (made.home / "policy.yaml").write_text(POLICY.replace("SCRIPT", str(made.script)))
    yield made
    left = leftovers(made.home)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == []


def submit(daemon: RunningDaemon, **params: Any) -> str:
    """Submit a task; its id. The daemon may die while it answers."""
    try:
        return str(daemon.call("task.submit", **params)["task_id"])
    except OSError:
        return ""


def recovered(daemon: RunningDaemon) -> dict[str, Any]:
    """The line of the recovery scan, which stands before anything that could take work."""
    messages = [line.get("msg") for line in daemon.lines]
    assert messages.index("recovery_scan_completed") < messages.index("gateway_bound") < messages.index("ready")
    return daemon.lines[messages.index("recovery_scan_completed")]


def die_of(place: Place, *submissions: dict[str, Any]) -> None:
    """A life that takes these submissions and is killed by its own work."""
    try:
        with place.serve() as daemon:
            for one in submissions:
                submit(daemon, **one)
            assert daemon.wait_for_exit() == -9
    except DaemonDied:
        return  # so early that it was not even ready


def types(daemon: RunningDaemon, task_id: str) -> list[str]:
    return [event["event_type"] for event in daemon.call("task.events", task_id=task_id)["events"]]


@pytest.mark.spec("GC-PER-020")
def test_a_leftover_process_is_killed_before_work_is_taken_and_its_unsafe_task_is_never_run_again(place: Place) -> None:
    unsafe = place.exec("unsafe", "always")
    die_of(place, unsafe)
    ((_, _, pid),) = place.runs()
    assert leftovers(place.home) == [int(pid)]
    with place.serve() as daemon:
        assert recovered(daemon)["killed"] == [int(pid)]
        assert leftovers(place.home) == []
        task_id = submit(daemon, **unsafe)
        task = daemon.wait(task_id)
        assert (task["state"], task["error_code"]) == ("FAILED", "OUTCOME_UNKNOWN")
        assert [step["state"] for step in daemon.call("task.steps", task_id=task_id)["steps"]] == ["unknown"]
        with pytest.raises(RpcFailed, match="4090"):
            daemon.call("task.retry", task_id=task_id)
        assert types(daemon, task_id).count("task.claimed") == 1
        assert len(place.runs()) == 1
        daemon.call("task.resolve", task_id=task_id, outcome="done", result="it was sent")
        daemon.call("task.retry", task_id=task_id)
        task = daemon.wait(task_id)
        assert (task["state"], task["result"]["text"]) == ("SUCCEEDED", "it was sent")
    assert len(place.runs()) == 1, "a person said that it was done"


@pytest.mark.spec("GC-PER-021")
def test_a_pure_task_runs_again_with_its_key_and_gets_its_attempt_back(place: Place) -> None:
    pure = place.exec("pure", "once", effect="pure")
    die_of(place, pure)
    with place.serve() as daemon:
        task_id = submit(daemon, **pure)
        task = daemon.wait(task_id)
        assert (task["state"], task["attempt"], task["deaths"]) == ("SUCCEEDED", 1, 1)
        assert types(daemon, task_id).count("task.recovered") == 1
    assert len(place.runs()) == 2
    assert len({key for _, key, _ in place.runs()}) == 1


@pytest.mark.spec("GC-PER-022")
def test_a_task_that_kills_the_daemon_each_time_is_a_poisoned_dead_letter_and_the_others_finish(place: Place) -> None:
    poison = place.exec("poison", "always", effect="pure")
    others = [place.exec(f"other-{number}", "never", effect="pure") for number in range(4)]
    waiting = {"kind": "noop", "payload": {"sleep_ms": 200}, "idempotency_key": "noop"}
    die_of(place, waiting, *others[:2], poison, *others[2:])
    for deaths in (1, 2):
        assert len(place.runs("poison")) == deaths
        die_of(place)
    with place.serve() as daemon:
        task_id = submit(daemon, **poison)
        task = daemon.wait(task_id)
        assert (task["state"], task["error_code"], task["deaths"]) == ("DEAD_LETTER", "POISON", 3)
        ids = [submit(daemon, **other) for other in (*others, waiting)]
        assert {daemon.wait(one)["state"] for one in ids} == {"SUCCEEDED"}
        told = [event for one in (task_id, *ids) for event in daemon.call("task.events", task_id=one)["events"]]
    assert len(place.runs("poison")) == 3
    assert beside(told, task_id) == set()


def beside(told: list[dict[str, Any]], task_id: str) -> set[str]:
    """Which tasks were held at any time during the last run of this one."""
    held: set[str] = set()
    met: set[str] = set()
    for event in sorted(told, key=lambda one: one["event_id"]):
        if event["event_type"] == "task.claimed":
            if event["task_id"] == task_id:
                met = set(held)
            elif task_id in held:
                met.add(event["task_id"])
            held.add(event["task_id"])
        elif event["state_from"] == "RUNNING":
            held.discard(event["task_id"])
    return met


@pytest.mark.spec("GC-PER-023")
def test_a_task_that_waits_for_its_next_try_keeps_its_due_time_over_a_kill(place: Place) -> None:
    failing = {"kind": "noop", "payload": {"fail": "not yet"}, "max_attempts": 2, "idempotency_key": "failing"}
    with place.serve() as daemon:
        task_id = submit(daemon, **failing)
        before = wait_until(lambda: waits(daemon, task_id), "the task waits for its next try")
        daemon.kill()
    with place.serve() as daemon:
        after = daemon.call("task.get", task_id=task_id)
        # A slow machine may start so late that the wait is over.
        assert after["state"] != "RETRY_WAIT" or after["available_at"] == before["available_at"]
        task = daemon.wait(task_id)
        assert (task["state"], task["attempt"], task["deaths"]) == ("DEAD_LETTER", 2, 0)
        events = daemon.call("task.events", task_id=task_id)["events"]
    woken = next(event for event in events if event["event_type"] == "task.requeued")
    assert woken["created_at"] >= before["available_at"]


def waits(daemon: RunningDaemon, task_id: str) -> Any:
    task = daemon.call("task.get", task_id=task_id)
    return task if task["state"] == "RETRY_WAIT" else None


@pytest.mark.spec("GC-PER-024")
def test_queued_turns_keep_the_order_of_their_session_over_a_kill(place: Place) -> None:
    def chat(name: str, when: str) -> dict[str, Any]:
        content = f"/exec {json.dumps({'argv': [str(place.script), name, when]})}"
        return {"content": content, "session_id": "s", "idempotency_key": name}

    names = [f"turn-{number}" for number in range(5)]
    turns = [chat(name, "never" if number else "go") for number, name in enumerate(names)]
    with place.serve() as daemon:
        for turn in turns:
            daemon.call("agent.chat", **turn)
        wait_until(place.runs, "the first turn runs")
        place.ledger.with_suffix(".go").touch()
        assert daemon.wait_for_exit() == -9
    with place.serve() as daemon:
        tasks = [daemon.wait(daemon.call("agent.chat", **turn)["task_id"]) for turn in turns]
        assert [task["state"] for task in tasks] == ["SUCCEEDED"] * 5
        assert "outcome of this call is unknown" in tasks[0]["result"]["text"]
        items = daemon.call("session.history", session_id="s")["items"]
        asked = [item["task_id"] for item in items if item["role"] == "user"]
        answered = [item["task_id"] for item in items if item["role"] == "assistant"]
        assert asked == [task["id"] for task in tasks]
        assert list(dict.fromkeys(answered)) == asked
    assert [name for name, _, _ in place.runs()] == names, "each ran once, in the order of submission"


@pytest.mark.spec("GC-PER-025")
def test_a_cancellation_that_was_committed_before_the_kill_is_carried_out_by_recovery(place: Place) -> None:
    asleep = {"kind": "noop", "payload": {"sleep_ms": 60_000}, "idempotency_key": "asleep"}
    with place.serve(GOCLAW_CRASH_AT="SET cancel_requested = 1:after") as daemon:
        task_id = submit(daemon, **asleep)
        wait_until(lambda: daemon.call("task.get", task_id=task_id)["state"] == "RUNNING", "the task runs")
        with suppress(OSError):
            daemon.call("task.cancel", task_id=task_id, reason="changed my mind")
        assert daemon.wait_for_exit() == -9
    with place.serve() as daemon:
        task = daemon.call("task.get", task_id=task_id)
        assert (task["state"], task["error_code"], task["deaths"]) == ("CANCELED", "CANCELED", 0)
        assert task["error"] == "changed my mind"
        assert types(daemon, task_id)[-1] == "task.canceled"


@pytest.mark.spec("GC-BRN-003")
def test_a_turn_that_is_canceled_among_parallel_calls_leaves_no_process(place: Place) -> None:
    call = f"/exec {json.dumps({'argv': ['sleep', '300'], 'effect': 'pure'})}"
    with place.serve() as daemon:
        task_id = daemon.call("agent.chat", content=f"{call}\n{call}\n{call}", session_id="s")["task_id"]
        wait_until(lambda: len(leftovers(place.home)) == 3, "three calls run side by side")
        assert daemon.call("task.cancel", task_id=task_id) == {"canceled": True, "state": "CANCELED"}
        assert leftovers(place.home) == []
        states = [step["state"] for step in daemon.call("task.steps", task_id=task_id)["steps"]]
        assert states == ["done", "done", "running", "running", "running"]


@pytest.mark.spec("GC-PER-040")
def test_a_person_settles_what_a_model_was_told_and_the_next_turn_hears_of_it(place: Place) -> None:
    content = f"/exec {json.dumps({'argv': [str(place.script), 'sent', 'once']})}"
    turn = {"content": content, "session_id": "s", "idempotency_key": "turn"}
    with place.serve() as daemon:
        with suppress(OSError):
            daemon.call("agent.chat", **turn)
        assert daemon.wait_for_exit() == -9
    with place.serve() as daemon:
        task = daemon.wait(daemon.call("agent.chat", **turn)["task_id"])
        assert "outcome of this call is unknown" in task["result"]["text"]
        daemon.call("task.resolve", task_id=task["id"], outcome="done", result="bob has it")
        item = daemon.call("session.history", session_id="s")["items"][-1]
        assert (item["role"], item["task_id"]) == ("system", task["id"])
        assert "it did take effect" in item["text"]
        assert "bob has it" in item["text"]
    assert len(place.runs()) == 1
