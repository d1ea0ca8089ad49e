"""Frames as a client should and should not send them; each mistake has its code and the connection lives on."""

from __future__ import annotations

import json
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from tests.system.running import RpcFailed, RunningDaemon
from tests.system.speaking import Frame, Speaker, speak

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    with RunningDaemon(tmp_path_factory.mktemp("frames") / "home") as running:
        yield running


def request(method: str, params: Any, number: Any = 1) -> Frame:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


async def said_and_heard(client: Speaker, frame: Frame) -> Frame:
    await client.raw(frame)
    return await client.hear()


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


async def refusal(daemon: RunningDaemon, frame: Any) -> Frame:
    """The error of a frame; the same connection answers a ping afterwards."""
    async with speak(daemon) as client:
        await client.raw(frame)
        answer = await client.hear()
        assert (await client.ask("system.ping"))["pong"]
    assert answer["jsonrpc"] == "2.0"
    assert isinstance(answer["error"]["data"]["retryable"], bool)
    return answer


@pytest.mark.spec("GC-ACP-203")
@pytest.mark.parametrize(
    "text", ["{", "hello", "", '{"jsonrpc": "2.0", "id": 1,}', '{"a": NaN}', '{"a": 1e999}', b"\xff\xfe"]
)
async def test_malformed_json_is_32700_and_the_connection_lives_on(daemon: RunningDaemon, text: str | bytes) -> None:
    answer = await refusal(daemon, text)
    assert (answer["error"]["code"], answer["id"]) == (-32700, None)
    # However deep: no reader of ours is exhausted by it.
    assert (await refusal(daemon, "[" * 100_000))["error"]["code"] == -32600


@pytest.mark.spec("GC-ACP-203")
@pytest.mark.parametrize(
    "frame",
    [
        [request("system.ping", {})],
        [],
        1,
        "text",
        {"id": 1, "method": "system.ping"},
        {"jsonrpc": "1.0", "id": 1, "method": "system.ping"},
        {"jsonrpc": "2.0", "id": 1},
        {"jsonrpc": "2.0", "id": 1, "method": 5},
        {"jsonrpc": "2.0", "id": {}, "method": "system.ping"},
        {"jsonrpc": "2.0", "id": True, "method": "system.ping"},
        request("task.submit", {"kind": "noop", "payload": {"result": nested(37)}}),
        request("task.submit", {"kind": "noop", "payload": {"result": "a\0b"}}),
        request("task.submit", {"kind": "noop", "payload": {"a\0b": 1}}),
        request("task.submit", {"kind": "noop", "payload": {"result": "\ud800"}}),
    ],
)
async def test_what_is_no_request_object_is_32600(daemon: RunningDaemon, frame: Any) -> None:
    answer = await refusal(daemon, json.dumps(frame))
    assert answer["error"]["code"] == -32600
    assert answer["error"]["data"]["code"] == "INVALID_REQUEST"


@pytest.mark.spec("GC-ACP-203")
async def test_a_bare_nul_is_refused_as_an_escaped_one_is(daemon: RunningDaemon) -> None:
    answer = await refusal(daemon, '{"jsonrpc":"2.0","id":1,"method":"system.ping","x":"a\0b"}')
    assert answer["error"]["code"] == -32600


@pytest.mark.spec("GC-ACP-203")
async def test_forty_levels_are_refused_and_thirty_two_are_not(daemon: RunningDaemon) -> None:
    # The frame, its params and the payload are three levels.
    answer = await refusal(daemon, request("task.submit", {"kind": "noop", "payload": {"result": nested(30)}}))
    assert answer["error"]["code"] == -32600
    assert answer["id"] == 1
    async with speak(daemon) as client:
        done = await client.ask("task.submit", kind="noop", payload={"result": nested(29)})
        assert (await client.ask("task.wait", task_id=done["task_id"]))["result"] == nested(29)


