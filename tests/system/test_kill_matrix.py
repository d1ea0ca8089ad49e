"""SIGKILL at every commit of a turn with two tools of each effect class: nothing lost, nothing done twice."""

from __future__ import annotations

import stat
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.system.running import RpcFailed, RunningDaemon, leftovers
from tests.system.scripted_llm import ScriptedLLM

POLICY = """
allow_capabilities: [acp.read, acp.mutate, tools.read_file, tools.write_file, tools.exec]
allow_paths: [workspace]
exec:
  allow:
    - {argv: "EFFECT idempotent *", effect: idempotent}
    - {argv: "EFFECT unsafe *"}
"""
EFFECT = """#!/bin/sh
printf '%s %s %s\\n' "$1" "$2" "$GOCLAW_EFFECT_KEY" >> LEDGER
"""
ANSWER = "all six things are done"
MOMENTS = ("before", "after")
# A turn of this script makes 16 commits of its own; audit rows that find the writer idle make a few more.
OWN_COMMITS = 16
COMMITS = 20


@dataclass
class Place:
    """A home, its ledger outside of it, and its script."""

    home: Path
    ledger: Path
    effect: Path

    def script(self) -> list[list[tuple[str, dict[str, Any]]]]:
        run = str(self.effect)
        return [
            [
                ("read_file", {"file_path": "one.txt"}),
                ("read_file", {"file_path": "two.txt"}),
                ("write_file", {"file_path": "made.txt", "content": "made by the turn\n"}),
                ("edit_file", {"file_path": "two.txt", "old_string": "second", "new_string": "edited"}),
            ],
            [
                ("exec", {"argv": [run, "idempotent", "a"], "effect": "idempotent"}),
                ("exec", {"argv": [run, "idempotent", "b"], "effect": "idempotent"}),
                ("exec", {"argv": [run, "unsafe", "a"]}),
                ("exec", {"argv": [run, "unsafe", "b"]}),
            ],
        ]

    def effects(self) -> list[list[str]]:
        text = self.ledger.read_text() if self.ledger.exists() else ""
        return [line.split() for line in text.splitlines()]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    home, ledger, effect = tmp_path / "home", tmp_path / "ledger", tmp_path / "effect.sh"
    workspace = home / "workspace"
    workspace.mkdir(parents=True)
    home.chmod(stat.S_IRWXU)
    (workspace / "one.txt").write_text("first\n")
    (workspace / "two.txt").write_text("second\n")
    effect.write_text(EFFECT.replace("LEDGER", str(ledger)))
    effect.chmod(0o755)
    (home / "policy.yaml").write_text(POLICY.replace("EFFECT", str(effect)))
    return Place(home, ledger, effect)


def _submit(daemon: RunningDaemon) -> Any:
    return daemon.call("agent.chat", content="do the six things", session_id="s", idempotency_key="the-turn")


def _run_until_done(place: Place, llm: ScriptedLLM, crash_at: str | None) -> tuple[Any, list[Any], int]:
    """One life that is killed, then lives until the task is terminal; the task, its steps, and how many were killed."""
    env = {"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": llm.url}
    killed = 0
    if crash_at is not None:
        crash = {**env, "GOCLAW_CRASH_AT": crash_at}
        with RunningDaemon(place.home, env=crash, launcher=("-m", "tests.system.crashing")) as daemon:
            try:
                task_id = _submit(daemon)["task_id"]
                daemon.wait(task_id)
            except (OSError, RpcFailed):
                assert daemon.wait_for_exit() == -9
                killed = 1
    with RunningDaemon(place.home, env=env) as daemon:
        task_id = _submit(daemon)["task_id"]
        task = daemon.wait(task_id)
        steps = daemon.call("task.steps", task_id=task_id)["steps"]
        history = daemon.call("session.history", session_id="s")["items"]
        assert [item["role"] for item in history].count("user") == 1
        assert daemon.stop() == 0
    return task, steps, killed


def _check(place: Place, llm: ScriptedLLM, task: Any, steps: list[Any], killed: int) -> None:
    assert task["state"] == "SUCCEEDED"
    assert task["result"]["text"] == ANSWER
    # No prompt differs from the one before the crash, and none was paid twice but the one in flight.
    unknown = [step for step in steps if step["state"] == "unknown"]
    counts = Counter(llm.requests)
    assert len(counts) == 3
    assert sum(counts.values()) <= 3 + killed
    effects = Counter((kind, name) for kind, name, _ in place.effects())
    repeatable = [effect for effect in place.effects() if effect[0] == "idempotent"]
    keys = {name: {key for _, other, key in repeatable if other == name} for name in "ab"}
    for name in "ab":
        assert effects["unsafe", name] <= 1
        assert effects["idempotent", name] >= 1
        assert len(keys[name]) == 1, "a repeated idempotent call keeps its effect key"
    told_done = [step for step in steps if step.get("tool") == "exec" and step["state"] == "done"]
    assert len(told_done) + len(unknown) == 4
    assert len(unknown) <= killed
    assert all(step["effect"] == "unsafe" for step in unknown)
    if not unknown:
        assert effects["unsafe", "a"] == effects["unsafe", "b"] == 1
    assert (place.home / "workspace" / "made.txt").read_text() == "made by the turn\n"
    assert (place.home / "workspace" / "two.txt").read_text() == "edited\n"
    assert leftovers(place.home) == []


@pytest.mark.spec("GC-PER-010")
def test_a_turn_that_nobody_kills_does_each_thing_once(place: Place) -> None:
    with ScriptedLLM(place.script(), ANSWER) as llm:
        task, steps, killed = _run_until_done(place, llm, None)
        _check(place, llm, task, steps, killed)
        assert len(llm.requests) == 3
        assert sorted(Counter((kind, name) for kind, name, _ in place.effects()).values()) == [1, 1, 1, 1]


@pytest.mark.spec("GC-PER-010")
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("commit", range(1, COMMITS + 1))
def test_a_turn_killed_at_a_commit_goes_on_as_if_nothing_had_happened(place: Place, commit: int, moment: str) -> None:
    with ScriptedLLM(place.script(), ANSWER) as llm:
        task, steps, killed = _run_until_done(place, llm, f"{commit}:{moment}")
        assert killed == 1 or commit > OWN_COMMITS, f"the turn made fewer than {commit} commits"
        _check(place, llm, task, steps, killed)


@pytest.mark.spec("GC-PER-010")
def test_the_matrix_covers_every_commit_of_the_turn(place: Place) -> None:
    with ScriptedLLM(place.script(), ANSWER) as llm:
        _, _, killed = _run_until_done(place, llm, f"{COMMITS + 1}:before")
        assert killed == 0, "the turn has more commits than the matrix covers: raise COMMITS"
