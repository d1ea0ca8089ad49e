"""The client against a daemon made of a script, over a real socket."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from goclaw.client import ChatEnd, Client, Link, Target
from goclaw.core.event import Delta, Event
from goclaw.errors import NotAuthorized, RpcError, Unreachable
from tests.unit.client.conftest import TOKEN, FakeClock, FakeDaemon, Peer, Refusal

ASKED = {"task_id": "t"}


async def test_a_call_says_hello_first_and_returns_the_result(daemon: FakeDaemon) -> None:
    async def get(_: Peer, params: dict[str, Any]) -> Any:
        return {"id": params["task_id"]}

    daemon.on("task.get", get)
    async with Client(daemon.target) as client:
        assert await client.call("task.get", ASKED | {"reason": None}) == {"id": "t"}
        assert (await client.hello())["log_id"] == "log-1"
    assert [name for name, _ in daemon.asked] == ["system.hello", "task.get"]
    assert daemon.asked[0][1]["version"] == "1.0"
    assert daemon.asked[0][1]["client"].startswith("goclaw-cli/")
    assert daemon.asked[1][1] == ASKED


async def test_answers_find_their_calls_in_any_order(daemon: FakeDaemon) -> None:
    second_asked = asyncio.Event()

    async def slow(_: Peer, params: dict[str, Any]) -> Any:
        await second_asked.wait()
        return "slow"

    async def quick(_: Peer, params: dict[str, Any]) -> Any:
        second_asked.set()
        return "quick"

    daemon.on("slow", slow)
    daemon.on("quick", quick)
    async with Client(daemon.target) as client:
        answers = list(await asyncio.gather(client.call("slow"), client.call("quick")))
    assert answers == ["slow", "quick"]
    assert daemon.connections == 1


async def test_an_error_answer_keeps_its_number_its_sentence_and_its_data(daemon: FakeDaemon) -> None:
    async def get(_: Peer, params: dict[str, Any]) -> Any:
        raise Refusal(4040, "there is no task t", code="NOT_FOUND", retryable=False)

    daemon.on("task.get", get)
    async with Client(daemon.target) as client:
        with pytest.raises(RpcError) as caught:
            await client.call("task.get", ASKED)
    assert (caught.value.rpc_code, caught.value.word) == (4040, "NOT_FOUND")
    assert caught.value.message == "there is no task t"


async def test_a_wrong_token_is_not_authorized(daemon: FakeDaemon) -> None:
    async with Client(lambda: Target(daemon.url, "another")) as client:
        with pytest.raises(NotAuthorized):
            await client.call("system.ping")


async def test_nobody_there_is_unreachable() -> None:
    async with Client(lambda: Target("http://127.0.0.1:9", "x")) as client:
        with pytest.raises(Unreachable, match=r"127\.0\.0\.1:9"):
            await client.call("system.ping")


async def test_without_any_token_a_guessed_address_is_not_even_asked(daemon: FakeDaemon) -> None:
    async with Client(lambda: Target(daemon.url, None, guessed=True)) as client:
        with pytest.raises(Unreachable, match="daemon start"):
            await client.call("system.ping")
    assert daemon.connections == 0


async def test_a_lost_connection_fails_the_waiting_call_and_the_next_one_connects_anew(
    daemon: FakeDaemon,
) -> None:
    async def die(peer: Peer, params: dict[str, Any]) -> Any:
        await peer.drop()

    async def ping(_: Peer, params: dict[str, Any]) -> Any:
        return "pong"

    daemon.on("die", die)
    daemon.on("ping", ping)
    async with Client(daemon.target) as client:
        with pytest.raises(Unreachable):
            await client.call("die")
        assert await client.call("ping") == "pong"
    assert daemon.connections == 2


async def test_a_request_above_the_frame_limit_is_refused_before_it_is_sent(daemon: FakeDaemon) -> None:
    async with Client(daemon.target) as client:
        with pytest.raises(RpcError) as caught:
            await client.call("task.submit", {"payload": "x" * (4 * 1024 * 1024)})
        await client.hello()
    assert caught.value.rpc_code == 4130
    assert daemon.params_of("task.submit") == []


async def test_wait_outlasts_a_restart(daemon: FakeDaemon, clock: FakeClock) -> None:
    answers = iter(["drop", "later", "done"])

    async def wait(peer: Peer, params: dict[str, Any]) -> Any:
        match next(answers):
            case "drop":
                await peer.drop()
            case "later":
                raise Refusal(5040, "the time to wait is over", code="TIMEOUT")
        return {"id": "t", "state": "SUCCEEDED"}

    daemon.on("task.wait", wait)
    async with Client(daemon.target, clock) as client:
        assert (await client.wait("t"))["state"] == "SUCCEEDED"
    assert clock.slept == [100]


async def test_wait_ends_when_its_own_time_is_over(daemon: FakeDaemon, clock: FakeClock) -> None:
    async def wait(_: Peer, params: dict[str, Any]) -> Any:
        clock.now += params["timeout_ms"]
        raise Refusal(5040, "the time to wait is over", code="TIMEOUT")

    daemon.on("task.wait", wait)
    async with Client(daemon.target, clock) as client:
        with pytest.raises(RpcError) as caught:
            await client.wait("t", timeout_ms=90_000)
    assert caught.value.rpc_code == 5040
    assert [params["timeout_ms"] for params in daemon.params_of("task.wait")] == [60_000, 30_000]


@pytest.mark.spec("GC-ACP-102")
async def test_a_subscription_resumes_by_cursor_without_gap_or_repeat(daemon: FakeDaemon, clock: FakeClock) -> None:
    links: list[Link] = []

    async def subscribe(peer: Peer, params: dict[str, Any]) -> Any:
        numbers = (1, 2) if params["from_event_id"] == 0 else (2, 3, 4)  # a daemon that repeats one is not believed
        for number in numbers:
            await peer.event(number)
        if 4 not in numbers:
            asyncio.get_running_loop().call_later(0.02, peer.socket.transport.abort)
        return {"subscribed": True, "replayed": len(numbers), "latest_event_id": numbers[-1]}

    daemon.on("session.events.subscribe", subscribe)
    seen: list[int] = []
    async with (
        Client(daemon.target, clock) as client,
        aclosing(client.subscribe(on_link=links.append)) as stream,
    ):
        async for item in stream:
            assert isinstance(item, Event)
            seen.append(item.event_id)
            if item.event_id == 4:
                break
    assert seen == [1, 2, 3, 4]
    first, second = daemon.params_of("session.events.subscribe")
    assert first == {"session_id": "*", "from_event_id": 0}
    assert second == {"session_id": "*", "from_event_id": 2, "log_id": "log-1"}
    assert [link.up for link in links] == [True, False]
    assert clock.slept == [100]


@pytest.mark.spec("GC-ACP-102")
async def test_attempts_to_come_back_double_up_to_two_seconds(daemon: FakeDaemon, clock: FakeClock) -> None:
    async def event(peer: Peer, params: dict[str, Any]) -> Any:
        await peer.event(1)
        return {"subscribed": True, "replayed": 1, "latest_event_id": 1}

    async def subscribe(peer: Peer, params: dict[str, Any]) -> Any:
        daemon.on("session.events.subscribe", event)
        asyncio.get_running_loop().call_later(0.01, peer.socket.transport.abort)
        return {"subscribed": True, "replayed": 0, "latest_event_id": 0}

    daemon.on("session.events.subscribe", subscribe)
    real = daemon.url

    def find() -> Target:
        away = daemon.connections > 0 and len(clock.slept) < 7
        return Target("http://127.0.0.1:9" if away else real, TOKEN)

    async with Client(find, clock) as client, aclosing(client.subscribe()) as stream:
        await anext(stream)
    assert clock.slept == [100, 200, 400, 800, 1600, 2000, 2000]


async def test_latest_resumes_from_the_head_it_was_told(daemon: FakeDaemon, clock: FakeClock) -> None:
    async def subscribe(peer: Peer, params: dict[str, Any]) -> Any:
        if params["from_event_id"] == "latest":
            asyncio.get_running_loop().call_later(0.01, peer.socket.transport.abort)
            return {"subscribed": True, "replayed": 0, "latest_event_id": 41}
        await peer.event(42)
        return {"subscribed": True, "replayed": 1, "latest_event_id": 42}

    daemon.on("session.events.subscribe", subscribe)
    async with Client(daemon.target, clock) as client, aclosing(client.subscribe("s", "latest")) as stream:
        event = await anext(stream)
    assert isinstance(event, Event)
    assert event.event_id == 42
    assert daemon.params_of("session.events.subscribe")[1]["from_event_id"] == 41


async def test_a_gap_is_told_and_not_papered_over(daemon: FakeDaemon) -> None:
    async def subscribe(_: Peer, params: dict[str, Any]) -> Any:
        raise Refusal(4100, "gone", code="REPLAY_GAP", oldest_event_id=7, resume_from=6)

    daemon.on("session.events.subscribe", subscribe)
    async with Client(daemon.target) as client, aclosing(client.subscribe("*", 3)) as stream:
        with pytest.raises(RpcError) as caught:
            await anext(stream)
    assert caught.value.data["resume_from"] == 6


async def test_the_first_connection_of_a_subscription_is_not_retried() -> None:
    async with Client(lambda: Target("http://127.0.0.1:9", "x")) as client:
        with pytest.raises(Unreachable):
            await anext(client.subscribe())


async def test_deltas_come_in_the_same_stream(daemon: FakeDaemon) -> None:
    async def subscribe(peer: Peer, params: dict[str, Any]) -> Any:
        await peer.event(1)
        await peer.delta("Hel")
        return {"subscribed": True, "replayed": 1, "latest_event_id": 1}

    daemon.on("session.events.subscribe", subscribe)
    async with Client(daemon.target) as client, aclosing(client.subscribe("s")) as stream:
        assert isinstance(await anext(stream), Event)
        assert await anext(stream) == Delta(task_id="t", session_id="s", seq=0, content="Hel")


async def test_a_streamed_turn_hands_over_deltas_and_then_its_end(daemon: FakeDaemon) -> None:
    async def chat(peer: Peer, params: dict[str, Any]) -> Any:
        await peer.delta("Hel", 0)
        await peer.delta("lo", 1)
        return {"task_id": "t", "session_id": "s", "state": "SUCCEEDED", "result": {"content": "Hello"}}

    daemon.on("agent.chat.stream", chat)
    async with Client(daemon.target) as client:
        items = [item async for item in client.chat_stream({"content": "hi"})]
    assert [item.content for item in items if isinstance(item, Delta)] == ["Hel", "lo"]
    assert items[-1] == ChatEnd("t", "s", "SUCCEEDED", {"content": "Hello"}, None, None)


@pytest.mark.spec("GC-ACP-103")
async def test_a_streamed_turn_is_taken_up_again_under_the_same_key(daemon: FakeDaemon, clock: FakeClock) -> None:
    tries = iter([True, False])

    async def chat(peer: Peer, params: dict[str, Any]) -> Any:
        if next(tries):
            await peer.delta("Hel")
            await peer.drop()
        return {
            "task_id": "t",
            "session_id": "s",
            "state": "FAILED",
            "error": {"code": "NO_PROVIDER", "message": "no model"},
        }

    daemon.on("agent.chat.stream", chat)
    async with Client(daemon.target, clock) as client:
        items = [item async for item in client.chat_stream({"content": "hi"})]
    end = items[-1]
    assert isinstance(end, ChatEnd)
    assert (end.error_code, end.error) == ("NO_PROVIDER", "no model")
    keys = {params["idempotency_key"] for params in daemon.params_of("agent.chat.stream")}
    assert len(daemon.params_of("agent.chat.stream")) == 2
    assert len(keys) == 1