@pytest.mark.spec("GC-ACP-204")
async def test_a_frame_of_five_mebibytes_closes_with_1009_and_one_below_four_does_not(daemon: RunningDaemon) -> None:
    async with speak(daemon) as client:
        with pytest.raises(ConnectionClosed) as caught:
            await said_and_heard(client, request("system.ping", {"x": "a" * (5 * MIB)}))
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1009
    answer = await refusal(daemon, request("system.ping", {"x": "a" * (4 * MIB - 200)}))
    assert answer["error"]["code"] == -32602


@pytest.mark.spec("GC-ACP-204")
async def test_a_payload_above_one_mebibyte_is_4130_and_nothing_is_stored(daemon: RunningDaemon) -> None:
    body = {"kind": "noop", "payload": {"result": "a" * (MIB + 1)}, "idempotency_key": "too-large"}
    answer = await refusal(daemon, request("task.submit", body))
    assert answer["error"]["code"] == 4130
    assert answer["error"]["data"] == {"code": "TOO_LARGE", "retryable": False, "limit": MIB}
    done = daemon.call("task.submit", kind="noop", payload={}, idempotency_key="too-large")
    assert done["deduplicated"] is False


@pytest.mark.spec("GC-ACP-205")
async def test_an_unknown_method_names_the_nearest(daemon: RunningDaemon) -> None:
    answer = await refusal(daemon, request("task.sumbit", {}))
    assert answer["error"]["code"] == -32601
    assert "task.submit" in answer["error"]["message"]


@pytest.mark.spec("GC-ACP-205")
async def test_an_unknown_parameter_names_the_known(daemon: RunningDaemon) -> None:
    answer = await refusal(daemon, request("task.get", {"task": "x"}))
    assert answer["error"]["code"] == -32602
    assert "task_id" in answer["error"]["message"]
    answer = await refusal(daemon, request("task.submit", {"kind": "noop", "payload": {}, "prioritty": 1}))
    assert answer["error"]["data"]["field"] == "prioritty"
    assert "priority" in answer["error"]["message"]


@pytest.mark.spec("GC-ACP-205")
@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("task.submit", {"kind": "noop", "payload": {}, "delay_ms": -1}),
        ("task.submit", {"kind": "nope", "payload": {}}),
        ("task.submit", {"kind": "noop", "payload": {"sleep": 1}}),
        ("task.submit", {"kind": "noop", "payload": {}, "priority": 11}),
        ("task.submit", {"kind": "noop", "payload": {}, "priority": "1"}),
        ("task.submit", {"kind": "noop", "payload": {}, "priority": True}),
        ("task.submit", {"kind": "noop", "payload": {}, "session_id": "a b"}),
        ("task.submit", {"kind": "noop", "payload": {}, "session_id": ""}),
        ("task.submit", {"kind": "noop", "payload": {}, "session_id": "a" * 129}),
        ("task.submit", {"kind": "noop", "payload": {}, "max_attempts": 0}),
        ("task.submit", {"kind": "noop", "payload": {}, "deadline_ms": 0}),
        ("task.submit", {"kind": "noop", "payload": {}, "idempotency_key": ""}),
        ("task.submit", {"kind": "noop", "payload": []}),
        ("task.submit", {"kind": "noop"}),
        ("task.submit", ["noop", {}]),
        ("task.submit", None),
        ("task.submit_many", {"tasks": []}),
        ("task.submit_many", {"tasks": [{"kind": "noop", "payload": {}}] * 1_001}),
        ("task.submit_many", {"tasks": [{"kind": "noop", "payload": {}, "x": 1}]}),
        ("task.list", {"limit": 0}),
        ("task.list", {"limit": 501}),
        ("task.list", {"state": "DONE"}),
        ("task.list", {"cursor": "-1"}),
        ("task.list", {"since": 2**63}),
        ("task.wait", {"task_id": "x", "timeout_ms": -1}),
        ("task.events", {"task_id": "x", "from_event_id": 2**63}),
        ("task.resolve", {"task_id": "x", "outcome": "maybe"}),
        ("task.retry_many", {}),
        ("session.events.subscribe", {"session_id": "a b"}),
        ("session.events.subscribe", {"session_id": "*", "from_event_id": "newest"}),
        ("session.events.subscribe", {"session_id": "*", "from_event_id": -(2**63) - 1}),
        ("session.events.read", {"session_id": "*", "from_event_id": 10**30}),
        ("session.events.read", {"session_id": "*", "limit": 0}),
        ("session.history", {"session_id": "x", "before": 2**64}),
        ("system.pause", {"scope": "agent"}),
        ("system.hello", {}),
        ("agent.chat", {"session_id": "s"}),
        ("agent.chat", {"content": "  "}),
        ("cron.history", {"id": "x", "before": 2**70}),
        ("audit.tail", {"before": 2**70}),
    ],
)
async def test_bad_parameters_are_32602_and_name_the_field(daemon: RunningDaemon, method: str, params: Any) -> None:
    answer = await refusal(daemon, request(method, params))
    assert answer["error"]["code"] == -32602, answer
    assert answer["error"]["data"]["code"] == "INVALID_PARAMS"
    assert answer["id"] == 1


