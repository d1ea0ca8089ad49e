"""Requests of one connection side by side, in the order of their frames; turns streamed, aborted, paused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mock_llm.faulty import Answer, FaultyServer, faulty, sse
from tests.system.running import RpcFailed, RunningDaemon, wait_until
from tests.system.scripted_llm import ScriptedLLM
from tests.system.speaking import Frame, speak


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    with RunningDaemon(tmp_path_factory.mktemp("calls") / "home") as running:
        yield running


def started(task_id: str) -> Any:
    """Whether the task has been told to run."""
    return lambda heard: any(e["event_type"] == "task.running" and e["task_id"] == task_id for e in heard)


def chunk(content: str) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": None}
    return {"id": "c", "model": "m", "choices": [choice]}


def hanging() -> Answer:
    """A model that begins to answer and never ends."""
    return sse(chunk("I am "), chunk("thinking"), then="hang")


def keys(server: FaultyServer) -> dict[str, str]:
    return {"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": server.url}


@pytest.mark.spec("GC-ACP-230")
async def test_a_thousand_waits_hold_up_no_other_request_and_one_more_is_refused(daemon: RunningDaemon) -> None:
    async with speak(daemon) as client:
        done = await client.ask("task.submit", kind="noop", payload={"sleep_ms": 60_000})
        waits = [await client.say("task.wait", task_id=done["task_id"]) for _ in range(1_000)]
        assert (await client.ask("system.ping"))["pong"]
        with pytest.raises(RpcFailed) as caught:
            await client.ask("task.wait", task_id=done["task_id"])
        assert (caught.value.error["code"], caught.value.error["data"]["retryable"]) == (4290, True)
        assert (await client.ask("task.submit", kind="noop", payload={}))["state"] == "QUEUED"
        assert (await client.ask("task.cancel", task_id=done["task_id"]))["canceled"]
        states = {(await client.answer(number))["result"]["state"] for number in waits}
    assert states == {"CANCELED"}


@pytest.mark.spec("GC-ACP-230")
async def test_a_wait_ends_with_5040_when_its_time_is_over_and_the_task_goes_on(daemon: RunningDaemon) -> None:
    async with speak(daemon) as client:
        task_id = (await client.ask("task.submit", kind="noop", payload={"sleep_ms": 60_000}))["task_id"]
        with pytest.raises(RpcFailed) as caught:
            await client.ask("task.wait", task_id=task_id, timeout_ms=20)
        error = caught.value.error
        assert (error["code"], error["data"]["code"], error["data"]["retryable"]) == (5040, "TIMEOUT", True)
        assert (await client.ask("task.get", task_id=task_id))["state"] in ("QUEUED", "CLAIMED", "RUNNING")
        await client.ask("task.cancel", task_id=task_id)


@pytest.mark.spec("GC-ACP-231")
async def test_mutations_take_effect_in_the_order_of_their_frames(daemon: RunningDaemon) -> None:
    async with speak(daemon) as client:
        sent = [await client.say("task.submit", kind="noop", payload={"result": n}) for n in range(100)]
        made = [(await client.answer(number))["result"]["task_id"] for number in sent]
        events = daemon.call("session.events.read", session_id="*", from_event_id=0, limit=1000)["events"]
        enqueued = [e["task_id"] for e in events if e["event_type"] == "task.enqueued" and e["task_id"] in set(made)]
        assert enqueued == made
        # Different methods, too: each of these needs what the one before it has done.
        numbers = [
            await client.say("session.create", session_id="ordered"),
            await client.say("session.end", session_id="ordered"),
            await client.say("task.submit", kind="noop", payload={}, session_id="ordered", idempotency_key="o"),
            await client.say("task.submit", kind="noop", payload={}, session_id="ordered", idempotency_key="o"),
            await client.say("cron.add", id="o", every_ms=60_000, kind="noop"),
            await client.say("cron.disable", id="o"),
            await client.say("cron.remove", id="o"),
            await client.say("cron.add", id="o", every_ms=60_000, kind="noop"),
            await client.say("cron.remove", id="o"),
        ]
        answers = [await client.answer(number) for number in numbers]
    assert all("result" in answer for answer in answers), answers
    assert [answers[at]["result"]["deduplicated"] for at in (2, 3)] == [False, True]


@pytest.mark.spec("GC-ACP-232")
async def test_what_a_client_asked_for_before_it_left_is_carried_out(daemon: RunningDaemon) -> None:
    for number in range(20):
        async with speak(daemon) as client:
            await client.say("task.submit", kind="noop", payload={}, idempotency_key=f"left-{number}")
            await client.say("task.wait", task_id="nothing")
            client.connection.transport.abort()
    async with speak(daemon) as client:
        for number in range(20):
            known = await client.ask("task.submit", kind="noop", payload={}, idempotency_key=f"left-{number}")
            task = await client.ask("task.wait", task_id=known["task_id"], timeout_ms=10_000)
            assert task["state"] == "SUCCEEDED"


@pytest.mark.spec("GC-ACP-233")
async def test_a_streamed_turn_tells_its_deltas_in_order_before_its_answer(tmp_path: Path) -> None:
    script = [[("read_file", {"file_path": "a.txt"})]]
    answer = "one two three four five six seven eight nine ten"
    with ScriptedLLM(script, answer) as llm:
        env = {"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": llm.url}
        with RunningDaemon(tmp_path / "home", env=env) as daemon:
            (tmp_path / "home" / "workspace" / "a.txt").write_text("hello\n")
            async with speak(daemon) as client, speak(daemon) as watcher:
                await watcher.ask("session.events.subscribe", session_id="s", from_event_id="latest")
                number = await client.say("agent.chat.stream", content="go", session_id="s")
                frames = [await client.hear()]
                while frames[-1].get("id") != number:
                    frames.append(await client.hear())
                final = frames.pop()["result"]
                assert (final["state"], final["result"]["text"], final["session_id"]) == ("SUCCEEDED", answer, "s")
                deltas = [frame["params"] for frame in frames]
                assert {frame["method"] for frame in frames} == {"agent.delta"}
                assert [delta["seq"] for delta in deltas] == list(range(1, len(deltas) + 1))
                assert "".join(delta["content"] for delta in deltas) == answer
                assert {delta["task_id"] for delta in deltas} == {final["task_id"]}
                # Whoever watches the session sees them as well.
                await watcher.events(lambda heard: any(e["event_type"] == "task.succeeded" for e in heard))
                seen = [frame["params"]["content"] for frame in watcher.told if frame["method"] == "agent.delta"]
                assert "".join(seen) == answer
                # A known key answers at once, without deltas.
                first = await client.ask("agent.chat", text="again", session_id="s", idempotency_key="k")
                again = await client.ask("agent.chat.stream", text="again", session_id="s", idempotency_key="k")
                assert again["task_id"] == first["task_id"]
                history = (await client.ask("session.history", session_id="s"))["items"]
                assert [item["role"] for item in history[:4]] == ["user", "assistant", "tool", "assistant"]
                assert [item["id"] for item in history] == sorted(item["id"] for item in history)


@pytest.mark.spec("GC-ACP-233")
async def test_a_turn_that_fails_is_answered_with_its_state_and_error(daemon: RunningDaemon) -> None:
    async with speak(daemon) as client:
        final = await client.ask("agent.chat.stream", content="hello")
    assert final["state"] == "FAILED"
    assert final["error"]["code"] == "NO_PROVIDER"
    assert "ANTHROPIC_API_KEY" in final["error"]["message"]


@pytest.mark.spec("GC-ACP-234")
async def test_an_abort_is_answered_when_the_handler_has_ended(tmp_path: Path) -> None:
    async with faulty(hanging()) as model:
        with RunningDaemon(tmp_path / "home", env=keys(model)) as daemon:
            async with speak(daemon) as client:
                number = await client.say("agent.chat.stream", content="go", session_id="s")
                frames: list[Frame] = []
                while len(frames) < 2:
                    frames.append(await client.hear())
                assert "".join(frame["params"]["content"] for frame in frames) == "I am thinking"
                task_id = frames[0]["params"]["task_id"]
                assert await client.ask("agent.abort", task_id=task_id) == {"aborted": True}
                assert (await client.ask("task.get", task_id=task_id))["state"] == "CANCELED"
                async with asyncio.timeout(5):
                    await model.left.wait()
                assert (await client.answer(number))["result"]["state"] == "CANCELED"
                assert await client.ask("agent.abort", task_id=task_id) == {"aborted": True}


@pytest.mark.spec("GC-ACP-235")
async def test_a_pause_holds_new_work_visibly_and_resume_lets_it_go(daemon: RunningDaemon) -> None:
    async with speak(daemon) as client:
        await client.ask("session.events.subscribe", session_id="*", from_event_id="latest")
        for scope in ({}, {"scope": "agent", "agent_id": "default"}, {"scope": "kind", "kind": "noop"}):
            running = (await client.ask("task.submit", kind="noop", payload={"sleep_ms": 60_000}))["task_id"]
            await client.events(started(running))
            paused = await client.ask("system.pause", **scope)
            assert paused["paused"] is True
            held = (await client.ask("task.submit", kind="noop", payload={}))["task_id"]
            task = await client.ask("task.get", task_id=held)
            assert (task["state"], task["wait_reason"]) == ("QUEUED", "paused")
            listed = (await client.ask("task.list", state="QUEUED"))["tasks"]
            assert [task["wait_reason"] for task in listed if task["id"] == held] == ["paused"]
            assert (await client.ask("task.get", task_id=running))["state"] == "RUNNING"
            assert (await client.ask("system.status"))["paused"]
            with pytest.raises(RpcFailed):
                await client.ask("task.wait", task_id=held, timeout_ms=100)
            await client.ask("system.resume", **scope)
            assert (await client.ask("task.wait", task_id=held, timeout_ms=10_000))["state"] == "SUCCEEDED"
            assert (await client.ask("system.status"))["paused"] == []
            # With kill, what runs is ended too.
            assert (await client.ask("system.pause", **scope, kill=True))["killed"] == 1
            assert (await client.ask("task.get", task_id=running))["state"] == "CANCELED"
            await client.ask("system.resume", **scope)


@pytest.mark.spec("GC-ACP-236")
async def test_status_tells_how_the_queue_stands(daemon: RunningDaemon) -> None:
    async with speak(daemon) as client:
        await client.ask("session.events.subscribe", session_id="*", from_event_id="latest")
        running = (await client.ask("task.submit", kind="noop", payload={"sleep_ms": 60_000}))["task_id"]
        await client.events(started(running))
        delayed = (await client.ask("task.submit", kind="noop", payload={}, delay_ms=600_000))["task_id"]
        again = {"fail": "try again"}
        retried = (await client.ask("task.submit", kind="noop", payload=again))["task_id"]
        await client.events(lambda heard: any(e["event_type"] == "task.retry_wait" for e in heard))
        status = await client.ask("system.status")
        names = {
            "healthy", "boot_id", "version", "uptime_ms", "queue_depth", "running_tasks", "retry_wait", "dead_letters",
            "active_lanes", "worker_count", "paused", "agents", "providers", "policy_version", "config_hash", "db",
        }  # fmt: skip
        assert names <= set(status)
        assert (status["queue_depth"], status["running_tasks"], status["retry_wait"]) == (1, 1, 1)
        assert status["active_lanes"] == 1
        assert (await client.ask("task.get", task_id=delayed))["wait_reason"] == "delay"
        for task_id in (running, delayed, retried):
            await client.ask("task.cancel", task_id=task_id)
        shown = (await client.ask("agent.list"))["agents"]
        assert [agent["agent_id"] for agent in shown] == ["default"]
        assert (await client.ask("agent.status", agent_id="default"))["shown_tools"]
        tools = (await client.ask("tools.list"))["tools"]
        assert {"read_file", "write_file", "edit_file", "glob", "grep", "exec"} <= {tool["name"] for tool in tools}


@pytest.mark.spec("GC-SEC-204")
def test_a_method_that_the_policy_does_not_allow_is_4030_and_in_the_audit(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "policy.yaml").write_text("allow_capabilities: [acp.read]\n")
    with RunningDaemon(home) as daemon:
        for method, params, capability in (
            ("task.submit", {"kind": "noop", "payload": {}}, "acp.mutate"),
            ("cron.add", {"every_ms": 60_000, "kind": "noop"}, "tools.cron"),
        ):
            with pytest.raises(RpcFailed) as caught:
                daemon.call(method, **params)
            error = caught.value.error
            told = (error["code"], error["data"]["code"], error["data"]["capability"])
            assert told == (4030, "POLICY_DENIED", capability)
        assert daemon.call("task.list") == {"tasks": []}

        def audited() -> bool:
            rows = daemon.call("audit.tail")["rows"]
            told = {(row["subject"], row["capability"], row["verdict"]) for row in rows}
            return {("client", "acp.mutate", "deny"), ("client", "tools.cron", "deny")} <= told

        wait_until(audited, "both denials are in the audit")
