"""Messages on their way."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from goclaw.client import Client
from goclaw.errors import ClientError
from goclaw.tui.outbox import LIMIT, Message, Outbox
from goclaw.tui.reach import Reach
from tests.unit.client.conftest import Peer, Refusal
from tests.unit.tui.house import House, QuickClock


class Receipts:
    def __init__(self) -> None:
        self.told: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    def sent(self, message: Message, answer: Mapping[str, Any]) -> None:
        self.told.put_nowait((message.key, answer["task_id"]))

    def refused(self, message: Message, error: ClientError) -> None:
        self.told.put_nowait((message.key, error.message))


def message(key: str) -> Message:
    return Message(key=key, session_id="s", agent_id="default", text=f"text of {key}")


@pytest.mark.spec("GC-TUI-016")
async def test_messages_arrive_in_order_and_once_although_the_receipt_was_lost() -> None:
    house, receipts, clock = House(), Receipts(), QuickClock()
    true_answer = house.daemon.methods["agent.chat"]
    lost = asyncio.Event()

    async def losing(peer: Peer, params: dict[str, Any]) -> Any:
        answer = await true_answer(peer, params)
        if not lost.is_set():
            lost.set()
            await peer.drop()
        return answer

    house.daemon.on("agent.chat", losing)
    async with house.open(), Client(house.daemon.target, clock) as client, asyncio.TaskGroup() as group:
        outbox = Outbox(Reach(client=client, clock=clock, gone=lambda: False), receipts)
        assert outbox.put(message("a"))
        assert outbox.put(message("b"))
        sending = group.create_task(outbox.run())
        assert [await receipts.told.get(), await receipts.told.get()] == [("a", "task-1"), ("b", "task-2")]
        assert [task["payload"]["content"] for task in house.tasks.values()] == ["text of a", "text of b"]
        assert outbox.waiting() == ()
        sending.cancel()


async def test_a_refusal_is_told_and_a_daemon_that_stops_is_waited_for() -> None:
    house, receipts, clock = House(), Receipts(), QuickClock()
    refusals = [Refusal(4290, "stopping", code="SHUTTING_DOWN"), Refusal(4130, "too long", code="TOO_LARGE")]

    async def refusing(_: Peer, __: dict[str, Any]) -> Any:
        raise refusals.pop(0)

    house.daemon.on("agent.chat", refusing)
    async with house.open(), Client(house.daemon.target, clock) as client, asyncio.TaskGroup() as group:
        outbox = Outbox(Reach(client=client, clock=clock, gone=lambda: False), receipts)
        outbox.put(message("a"))
        sending = group.create_task(outbox.run())
        assert await receipts.told.get() == ("a", "too long")
        sending.cancel()


async def test_there_is_an_end_to_what_waits_and_it_can_be_taken_back() -> None:
    async with Client(House().daemon.target) as client:
        outbox = Outbox(Reach(client=client, clock=QuickClock(), gone=lambda: True), Receipts())
        assert all(outbox.put(message(str(number))) for number in range(LIMIT))
        assert not outbox.put(message("one more"))
        assert outbox.drop("0")
        assert not outbox.drop("0")
        assert outbox.put(message("one more"))
        assert len(outbox.waiting("s")) == LIMIT
        assert outbox.waiting("other") == ()
