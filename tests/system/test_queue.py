"""The queue's features over a real daemon: each by WebSocket, some by the command line, all over a kill -9."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.running import RpcFailed, RunningDaemon, wait_until
from tests.system.speaking import speak

CONFIG = """\
concurrency: {crawl: 2}
starts_per_minute: {exec: 600}
agents:
  slow: {starts_per_minute: {noop: 2}, max_queue_depth: 5}
  small: {max_queue_depth: 1, worker_count: 1}
"""
LONG = {"sleep_ms": 600_000}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    (folder / "config.yaml").write_text(CONFIG)
    return folder


@pytest.fixture
def daemon(home: Path) -> Iterator[RunningDaemon]:
    with RunningDaemon(home) as running:
        yield running


def submit(daemon: RunningDaemon, **fields: Any) -> str:
    answer = daemon.call("task.submit", **({"kind": "noop", "payload": {}} | fields))
    return str(answer["task_id"])


def reasons(daemon: RunningDaemon, *task_ids: str) -> list[str]:
    found = [daemon.call("task.get", task_id=one) for one in task_ids]
    return [one.get("wait_reason", one["state"]) for one in found]


def runs(daemon: RunningDaemon, *task_ids: str) -> None:
    for one in task_ids:
        wait_until(lambda one=one: reasons(daemon, one) == ["RUNNING"], f"{one} runs")


def head(daemon: RunningDaemon) -> int:
    return int(daemon.call("system.status")["db"]["latest_event_id"])


def cli(daemon: RunningDaemon, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
    env = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH", "VIRTUAL_ENV") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "goclaw", *words],
        env={**env, "GOCLAW_HOME": str(daemon.home)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        input=given,
    )


@pytest.mark.spec("GC-QUE-421", "GC-QUE-423")
async def test_each_feature_over_one_websocket(daemon: RunningDaemon) -> None:
    async with speak(daemon) as client:

        async def new(**fields: Any) -> str:
            return str((await client.ask("task.submit", **({"kind": "noop", "payload": {}} | fields)))["task_id"])

        crawls = [await new(payload=LONG, concurrency_key="crawl") for _ in range(3)]
        single = [await new(payload=LONG, concurrency_key="deploy") for _ in range(2)]
        unique = await client.ask("task.submit", kind="noop", payload=LONG, unique_key="u", delay_ms=60_000)
        twin = await client.ask("task.submit", kind="noop", payload={}, unique_key="u")
        assert (twin["task_id"], twin["deduplicated"]) == (unique["task_id"], True)
        later = await new(delay_ms=1_000)
        snoozed = await client.ask("task.snooze", task_id=later, delay_ms=3_600_000)
        assert (snoozed["wait_reason"], snoozed["available_at"] > snoozed["created_at"] + 3_000_000) == ("delay", True)
        await asyncio.to_thread(runs, daemon, *crawls[:2], single[0])
        assert reasons(daemon, crawls[2], single[1]) == ["concurrency", "concurrency"]
        shown = await client.ask("task.get", task_id=crawls[2])
        assert shown["concurrency_key"] == "crawl"

        status = await client.ask("system.status")
        assert status["concurrency"] == [
            {"name": "crawl", "limit": 2, "running": 2, "ready": 0, "waiting": 1},
            {"name": "deploy", "limit": 1, "running": 1, "ready": 0, "waiting": 1},
        ]
        child = await client.ask("subtask.create", kind="noop", payload=LONG, parent_task_id=crawls[0])
        below = {"kind": "noop", "payload": {}, "delay_ms": 60_000, "parent_task_id": child["task_id"]}
        leaf = await client.ask("subtask.create", **below)
        (listed,) = (await client.ask("subtask.list", parent_task_id=child["task_id"]))["tasks"]
        assert (listed["id"], listed["parent_task_id"]) == (leaf["task_id"], child["task_id"])
        gone = await client.ask("task.cancel", task_id=crawls[0], reason="enough")
        assert gone == {"canceled": True, "state": "CANCELED", "descendants": 2}
        assert reasons(daemon, child["task_id"], leaf["task_id"]) == ["CANCELED", "CANCELED"]
        await asyncio.to_thread(runs, daemon, crawls[2])

        started = [await new(agent_id="slow") for _ in range(3)]
        for one in started[:2]:
            assert (await client.ask("task.wait", task_id=one, timeout_ms=30_000))["state"] == "SUCCEEDED"
        assert (await client.ask("task.get", task_id=started[2]))["wait_reason"] == "rate"
        status = await client.ask("system.status")
        (rate,) = [one for one in status["rates"] if (one["agent_id"], one["kind"]) == ("slow", "noop")]
        assert (rate["per_minute"], rate["room"]) == (2, 0)
        assert rate["opens_at"] > (await client.ask("system.ping"))["time"] - 30_000
        metrics = json.dumps(await asyncio.to_thread(daemon.http, "/metrics/json"))
        assert "goclaw_concurrency_waiting" in metrics
        assert "goclaw_start_rate_room" in metrics

        told = await new(payload={"progress": [1, 2, 3]})
        done = await client.ask("task.wait", task_id=told, timeout_ms=30_000)
        assert (done["progress"], done["state"]) == (3, "SUCCEEDED")


@pytest.mark.spec("GC-QUE-417", "GC-QUE-421")
async def test_many_at_once_and_redrive_over_one_websocket(daemon: RunningDaemon) -> None:
    failing = {"kind": "noop", "payload": {"fail": "no", "permanent": True}}
    async with speak(daemon) as client:
        made = (await client.ask("task.submit_many", tasks=[failing] * 150))["results"]
        for one in made:
            assert (await client.ask("task.wait", task_id=one["task_id"], timeout_ms=30_000))["state"] == "FAILED"
        await client.ask("system.pause", scope="kind", kind="noop")
        named = [made[0]["task_id"], "nobody"]
        answer = await client.ask("task.retry_many", task_ids=named)
        assert (answer["count"], answer["skipped"], answer["refused"][0]["code"]) == (1, 1, "NOT_FOUND")
        assert (await client.ask("task.get", task_id=made[0]["task_id"]))["wait_reason"] == "paused"
        answer = await client.ask("task.retry_many", state="FAILED", kind="noop")
        assert answer == {"count": 149, "skipped": 0, "refused": []}
        assert (await client.ask("system.status"))["queue_depth"] == 150


BAD: list[tuple[str, dict[str, Any], int]] = [
    ("task.submit", {"kind": "noop", "payload": {}, "delay_ms": -1}, -32602),
    ("task.submit", {"kind": "no-such-kind", "payload": {}}, -32602),
    ("task.submit", {"kind": "noop", "payload": {"result": "x" * 1_048_577}}, 4130),
    ("task.submit", {"kind": "noop", "payload": {}, "idempotency_key": "used", "priority": 1}, 4090),
    ("task.submit", {"kind": "noop", "payload": {}, "concurrency_key": ""}, -32602),
    ("task.submit", {"kind": "noop", "payload": {}, "unique_key": ""}, -32602),
    ("task.submit", {"kind": "noop", "payload": {}, "idempotency_key": ""}, -32602),
    ("task.submit", {"kind": "noop", "payload": {}, "concurrency_key": 1}, -32602),
    ("task.submit", {"kind": "noop", "payload": {}, "agent_id": "nobody"}, 4040),
    ("task.submit", {"kind": "noop", "payload": {}, "agent_id": "small"}, 4290),
    ("task.submit_many", {"tasks": []}, -32602),
    ("task.submit_many", {"tasks": [{"kind": "noop", "payload": {}}] * 1_001}, -32602),
    ("task.submit_many", {"tasks": [{"kind": "noop", "payload": {}}, {"kind": "x", "payload": {}}]}, -32602),
    ("task.retry", {"task_id": "RUNNING"}, 4090),
    ("task.retry", {"task_id": "nobody"}, 4040),
    ("task.retry_many", {}, -32602),
    ("task.retry_many", {"task_ids": []}, -32602),
    ("task.retry_many", {"task_ids": ["x"], "kind": "noop"}, -32602),
    ("task.retry_many", {"state": "RUNNING"}, -32602),
    ("task.snooze", {"task_id": "RUNNING", "delay_ms": 1_000}, 4090),
    ("task.snooze", {"task_id": "RUNNING", "delay_ms": 0}, -32602),
    ("task.snooze", {"task_id": "nobody", "delay_ms": 1_000}, 4040),
    ("task.cancel", {"task_id": "nobody"}, 4040),
    ("subtask.create", {"kind": "noop", "payload": {}, "parent_task_id": "nobody"}, 4040),
    ("subtask.create", {"kind": "noop", "payload": {}}, -32602),
    ("subtask.list", {"parent_task_id": "nobody"}, 4040),
    ("task.retry_many", {"task_ids": ["x"] * 1_001}, -32602),
    ("system.pause", {"scope": "agent"}, -32602),
    ("system.pause", {"scope": "agent", "agent_id": "nobody"}, 4040),
    ("system.pause", {"scope": "kind", "kind": "no-op"}, 4040),
]


@pytest.mark.spec("GC-QUE-422", "GC-QUE-418")
async def test_what_cannot_be_is_refused_with_its_code_and_writes_nothing(daemon: RunningDaemon) -> None:
    running = submit(daemon, payload=LONG)
    runs(daemon, running)
    submit(daemon, idempotency_key="used", delay_ms=60_000)
    submit(daemon, agent_id="small", delay_ms=60_000)
    before = head(daemon)
    async with speak(daemon) as client:
        for method, params, code in BAD:
            given = params | ({"task_id": running} if params.get("task_id") == "RUNNING" else {})
            with pytest.raises(RpcFailed) as refused:
                await client.ask(method, **given)
            error = refused.value.error
            assert (method, error["code"]) == (method, code), error
            assert error["message"]
            assert error["data"]["code"]
            if code == 4290:
                assert error["data"]["retryable"] is True
                assert error["data"]["retry_after_ms"] > 0
    assert head(daemon) == before


@pytest.mark.spec("GC-QUE-424")
def test_names_rates_snoozes_and_pauses_survive_a_kill(home: Path) -> None:
    with RunningDaemon(home) as daemon:
        held, parked = (submit(daemon, payload=LONG, concurrency_key="deploy") for _ in range(2))
        snoozed = submit(daemon, delay_ms=1)
        wait_until(lambda: daemon.call("task.get", task_id=snoozed)["state"] == "SUCCEEDED", "it ran")
        asleep = submit(daemon, delay_ms=60_000)
        until = daemon.call("task.snooze", task_id=asleep, delay_ms=3_600_000)["available_at"]
        used = [submit(daemon, agent_id="slow") for _ in range(3)]
        for one in used[:2]:
            daemon.wait(one)
        runs(daemon, held)
        daemon.call("system.pause", scope="kind", kind="exec")
        unique = submit(daemon, unique_key="u", delay_ms=60_000)
        daemon.kill()
    with RunningDaemon(home) as daemon:
        runs(daemon, held)
        assert reasons(daemon, parked, asleep, used[2]) == ["concurrency", "delay", "rate"]
        assert daemon.call("task.get", task_id=asleep)["available_at"] == until
        assert daemon.call("task.get", task_id=held)["deaths"] == 1
        assert {"scope": "kind", "name": "exec"} in daemon.call("system.status")["paused"]
        assert submit(daemon, unique_key="u") == unique
        daemon.call("task.cancel", task_id=held)
        runs(daemon, parked)


@pytest.mark.spec("GC-QUE-419")
def test_limits_and_rates_follow_the_saved_file(daemon: RunningDaemon) -> None:
    waiting = [submit(daemon, payload=LONG, concurrency_key="deploy") for _ in range(3)]
    rated = [submit(daemon, agent_id="slow") for _ in range(4)]
    runs(daemon, waiting[0])
    wait_until(lambda: reasons(daemon, rated[3]) == ["rate"], "the rate is used up")
    (daemon.home / "config.yaml").write_text("concurrency: {deploy: 2}\nagents:\n  slow: {}\n")
    runs(daemon, waiting[1])
    for one in rated:
        daemon.wait(one)
    assert reasons(daemon, waiting[2]) == ["concurrency"]
    (daemon.home / "config.yaml").write_text("concurrency: {deploy: 0}\n")

    def refused() -> Any:
        events = daemon.call("session.events.read", session_id="*", from_event_id=0, limit=1000)["events"]
        return [one for one in events if one["event_type"] == "config.reload_failed"]

    (told,) = wait_until(refused, "the file is refused")
    assert "concurrency.deploy" in json.dumps(told["payload"])
    assert daemon.call("system.status")["concurrency"][0]["limit"] == 2, "the last good one stays"


@pytest.mark.spec("GC-QUE-425")
def test_a_pause_that_kills_ends_what_runs_in_its_scope_only(daemon: RunningDaemon) -> None:
    mine, other = submit(daemon, payload=LONG), submit(daemon, payload=LONG, agent_id="slow")
    runs(daemon, mine, other)
    answer = daemon.call("system.pause", scope="agent", agent_id="slow", kill=True)
    assert answer == {"paused": True, "scope": "agent", "name": "slow", "killed": 1}
    assert reasons(daemon, mine, other) == ["RUNNING", "CANCELED"]
    assert reasons(daemon, submit(daemon, agent_id="slow")) == ["paused"]
    daemon.call("system.resume", scope="agent", agent_id="slow")
    assert daemon.call("system.status")["paused"] == []


@pytest.mark.spec("GC-QUE-421")
def test_each_feature_by_the_command_line(daemon: RunningDaemon) -> None:
    assert cli(daemon, "pause", "--kind", "noop").returncode == 0
    words = ("task", "submit", "--kind", "noop", "--unique-key", "u", "--concurrency-key", "deploy")
    first, second = cli(daemon, *words), cli(daemon, *words)
    assert (first.returncode, first.stdout) == (0, second.stdout)
    task_id = first.stdout.strip()
    assert "paused" in cli(daemon, "task", "list").stdout
    assert "kind noop" in cli(daemon, "status").stdout
    assert cli(daemon, "task", "snooze", task_id, "--delay", "3600").returncode == 0
    assert json.loads(cli(daemon, "task", "show", task_id, "--json").stdout)["wait_reason"] == "delay"
    many = "".join(json.dumps({"kind": "noop", "payload": {"result": n}, "delay_ms": 60_000}) + "\n" for n in range(3))
    stored = cli(daemon, "task", "submit-many", "-", given=many)
    assert (stored.returncode, len(stored.stdout.split())) == (0, 3)
    before = head(daemon)
    wrong = cli(daemon, "task", "submit-many", "-", given=many + '{"kind": "noop", "payload": {}, "priority": 99}\n')
    assert wrong.returncode == 2
    assert "line 4: priority" in wrong.stderr
    assert "nothing was stored" in wrong.stderr
    assert head(daemon) == before
    assert cli(daemon, "task", "submit", "--kind", "noop", "--parent", stored.stdout.split()[0]).returncode == 0
    ended = [cli(daemon, "task", "cancel", one) for one in stored.stdout.split()]
    assert [(one.returncode, one.stderr) for one in ended] == [
        (0, "canceled, and 1 below it\n"), (0, "canceled\n"), (0, "canceled\n"),
    ]  # fmt: skip
    assert cli(daemon, "task", "retry", *stored.stdout.split()[:2]).returncode == 0
    again = cli(daemon, "task", "retry", "--all", "--state", "canceled", "--json")
    assert json.loads(again.stdout) == {"count": 2, "skipped": 0, "refused": []}
    assert cli(daemon, "task", "retry", task_id).returncode == 1, "it waits and does not rest"
    assert cli(daemon, "pause", "--kind", "nop").returncode == 6
    assert cli(daemon, "resume", "--kind", "noop").returncode == 0
    for one in stored.stdout.split():
        assert daemon.wait(one)["state"] == "SUCCEEDED"
