"""The command line as a process of its own, against a real daemon in the background."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PASSED_ON = ("PATH", "HOME", "LANG", "PYTHONPATH", "VIRTUAL_ENV")


@dataclass(frozen=True)
class Shell:
    """Runs `goclaw ...` for one home."""

    home: Path

    def env(self, **more: str) -> dict[str, str]:
        base = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        own = {"GOCLAW_HOME": str(self.home), "GOCLAW_BIND_ADDR": "127.0.0.1:0", "OLLAMA_HOST": ""}
        return {**base, **own, **more}

    def __call__(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "goclaw", *words],
            env=self.env(**more),
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def json(self, *words: str) -> Any:
        at = words.index("--") if "--" in words else len(words)
        ended = self(*words[:at], "--json", *words[at:])
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    goclaw = Shell(tmp_path / "home")
    try:
        yield goclaw
    finally:
        goclaw("daemon", "stop", "--now")


@pytest.fixture
def served(shell: Shell) -> Shell:
    """With a daemon in the background."""
    started = shell("daemon", "start")
    assert started.returncode == 0, started.stderr
    return shell


@pytest.mark.spec("GC-RUN-108")
def test_a_daemon_is_started_found_and_stopped(shell: Shell) -> None:
    assert shell("daemon", "status").returncode == 3
    first = shell.json("daemon", "start")
    assert first["started"] is True
    assert shell.json("daemon", "start") == {**first, "started": False}
    told = shell.json("daemon", "status")
    assert (told["ready"], told["pid"], told["url"]) == (True, first["pid"], first["url"])
    assert shell.json("daemon", "restart", "--now")["pid"] != first["pid"]
    assert shell("daemon", "stop").returncode == 0
    assert shell("daemon", "status").returncode == 3
    assert shell("daemon", "stop").returncode == 0
    assert shell("status").returncode == 3


@pytest.mark.spec("GC-RUN-108")
def test_a_daemon_that_cannot_start_says_why(shell: Shell) -> None:
    shell.home.mkdir(mode=0o700)
    (shell.home / "config.yaml").write_text("wrker_count: 3\n")
    ended = shell("daemon", "start")
    assert ended.returncode == 1
    assert "E_CONFIG_LOAD" in ended.stderr
    assert "worker_count" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.spec("GC-RUN-106")
def test_ask_starts_a_daemon_where_none_runs_and_prints_only_the_answer(shell: Shell) -> None:
    (shell.home / "workspace").mkdir(mode=0o700, parents=True)
    (shell.home / "workspace" / "notes.txt").write_text("forty-two\n")
    ended = shell("ask", "/read_file file_path=notes.txt")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == ["1", "forty-two"]
    assert "started a daemon" in ended.stderr
    again = shell("ask", "--stream", "/read_file file_path=notes.txt")
    assert (again.stdout, again.stderr) == (ended.stdout, "")


@pytest.mark.spec("GC-RUN-110")
@pytest.mark.parametrize("how", ["--json", "--stream"])
def test_ask_outlasts_a_killed_daemon(served: Shell, how: str) -> None:
    directive = '/exec {"argv": ["sleep", "4"], "effect": "pure"}'
    asking = subprocess.Popen(
        [sys.executable, "-m", "goclaw", "ask", how, directive], env=served.env(), stdout=subprocess.PIPE, text=True
    )
    while not served.json("task", "list", "--state", "RUNNING")["tasks"]:
        assert asking.poll() is None
    os.kill(served.json("daemon", "status")["pid"], signal.SIGKILL)
    assert served("daemon", "start").returncode == 0
    out, _ = asking.communicate(timeout=30)
    assert asking.returncode == 0
    assert out
    (turn,) = served.json("task", "list", "--kind", "chat")["tasks"]
    assert (turn["state"], turn["deaths"]) == ("SUCCEEDED", 1)


def test_a_session_goes_on_over_two_questions(served: Shell) -> None:
    for _ in range(2):
        assert served("ask", "-s", "desk", "/list_directory path=.").returncode == 0
    items = served.json("session", "show", "desk")["items"]
    assert sum(item["role"] == "user" for item in items) == 2
    assert "desk" in [one["id"] for one in served.json("session", "list")["sessions"]]


@pytest.mark.spec("GC-RUN-102")
def test_exit_codes_say_how_it_ended(served: Shell) -> None:
    assert served("ask", "how are you?").returncode == 8
    assert served("tools", "run", "read_file", '{"file_path": "/etc/passwd"}').returncode == 5
    assert served("task", "show", "nobody").returncode == 6
    assert served("task", "submit", "--kind", "bogus").returncode == 2
    assert served("status", GOCLAW_AUTH_TOKEN="x" * 40).returncode == 4
    slow = served("task", "submit", "--kind", "noop", "--payload", '{"sleep_ms": 60000}').stdout.strip()
    assert served("task", "wait", slow, "--timeout", "0.1").returncode == 7
    assert served("task", "cancel", slow).returncode == 0
    assert served("task", "wait", slow).returncode == 1


def test_a_program_runs_and_its_task_can_be_looked_at(served: Shell) -> None:
    task = served.json("task", "submit", "--kind", "exec", "--wait", "--", "echo", "hello")
    assert (task["state"], task["result"]["stdout"]) == ("SUCCEEDED", "hello\n")
    kinds = [event["event_type"] for event in served.json("task", "events", task["id"])["events"]]
    assert (kinds[0], kinds[-1]) == ("task.enqueued", "task.succeeded")
    assert [step["state"] for step in served.json("task", "steps", task["id"])["steps"]] == ["done"]
    assert task["id"] in served("task", "list", "--kind", "exec").stdout
    same = [served.json("task", "submit", "--kind", "noop", "--key", "k")["task_id"] for _ in range(2)]
    assert same[0] == same[1]


def test_every_list_answers_on_an_empty_home(served: Shell) -> None:
    for words in ("task list", "session list", "agent list", "cron list", "skill list", "tools list", "audit tail"):
        ended = served(*words.split())
        assert (ended.returncode, "Traceback" in ended.stderr) == (0, False), (words, ended.stderr)


def test_a_schedule_is_added_run_and_removed(served: Shell) -> None:
    added = served("cron", "add", "tick", "--every", "1h", "--kind", "noop")
    assert (added.returncode, added.stdout) == (0, "tick\n"), added.stderr
    task_id = served("cron", "run", "tick").stdout.strip()
    assert served("task", "wait", task_id).returncode == 0
    assert "every 3600 s" in served("cron", "list").stdout
    assert len(served("cron", "next", "tick", "--limit", "2").stdout.splitlines()) == 2
    for word in ("disable", "enable", "remove"):
        assert served("cron", word, "tick").returncode == 0, word
    assert served("cron", "remove", "tick").returncode == 6


def test_status_doctor_and_logs_tell_of_the_daemon(served: Shell) -> None:
    assert served.json("status")["healthy"] is True
    checks = {check["name"]: check for check in served.json("doctor")["checks"]}
    assert (checks["daemon"]["status"], checks["token"]["status"]) == ("ok", "ok")
    assert '"msg":"ready"' in served("logs", "--json").stdout


@pytest.mark.spec("GC-RUN-109")
def test_ctrl_c_ends_a_watch_with_130_and_without_a_word(served: Shell) -> None:
    watching = subprocess.Popen(
        [sys.executable, "-m", "goclaw", "task", "watch", "--json"],
        env=served.env(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert watching.stdout is not None
    for _ in range(100):  # until the watch is there, an event may be too early for it
        served("task", "submit", "--kind", "noop")
        if _readable(watching.stdout.fileno()):
            break
    assert json.loads(watching.stdout.readline())["event_type"].startswith("task.")
    watching.send_signal(signal.SIGINT)
    _, err = watching.communicate(timeout=10)
    assert (watching.returncode, err) == (130, "")


@pytest.mark.spec("GC-RUN-105")
def test_a_reader_that_leaves_is_no_traceback(served: Shell) -> None:
    listing = subprocess.Popen(
        [sys.executable, "-m", "goclaw", "tools", "list", "--json"],
        env=served.env(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert listing.stdout is not None
    assert listing.stderr is not None
    listing.stdout.close()
    assert "Traceback" not in listing.stderr.read()
    listing.stderr.close()
    listing.wait(30)


@pytest.mark.slow
@pytest.mark.spec("GC-REL-101")
def test_the_demo_keeps_its_promise_within_half_a_minute(shell: Shell) -> None:
    begun = time.monotonic()
    told = shell.json("demo")
    assert time.monotonic() - begun < 30
    assert told["held"] is True
    assert told["killed_at"]["ended"] >= 5
    assert told["killed_at"]["running"] >= 2
    assert told["killed_at"]["waiting"] >= 5
    ended = {group["name"]: group["ended"] for group in told["groups"]}
    assert "OUTCOME_UNKNOWN" in ended["unsafe effect, cut by the kill"]


@pytest.mark.slow
def test_the_bench_measures_all_three(shell: Shell) -> None:
    ended = shell("bench", "--runs", "1", "--json")
    assert ended.returncode in (0, 1), ended.stderr
    told = json.loads(ended.stdout)
    assert [one["unit"] for one in told["measured"]] == ["ms", "ms", "MB"]
    assert all(one["median"] > 0 for one in told["measured"])


def _readable(number: int) -> bool:
    return bool(select.select([number], [], [], 0.05)[0])
