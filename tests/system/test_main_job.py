"""The main job: a prompt on the command line, a durable turn with a real tool call, the answer on stdout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.mock_llm import MockLLM, mock_llm, read_the_file
from tests.system.running import REPOSITORY, RunningDaemon, wait_until

PASSED_ON = ("PATH", "HOME", "LANG", "PYTHONPATH", "VIRTUAL_ENV")
ANSWER = "The file says that the harbour opens at seven."
CONTENT = "the harbour opens at seven\n"
USAGE = {"input_tokens": 30, "output_tokens": 4, "prompt_tokens": 30, "completion_tokens": 4}
WIRES = {
    "anthropic": ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", ""),
    "openai": ("OPENAI_API_KEY", "OPENAI_BASE_URL", "/v1"),
}


@dataclass(frozen=True)
class Shop:
    """A daemon on a home with a file, the model behind it, and the wire format between the two."""

    wire: str
    daemon: RunningDaemon
    model: MockLLM

    def goclaw(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        env = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        return subprocess.run(
            [sys.executable, "-m", "goclaw", *words],
            env={**env, "GOCLAW_HOME": str(self.daemon.home)},
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            input=stdin,
            timeout=60,
            check=False,
        )

    def asked(self) -> list[Any]:
        return [entry for entry in self.model.journal() if entry["method"] == "POST"]


@pytest.fixture(scope="module", params=list(WIRES))
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    home = tmp_path_factory.mktemp(f"job-{request.param}") / "home"
    (home / "workspace").mkdir(parents=True, mode=0o700)
    home.chmod(0o700)
    (home / "workspace" / "harbour.txt").write_text(CONTENT)
    key, address, path = WIRES[request.param]
    fixtures: list[Any] = [dict(one) for one in read_the_file("harbour.txt", answer=ANSWER)]
    for one in fixtures:
        one["response"] = {**one["response"], "usage": USAGE}
    with mock_llm(fixtures) as model:
        env = {key: "sk-test-0123456789", address: f"{model.url}{path}"}
        with RunningDaemon(home, env=env) as daemon:
            yield Shop(request.param, daemon, model)


@pytest.mark.spec("GC-BRN-201")
@pytest.mark.parametrize("words", [("--stream",), ()], ids=["streamed", "whole"])
def test_ask_reads_a_real_file_through_the_gate_and_prints_the_answer(shop: Shop, words: tuple[str, ...]) -> None:
    before = len(shop.asked())
    done = shop.goclaw("ask", "-s", f"job{len(words)}", *words, "Please read the file and tell me when it opens.")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{ANSWER}\n"
    asked = [entry["body"] for entry in shop.asked()[before:]]
    assert len(asked) == 2, "one call for the tool, one for the answer"
    assert all(body["stream"] is True for body in asked)
    assert CONTENT.strip() in json.dumps(asked[1]["messages"])
    paths = {entry["path"] for entry in shop.asked()[before:]}
    assert paths == {"/v1/messages" if shop.wire == "anthropic" else "/v1/chat/completions"}
    (task,) = shop.daemon.call("task.list", session_id=f"job{len(words)}")["tasks"]
    assert (task["kind"], task["state"], task["result"]["provider"]) == ("chat", "SUCCEEDED", shop.wire)
    assert task["usage"] == {"input": 60, "output": 8, "cache_read": 0, "cache_write": 0, "calls": 2}
    steps = shop.daemon.call("task.steps", task_id=task["id"])["steps"]
    assert [(step["kind"], step.get("tool"), step["state"]) for step in steps] == [
        ("turn", None, "done"),
        ("llm", None, "done"),
        ("tool", "read_file", "done"),
        ("llm", None, "done"),
    ]
    items = shop.daemon.call("session.history", session_id=f"job{len(words)}")["items"]
    assert [item["role"] for item in items] == ["user", "assistant", "tool", "assistant"]


@pytest.mark.spec("GC-BRN-201")
def test_ask_tells_a_program_what_it_needs_and_takes_its_prompt_from_a_pipe(shop: Shop) -> None:
    done = shop.goclaw("ask", "--json", "-", stdin="read the file\n")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["state"] == "SUCCEEDED"
    assert ANSWER in json.dumps(told)
    assert shop.daemon.call("task.get", task_id=told["id"])["state"] == "SUCCEEDED"


@pytest.mark.spec("GC-BRN-202")
def test_a_turn_asked_for_before_a_kill_is_answered_after_it_and_paid_once(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "workspace").mkdir(parents=True, mode=0o700)
    home.chmod(0o700)
    (home / "workspace" / "harbour.txt").write_text(CONTENT)
    loop = read_the_file("harbour.txt", answer=ANSWER)
    with mock_llm(loop) as model:
        env = {"ANTHROPIC_API_KEY": "sk-test-0123456789", "ANTHROPIC_BASE_URL": model.url}
        with RunningDaemon(home, env=env) as daemon:
            task_id = daemon.call("agent.chat", content="read the file", idempotency_key="once")["task_id"]
            wait_until(lambda: daemon.call("task.steps", task_id=task_id)["steps"], "the turn has begun")
            daemon.kill()
        with RunningDaemon(home, env=env) as daemon:
            known = daemon.call("agent.chat", content="read the file", idempotency_key="once")
            assert (known["task_id"], known["deduplicated"]) == (task_id, True)
            task = daemon.wait(task_id)
            assert (task["state"], task["result"]["text"]) == ("SUCCEEDED", ANSWER)
            history = daemon.call("session.history", session_id=task["session_id"])["items"]
            assert [item["role"] for item in history] == ["user", "assistant", "tool", "assistant"]
        assert len([entry for entry in model.journal() if entry["method"] == "POST"]) <= 3
