"""SIGTERM: intake stops, sockets stay open to watch, running work gets its time, the rest goes on after the restart."""

from __future__ import annotations

import asyncio
import json
import signal
import urllib.error
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from tests.system.running import RpcFailed, RunningDaemon, wait_until
from tests.system.speaking import Frame, Speaker, speak

EXEC = """
allow_capabilities: [acp.read, acp.mutate, tools.exec]
allow_paths: [workspace]
exec:
  allow:
    - {argv: "sleep *", effect: pure}
    - {argv: "SCRIPT *"}
"""


def running(*task_ids: str) -> Any:
    return lambda heard: set(task_ids) <= {e["task_id"] for e in heard if e["event_type"] == "task.running"}


def terminate(daemon: RunningDaemon) -> None:
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGTERM)


async def until_closed(client: Speaker) -> tuple[list[Frame], int]:
    """What is still told, and the code of the close."""
    heard = []
    try:
        while True:
            heard.append(await client.hear())
    except ConnectionClosed as closed:
        return heard, closed.rcvd.code if closed.rcvd is not None else 1006


@pytest.mark.spec("GC-RUN-210")
@pytest.mark.spec("GC-OBS-201")
async def test_a_drain_lets_short_work_end_hands_long_work_back_and_shows_both(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with RunningDaemon(home, env={"GOCLAW_DRAIN_TIMEOUT_SECONDS": "2"}) as daemon:
        async with speak(daemon) as client:
            await client.ask("session.events.subscribe", session_id="*", from_event_id="latest")
            made = [
                (await client.ask("task.submit", kind="noop", payload={"sleep_ms": ms}))["task_id"]
                for ms in (700, 60_000)
            ]
            short, long = made
            await client.events(running(short, long))
            delayed = (await client.ask("task.submit", kind="noop", payload={}, delay_ms=600_000))["task_id"]
            waiting = await client.say("task.wait", task_id=long)
            terminate(daemon)
            await client.events(lambda heard: any(e["task_id"] == delayed for e in heard))
            # Wait until the daemon says that it stops, by what it refuses; reading goes on.
            while True:
                number = await client.say("task.submit", kind="noop", payload={"sleep_ms": 60_000})
                answer = await client.answer(number)
                if "error" in answer:
                    break
            assert (answer["error"]["code"], answer["error"]["data"]["code"]) == (4290, "SHUTTING_DOWN")
            assert answer["error"]["data"]["retryable"] is True
            for method in ("agent.chat", "agent.chat.stream"):
                with pytest.raises(RpcFailed) as caught:
                    await client.ask(method, content="hi")
                assert caught.value.error["data"]["code"] == "SHUTTING_DOWN"
            status = await client.ask("system.status")
            assert status["healthy"] is False
            with pytest.raises(urllib.error.HTTPError) as probe:
                daemon.http("/readyz")
            with probe.value as told:
                assert json.loads(told.read())["ready"] is False
            assert probe.value.code == 503
            rest, code = await until_closed(client)
        assert code in (1001, 1012)
        assert daemon.wait_for_exit() == 0
    events = [frame["params"] for frame in (*client.told, *rest) if frame.get("method") == "session.event"]
    moves = [(event["task_id"], event["event_type"]) for event in events]
    assert (short, "task.succeeded") in moves
    assert (long, "task.requeued") in moves
    assert next(frame for frame in rest if frame.get("id") == waiting)["error"]["data"]["code"] == "SHUTTING_DOWN"
    with RunningDaemon(home) as daemon:
        task = daemon.call("task.get", task_id=long)
        assert task["state"] in ("QUEUED", "CLAIMED", "RUNNING")
        assert task["attempt"] <= 1, "the drain has given the charge back"
        assert daemon.call("task.get", task_id=short)["state"] == "SUCCEEDED"
        assert daemon.call("task.get", task_id=delayed)["wait_reason"] == "delay"


@pytest.mark.spec("GC-RUN-210")
def test_work_that_was_handed_back_is_done_after_the_restart(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with RunningDaemon(home, env={"GOCLAW_DRAIN_TIMEOUT_SECONDS": "0.1"}) as daemon:
        tasks = [{"kind": "noop", "payload": {"sleep_ms": 700}}] * 30
        made = [done["task_id"] for done in daemon.call("task.submit_many", tasks=tasks)["results"]]
        assert daemon.stop() == 0
    with RunningDaemon(home) as daemon:
        for task_id in made:
            task = daemon.wait(task_id)
            assert (task["state"], task["attempt"], task["deaths"]) == ("SUCCEEDED", 1, 0)


@pytest.mark.spec("GC-RUN-211")
async def test_an_unsafe_program_cut_off_by_a_drain_is_not_repeated(tmp_path: Path) -> None:
    home, ledger, script = tmp_path / "home", tmp_path / "ledger", tmp_path / "effect.sh"
    (home / "workspace").mkdir(parents=True, mode=0o700)
    home.chmod(0o700)
    script.write_text(f"#!/bin/sh\necho begun >> {ledger}\nsleep 60\n")
    script.chmod(0o755)
    (home / "policy.yaml").write_text(EXEC.replace("SCRIPT", str(script)))
    with RunningDaemon(home, env={"GOCLAW_DRAIN_TIMEOUT_SECONDS": "0.3"}) as daemon:
        async with speak(daemon) as client:
            await client.ask("session.events.subscribe", session_id="*")
            unsafe = (await client.ask("task.submit", kind="exec", payload={"argv": [str(script), "x"]}))["task_id"]
            pure = (await client.ask("task.submit", kind="exec", payload={"argv": ["sleep", "30"], "effect": "pure"}))[
                "task_id"
            ]
            await client.events(
                lambda heard: {unsafe, pure} <= {e["task_id"] for e in heard if e["event_type"] == "step.running"}
            )
        await asyncio.to_thread(wait_until, ledger.exists, "the script has begun")
        assert daemon.stop() == 0
    with RunningDaemon(home) as daemon:
        task = daemon.call("task.get", task_id=unsafe)
        assert (task["state"], task["error_code"]) == ("FAILED", "OUTCOME_UNKNOWN")
        assert daemon.call("task.get", task_id=pure)["state"] in ("QUEUED", "CLAIMED", "RUNNING")
        daemon.call("task.cancel", task_id=pure)
    assert ledger.read_text() == "begun\n"


@pytest.mark.spec("GC-RUN-211")
async def test_a_cancel_that_was_asked_for_before_a_kill_holds_after_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with RunningDaemon(home) as daemon:
        async with speak(daemon) as client:
            made = (await client.ask("task.submit", kind="noop", payload={}, delay_ms=600_000))["task_id"]
            canceled = await client.ask("task.cancel", task_id=made)
            assert (canceled["canceled"], canceled["state"]) == (True, "CANCELED")
        daemon.kill()
    with RunningDaemon(home) as daemon:
        assert daemon.call("task.get", task_id=made)["state"] == "CANCELED"


@pytest.mark.spec("GC-RUN-212")
async def test_two_signals_and_open_connections_do_not_keep_it_from_ending(tmp_path: Path) -> None:
    with RunningDaemon(tmp_path / "home") as daemon:
        async with speak(daemon) as one, speak(daemon) as two:
            await one.ask("session.events.subscribe", session_id="*")
            await two.say("task.wait", task_id="none")
            terminate(daemon)
            terminate(daemon)
            await until_closed(one)
            assert await asyncio.to_thread(daemon.wait_for_exit) == 0
    assert not [line for line in daemon.lines if line.get("level") == "ERROR"], daemon.lines