@pytest.mark.spec("GC-ACP-205")
@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("task.get", {"task_id": "x"}),
        ("task.wait", {"task_id": "x"}),
        ("task.cancel", {"task_id": "x"}),
        ("task.retry", {"task_id": "x"}),
        ("task.steps", {"task_id": "x"}),
        ("task.events", {"task_id": "x"}),
        ("task.resolve", {"task_id": "x", "outcome": "done"}),
        ("session.get", {"session_id": "x"}),
        ("session.end", {"session_id": "x"}),
        ("session.history", {"session_id": "x"}),
        ("session.create", {"agent_id": "x"}),
        ("agent.status", {"agent_id": "x"}),
        ("agent.chat", {"content": "hi", "agent_id": "x"}),
        ("agent.abort", {"task_id": "x"}),
        ("task.submit", {"kind": "noop", "payload": {}, "agent_id": "x"}),
        ("cron.run", {"id": "x"}),
        ("cron.next", {"id": "x"}),
        ("skill.info", {"name": "x"}),
    ],
)
async def test_what_does_not_exist_is_4040(daemon: RunningDaemon, method: str, params: Any) -> None:
    answer = await refusal(daemon, request(method, params))
    assert (answer["error"]["code"], answer["error"]["data"]["code"]) == (4040, "NOT_FOUND"), answer


@pytest.mark.spec("GC-ACP-206")
@pytest.mark.parametrize("number", [0, -1, 7, 1.5, "a", "", None])
async def test_the_id_comes_back_as_it_was_sent(daemon: RunningDaemon, number: Any) -> None:
    async with speak(daemon) as client:
        for method in ("system.ping", "no.such"):
            await client.raw(request(method, {}, number))
            answer = await client.hear()
            assert answer["id"] == number
            assert type(answer["id"]) is type(number)


@pytest.mark.spec("GC-ACP-206")
async def test_a_notification_takes_effect_and_is_not_answered(daemon: RunningDaemon) -> None:
    async with speak(daemon) as client:
        body = {"kind": "noop", "payload": {}, "idempotency_key": "quiet"}
        await client.raw({"jsonrpc": "2.0", "method": "task.submit", "params": body})
        await client.raw({"jsonrpc": "2.0", "method": "no.such"})
        await client.raw({"jsonrpc": "2.0", "method": "task.get", "params": {"task_id": "x"}})
        done = await client.ask("task.submit", **body)
        assert done["deduplicated"] is True
        assert client.told == []
    # An answer without a body: JSON-RPC over HTTP has nothing to say to a notification.
    with pytest.raises(json.JSONDecodeError):
        daemon.http("/rpc", {"jsonrpc": "2.0", "method": "system.ping"})


