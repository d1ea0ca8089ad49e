"""Events by cursor: numbered, complete, in order, whoever else reads and whatever happens to the daemon."""

from __future__ import annotations

import asyncio
import shutil
import socket
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.system.running import REPOSITORY, RpcFailed, RunningDaemon, wait_until
from tests.system.speaking import Frame, Speaker, speak

LIFE = ["task.enqueued", "task.claimed", "task.running", "task.succeeded"]
MOVES = [(None, "QUEUED"), ("QUEUED", "CLAIMED"), ("CLAIMED", "RUNNING"), ("RUNNING", "SUCCEEDED")]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    with RunningDaemon(tmp_path_factory.mktemp("streams") / "home") as running:
        yield running


def ends(*task_ids: str, known: Sequence[Frame] = ()) -> Any:
    """Whether all these tasks have been told to have succeeded, by what was known or by what is heard."""
    before = succeeded(known)
    return lambda heard: set(task_ids) <= before | succeeded(heard)


def succeeded(heard: Sequence[Frame]) -> set[str]:
    return {event["task_id"] for event in heard if event["event_type"] == "task.succeeded"}


def ids(heard: list[Frame]) -> list[int]:
    return [event["event_id"] for event in heard]


def head(daemon: RunningDaemon) -> int:
    return int(daemon.call("system.status")["db"]["latest_event_id"])


def everything(daemon: RunningDaemon) -> list[Frame]:
    stored: list[Frame] = []
    while page := daemon.call("session.events.read", session_id="*", from_event_id=len(stored), limit=1000)["events"]:
        stored += page
    return stored


async def some_tasks(client: Speaker, count: int, **fields: Any) -> list[str]:
    tasks = [{"kind": "noop", "payload": {}, **fields}] * count
    return [done["task_id"] for done in (await client.ask("task.submit_many", tasks=tasks))["results"]]


async def hear_all(client: Speaker, frames: list[Frame]) -> None:
    """Until the connection is closed."""
    while True:
        frames.append(await client.hear())


async def subscribed(client: Speaker, session_id: str = "*", **fields: Any) -> Any:
    return await client.ask("session.events.subscribe", session_id=session_id, **fields)