@pytest.mark.spec("GC-ACP-207")
async def test_a_connection_that_has_not_said_hello_may_read_and_not_change(daemon: RunningDaemon) -> None:
    async with speak(daemon, hello=False) as client:
        assert (await client.ask("system.status"))["healthy"]
        for method, params in (
            ("task.submit", {"kind": "noop", "payload": {}}),
            ("agent.chat", {"content": "hi"}),
            ("cron.add", {"every_ms": 1000, "kind": "noop"}),
            ("system.pause", {}),
        ):
            with pytest.raises(RpcFailed) as caught:
                await client.ask(method, **params)
            assert caught.value.error["code"] == 4001
            assert caught.value.error["data"]["code"] == "HELLO_REQUIRED"
        told = await client.ask("system.hello", version="1.0")
        assert (await client.ask("task.submit", kind="noop", payload={}))["state"] == "QUEUED"
    assert {name: told[name] for name in ("protocol", "version", "supported_min", "supported_max")} == {
        "protocol": "acp",
        "version": "1.0",
        "supported_min": "1.0",
        "supported_max": "1.0",
    }
    assert told["server"].startswith("goclaw/")
    assert told["boot_id"]
    assert told["log_id"]
    assert isinstance(told["features"], list)


@pytest.mark.spec("GC-ACP-207")
async def test_a_version_that_is_not_supported_is_4001_and_names_those_that_are(daemon: RunningDaemon) -> None:
    async with speak(daemon, hello=False) as client:
        with pytest.raises(RpcFailed) as caught:
            await client.ask("system.hello", version="2.0")
        error = caught.value.error
        assert (error["code"], error["data"]["supported_min"], error["data"]["supported_max"]) == (4001, "1.0", "1.0")
        with pytest.raises(RpcFailed) as caught:
            await client.ask("task.submit", kind="noop", payload={})
        assert caught.value.error["code"] == 4001


@pytest.mark.spec("GC-ACP-207")
async def test_hello_and_what_follows_it_may_be_sent_in_one_go(daemon: RunningDaemon) -> None:
    async with speak(daemon, hello=False) as client:
        await client.say("system.hello", version="1.0")
        number = await client.say("task.submit", kind="noop", payload={})
        assert "result" in await client.answer(number)


@pytest.mark.spec("GC-ACP-208")
def test_http_needs_no_hello_and_refuses_what_needs_a_connection(daemon: RunningDaemon) -> None:
    assert daemon.call("task.submit", kind="noop", payload={})["state"] == "QUEUED"
    for method, params in (
        ("session.events.subscribe", {"session_id": "*"}),
        ("session.events.unsubscribe", {"session_id": "*"}),
        ("agent.chat.stream", {"content": "hi"}),
    ):
        with pytest.raises(RpcFailed) as caught:
            daemon.call(method, **params)
        assert caught.value.error["code"] == -32601
        assert "/ws" in caught.value.error["message"]


@pytest.mark.spec("GC-ACP-208")
def test_http_answers_200_with_an_error_object_and_413_to_what_is_too_large(daemon: RunningDaemon) -> None:
    assert daemon.http("/rpc", [])["error"]["code"] == -32600
    assert daemon.http("/rpc", request("no.such", {}))["error"]["code"] == -32601
    with pytest.raises(urllib.error.HTTPError) as caught:
        daemon.http("/rpc", request("system.ping", {"x": "a" * (5 * MIB)}))
    assert caught.value.code == 413
    caught.value.close()


@pytest.mark.spec("GC-ACP-209")
async def test_redrive_of_a_task_that_runs_is_4090(daemon: RunningDaemon) -> None:
    async with speak(daemon) as client:
        await client.ask("session.events.subscribe", session_id="*", from_event_id="latest")
        task_id = (await client.ask("task.submit", kind="noop", payload={"sleep_ms": 60_000}))["task_id"]
        await client.events(lambda heard: any(e["event_type"] == "task.running" for e in heard))
        with pytest.raises(RpcFailed) as caught:
            await client.ask("task.retry", task_id=task_id)
        assert (caught.value.error["code"], caught.value.error["data"]["code"]) == (4090, "CONFLICT")
        canceled = await client.ask("task.cancel", task_id=task_id)
        assert (canceled["canceled"], canceled["state"]) == (True, "CANCELED")
        assert (await client.ask("task.retry", task_id=task_id))["state"] == "QUEUED"
        await client.ask("task.cancel", task_id=task_id)


@pytest.mark.spec("GC-ACP-209")
def test_an_idempotency_key_answers_its_task_and_refuses_another_request_over_restarts(tmp_path: Path) -> None:
    home = tmp_path / "home"
    body = {"kind": "noop", "payload": {"result": 1}, "idempotency_key": "k", "session_id": "s"}
    ids = set()
    for life in range(2):
        with RunningDaemon(home) as daemon:
            done = daemon.call("task.submit", **body)
            assert done["deduplicated"] is (life > 0)
            again = daemon.call("task.submit", **body)
            assert again["deduplicated"] is True
            ids |= {done["task_id"], again["task_id"]}
            for change in ({"payload": {"result": 2}}, {"session_id": "t"}, {"priority": 1}, {"kind": "exec"}):
                other = {**body, **change}
                if other["kind"] == "exec":
                    other["payload"] = {"argv": ["true"]}
                with pytest.raises(RpcFailed) as caught:
                    daemon.call("task.submit", **other)
                assert caught.value.error["code"] == 4090
            daemon.kill()
    assert len(ids) == 1


@pytest.mark.spec("GC-ACP-209")
def test_many_are_stored_together_or_not_at_all(daemon: RunningDaemon) -> None:
    one = {"kind": "noop", "payload": {}, "session_id": "batch"}
    done = daemon.call("task.submit_many", tasks=[one, one, one])["results"]
    assert [entry["deduplicated"] for entry in done] == [False] * 3
    with pytest.raises(RpcFailed) as caught:
        daemon.call("task.submit_many", tasks=[one, {**one, "agent_id": "nobody"}])
    assert caught.value.error["code"] == 4040
    assert len(daemon.call("task.list", session_id="batch")["tasks"]) == 3


@pytest.mark.spec("GC-ACP-210")
def test_lists_are_paged_without_a_gap_and_empty_ones_are_lists(daemon: RunningDaemon) -> None:
    made = [daemon.call("task.submit", kind="noop", payload={}, session_id="paged")["task_id"] for _ in range(5)]
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = daemon.call("task.list", session_id="paged", limit=2, **cursor)
        found += [task["id"] for task in page["tasks"]]
        if "next_cursor" not in page:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert found == made[::-1]
    assert daemon.call("task.list", session_id="nobody") == {"tasks": []}
    assert daemon.call("cron.list")["schedules"] == []
    assert daemon.call("session.events.read", session_id="nobody")["events"] == []


@pytest.mark.spec("GC-ACP-210")
def test_a_task_shows_every_promised_field(daemon: RunningDaemon) -> None:
    task_id = daemon.call("task.submit", kind="noop", payload={"result": 5}, idempotency_key="shown")["task_id"]
    task = daemon.wait(task_id)
    assert task == daemon.call("task.get", task_id=task_id)
    always = {
        "id", "kind", "session_id", "agent_id", "state", "priority", "attempt", "max_attempts", "deaths",
        "available_at", "payload", "cancel_requested", "created_at", "updated_at",
    }  # fmt: skip
    assert set(task) == always | {"result", "idempotency_key", "policy_version", "finished_at"}
    assert (task["result"], task["attempt"], task["state"]) == (5, 1, "SUCCEEDED")
    steps = daemon.call("task.steps", task_id=task_id)
    assert steps == {"steps": []}
    told = daemon.call("task.events", task_id=task_id)["events"]
    assert [event["event_type"] for event in told] == [
        "task.enqueued", "task.claimed", "task.running", "task.succeeded",
    ]  # fmt: skip
    assert daemon.call("task.events", task_id=task_id, from_event_id=told[1]["event_id"])["events"] == told[2:]