@pytest.mark.spec("GC-QUE-201")
async def test_a_thousand_tasks_of_fifty_clients_end_once_each_with_four_events_in_order(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with RunningDaemon(home) as daemon:
        async with speak(daemon) as watcher:
            await subscribed(watcher, from_event_id=0)

            async def client(number: int) -> list[str]:
                async with speak(daemon) as one:
                    sent = [
                        await one.say("task.submit", kind="noop", payload={}, idempotency_key=f"{number}-{count}")
                        for count in range(20)
                    ]
                    return [(await one.answer(each))["result"]["task_id"] for each in sent]

            async with asyncio.TaskGroup() as group:
                clients = [group.create_task(client(number)) for number in range(50)]
            submitted = {task_id for one in clients for task_id in one.result()}
            assert len(submitted) == 1_000
            heard = await watcher.events(ends(*submitted))
        assert daemon.stop() == 0
    heard = [event for event in heard if event["task_id"] is not None]
    with sqlite3.connect(home / "goclaw.db") as conn:
        stored = conn.execute("SELECT event_id, event_type FROM task_events ORDER BY event_id").fetchall()
        rows = conn.execute("SELECT state, count(*) FROM tasks GROUP BY state").fetchall()
    conn.close()
    assert rows == [("SUCCEEDED", 1_000)]
    of_tasks = [tuple(row) for row in stored if row[1].startswith("task.")]
    assert [(event["event_id"], event["event_type"]) for event in heard] == of_tasks, "no gap and no repeat"
    assert [number for number, _ in stored] == list(range(1, len(stored) + 1))
    lives: dict[str, list[Frame]] = defaultdict(list)
    for event in heard:
        lives[event["task_id"]].append(event)
    assert set(lives) == submitted
    for life in lives.values():
        assert [event["event_type"] for event in life] == LIFE
        assert [(event["state_from"], event["state_to"]) for event in life] == MOVES


@pytest.mark.spec("GC-ACP-222")
async def test_a_subscription_replays_then_answers_then_goes_live(daemon: RunningDaemon) -> None:
    async with speak(daemon) as client:
        before = await some_tasks(client, 3, session_id="replayed")
        for task_id in before:
            await client.ask("task.wait", task_id=task_id)
        number = await client.say("session.events.subscribe", session_id="replayed")
        frames = [await client.hear()]
        while frames[-1].get("id") != number:
            frames.append(await client.hear())
        told = [frame["params"] for frame in frames[:-1]]
        answer = frames[-1]["result"]
        assert answer == {
            "subscribed": True,
            "replayed": len(told),
            "latest_event_id": answer["latest_event_id"],
        }
        assert ids(told) == sorted(set(ids(told)))
        assert answer["latest_event_id"] >= ids(told)[-1]
        assert [e["event_type"] for e in told if e["task_id"] == before[0]] == LIFE
        after = await some_tasks(client, 2, session_id="replayed")
        live = await client.events(ends(*after))
        assert ids(live) == sorted(set(ids(live)))
        assert ids(live)[0] > answer["latest_event_id"]
        assert {event["session_id"] for event in (*told, *live)} == {"replayed"}


@pytest.mark.spec("GC-ACP-222")
async def test_a_replay_starts_behind_its_cursor_and_latest_skips_it(daemon: RunningDaemon) -> None:
    async with speak(daemon) as client:
        (task_id,) = await some_tasks(client, 1)
        await client.ask("task.wait", task_id=task_id)
        stored = everything(daemon)
        oldest = await subscribed(client)
        assert ids(await client.events(lambda heard: True)) == ids(stored)
        assert oldest["replayed"] == len(stored)
    async with speak(daemon) as client:
        cursor = ids(stored)[-3]
        assert (await subscribed(client, from_event_id=cursor))["replayed"] == 2
        assert ids(await client.events(lambda heard: True)) == ids(stored)[-2:]
    async with speak(daemon) as client:
        answer = await subscribed(client, from_event_id="latest")
        assert (answer["replayed"], client.told) == (0, [])
        (task_id,) = await some_tasks(client, 1)
        heard = await client.events(ends(task_id))
        assert ids(heard)[0] == answer["latest_event_id"] + 1


@pytest.mark.spec("GC-ACP-223")
async def test_a_cursor_that_is_not_of_this_log_is_4100_and_names_one_that_is(daemon: RunningDaemon) -> None:
    log_id = daemon.call("system.hello", version="1.0")["log_id"]
    await asyncio.to_thread(daemon.wait, daemon.call("task.submit", kind="noop", payload={})["task_id"])
    async with speak(daemon) as client:
        for wrong in (
            {"from_event_id": head(daemon) + 1},
            {"from_event_id": 2**62},
            {"from_event_id": 1, "log_id": "another"},
            {"from_event_id": 0, "log_id": "another"},
            {"from_event_id": -1},
        ):
            with pytest.raises(RpcFailed) as caught:
                await subscribed(client, **wrong)
            error = caught.value.error
            assert (error["code"], error["data"]["code"]) == (4100, "REPLAY_GAP")
            assert error["data"]["oldest_event_id"] == 1
        answer = await subscribed(client, from_event_id=error["data"]["resume_from"], log_id=log_id)
        heard = await client.events(lambda heard: True)
        assert answer["replayed"] == len(heard)
        assert ids(heard) == list(range(1, answer["latest_event_id"] + 1))


@pytest.mark.spec("GC-ACP-224")
async def test_two_subscriptions_that_overlap_deliver_live_events_once(daemon: RunningDaemon) -> None:
    async with speak(daemon) as client:
        await subscribed(client, from_event_id="latest")
        await subscribed(client, "both", from_event_id="latest")
        first = await some_tasks(client, 3, session_id="both")
        heard = await client.events(ends(*first))
        assert ids(heard) == sorted(set(ids(heard)))
        # A replay that is asked for repeats, and what is live stays single.
        await subscribed(client, "both")
        again = await client.events(lambda heard: True)
        assert ids([event for event in heard if event["session_id"] == "both"]) == ids(again)
        second = await some_tasks(client, 1, session_id="both")
        heard = await client.events(ends(*second))
        assert ids(heard) == sorted(set(ids(heard)))
        # Ending one leaves the other.
        assert await client.ask("session.events.unsubscribe", session_id="*") == {"unsubscribed": True}
        assert await client.ask("session.events.unsubscribe", session_id="*") == {"unsubscribed": False}
        await some_tasks(client, 1, session_id="else")
        third = await some_tasks(client, 1, session_id="both")
        heard = await client.events(ends(*third))
        assert {event["session_id"] for event in heard} == {"both"}
        assert await client.ask("session.events.unsubscribe", session_id="both") == {"unsubscribed": True}
        fourth = await some_tasks(client, 1, session_id="both")
        await client.ask("task.wait", task_id=fourth[0])
        await client.ask("system.ping")
        assert client.told == []


@pytest.mark.spec("GC-ACP-224")
async def test_a_session_joined_under_load_has_no_gap_and_no_repeat(daemon: RunningDaemon) -> None:
    async with speak(daemon) as client, speak(daemon) as busy:
        await subscribed(client, "other", from_event_id="latest")
        stop = asyncio.Event()

        async def load() -> None:
            while not stop.is_set():
                await some_tasks(busy, 20, session_id="loaded")

        async with asyncio.TaskGroup() as group:
            group.create_task(load())
            for _ in range(10):
                await asyncio.sleep(0.02)
                await subscribed(client, "loaded", from_event_id=0)
                heard = await client.events(lambda heard: len(heard) >= 200)
                await client.ask("session.events.unsubscribe", session_id="loaded")
                heard += await client.events(lambda heard: True)
                assert ids(heard) == sorted(set(ids(heard)))
                stored = daemon.call("session.events.read", session_id="loaded", from_event_id=0, limit=1000)["events"]
                assert ids(heard)[: len(stored)] == ids(stored)[: len(heard)]
            stop.set()


@pytest.mark.spec("GC-ACP-225")
async def test_a_reader_resumes_by_cursor_over_kills_without_gap_or_repeat(tmp_path: Path) -> None:
    home = tmp_path / "home"
    heard: list[Frame] = []
    task_ids: list[str] = []
    for life in range(3):
        with RunningDaemon(home) as daemon:
            async with speak(daemon) as client:
                await subscribed(client, from_event_id=heard[-1]["event_id"] if heard else 0)
                fresh = await some_tasks(client, 60, payload={"sleep_ms": 5})
                task_ids += fresh
                if life < 2:
                    heard += await client.events(lambda now: len(now) > 40)
                    daemon.kill()
                    try:
                        while True:
                            frame = await client.hear()
                            heard += [frame["params"]] if frame.get("method") == "session.event" else []
                    except ConnectionClosed:
                        continue
                heard += await client.events(ends(*task_ids, known=heard))
            stored = everything(daemon)
    assert ids(heard) == list(range(1, heard[-1]["event_id"] + 1))
    assert heard == stored[: len(heard)]
    counts: dict[str, int] = defaultdict(int)
    for event in heard:
        counts[event["task_id"]] += event["event_type"] == "task.succeeded"
    assert {counts[task_id] for task_id in task_ids} == {1}


@pytest.mark.spec("GC-ACP-226")
async def test_one_numbered_stream_shows_tasks_steps_skills_policy_schedules_and_providers(tmp_path: Path) -> None:
    home = tmp_path / "home"
    env = {"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}
    with RunningDaemon(home, env=env) as daemon:
        async with speak(daemon) as client:
            await subscribed(client)
            (home / "workspace" / "a.txt").write_text("hello\n")
            await client.ask("tools.execute", name="read_file", arguments={"file_path": "a.txt"})
            shutil.copytree(REPOSITORY / "examples" / "skills" / "word-count", home / "skills" / "word-count")
            policy = home / "policy.yaml"
            policy.write_text(policy.read_text().replace("allow_loopback: false", "allow_loopback: true"))
            await client.ask("cron.add", id="tick", every_ms=1_000, kind="noop", payload={})
            await client.ask("agent.chat", content="hi", session_id="s")
            wanted = {"task", "step", "skill", "policy", "cron", "provider", "session", "message"}

            def seen(heard: list[Frame]) -> bool:
                return wanted <= {event["event_type"].partition(".")[0] for event in heard}

            heard = await client.events(seen)
    assert ids(heard) == list(range(1, len(heard) + 1))
    kinds = {event["event_type"] for event in heard}
    assert {"task.enqueued", "step.running", "step.done", "skill.loaded", "policy.reloaded", "provider.failed"} <= kinds
    fields = {
        "event_id", "task_id", "session_id", "event_type", "state_from", "state_to", "run_id", "trace_id",
        "payload", "created_at",
    }  # fmt: skip
    assert all(set(event) == fields for event in heard)


@pytest.mark.slow
@pytest.mark.spec("GC-ACP-227")
async def test_a_reader_that_takes_nothing_slows_nobody_and_is_cut_off(daemon: RunningDaemon) -> None:
    # A small receive buffer, so that little is in flight when this reader stops reading.
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    host, _, port = daemon.url.removeprefix("http://").rpartition(":")
    narrow.connect((host, int(port)))
    narrow.setblocking(False)
    async with (
        connect(
            daemon.url.replace("http", "ws", 1) + "/ws",
            sock=narrow,
            additional_headers={"Authorization": f"Bearer {daemon.token}"},
            compression=None,
            ping_interval=None,
            max_queue=1,
        ) as connection,
        speak(daemon) as quick,
    ):
        stalled = Speaker(connection)
        await stalled.ask("system.hello", version="1.0")
        cursor = (await subscribed(stalled, from_event_id="latest"))["latest_event_id"]
        await subscribed(quick, from_event_id="latest")
        connection.transport.pause_reading()
        tasks: list[str] = []
        for _ in range(2):
            tasks += await some_tasks(quick, 1_000, payload={"result": "x" * 1_000})
        heard = await quick.events(ends(*tasks))
        assert ids(heard) == list(range(cursor + 1, cursor + 1 + len(heard)))

        def cut() -> Any:
            return [line for line in daemon.lines if line.get("msg") == "reader cut off"]

        await asyncio.to_thread(wait_until, cut, "the reader is cut off", 15)
        connection.transport.resume_reading()
        frames: list[Frame] = []
        with pytest.raises(ConnectionClosed) as caught:
            await hear_all(stalled, frames)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1008
    assert frames[-1]["method"] == "system.backpressure"
    told = [frame["params"] for frame in frames[:-1]]
    assert ids(told) == list(range(cursor + 1, cursor + 1 + len(told)))
    reached = frames[-1]["params"]["cursor"]
    async with speak(daemon) as again:
        await subscribed(again, from_event_id=ids(told)[-1])
        rest = await again.events(lambda now: bool(now) and ids(now)[-1] >= ids(heard)[-1])
    assert ids(told) + ids(rest) == list(range(cursor + 1, ids(rest)[-1] + 1))
    assert reached >= ids(told)[-1]
