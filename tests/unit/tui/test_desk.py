"""Which agent and which session."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from goclaw.client import Client
from goclaw.errors import BadRequest, NotFound
from goclaw.tui.desk import Desk, Start
from goclaw.tui.facts import facts_of
from goclaw.tui.reach import Reach
from tests.unit.tui.house import House, QuickClock


@asynccontextmanager
async def desk(house: House) -> AsyncIterator[Desk]:
    clock = QuickClock()
    async with house.open(), Client(house.daemon.target, clock) as client:
        yield Desk(Reach(client=client, clock=clock, gone=lambda: False))


@pytest.mark.spec("GC-TUI-008")
async def test_one_begins_in_the_session_in_which_the_agent_was_last_spoken_to() -> None:
    house = House()
    for number, (name, agent) in enumerate(
        [("tui-1", "default"), ("tui-2", "default"), ("tui-3", "coder"), ("x", "default")]
    ):
        house.sessions[name] = {"id": name, "agent_id": agent, "created_at": number, "updated_at": 9 - number}
    house.sessions["tui-0"] = house.sessions["tui-1"] | {"id": "tui-0", "updated_at": 99, "ended_at": 99}
    async with desk(house) as found:
        place = await found.first(Start())
        assert (place.session_id, place.agent.id) == ("tui-1", "default")
        assert (await found.agent("coder")).session_id == "tui-3"


async def test_without_a_session_there_is_a_new_one_and_it_is_remembered() -> None:
    async with desk(House()) as found:
        place = await found.first(Start(agent="coder"))
        assert place.session_id.startswith("tui-")
        assert await found.agent("coder") == place
        fresh = found.fresh(place.agent)
        assert fresh.session_id != place.session_id
        assert await found.agent("coder") == fresh


async def test_a_named_session_brings_its_agent_and_a_new_one_takes_the_named_agent() -> None:
    house = House()
    house.sessions["theirs"] = {"id": "theirs", "agent_id": "coder", "created_at": 1, "updated_at": 1}
    async with desk(house) as found:
        assert (await found.first(Start(session="theirs"))).agent.id == "coder"
        assert (await found.first(Start(session="mine", agent="coder"))).agent.id == "coder"
        assert (await found.first(Start(session="other"))).agent.id == "default"
        with pytest.raises(BadRequest, match="session theirs belongs to agent coder"):
            await found.first(Start(session="theirs", agent="default"))
        with pytest.raises(BadRequest, match="session_id"):
            await found.first(Start(session="no such"))


async def test_an_unknown_agent_is_refused_with_the_nearest_and_all_names() -> None:
    async with desk(House()) as found:
        with pytest.raises(NotFound, match=r"no agent 'kodr'. Did you mean coder\? Agents: coder, default"):
            await found.first(Start(agent="kodr"))
        with pytest.raises(NotFound, match=r"no agent 'zzz'. Agents"):
            await found.agent("zzz")


def test_an_ambiguous_name_is_no_name() -> None:
    agents = {"agents": [{"agent_id": "Bob"}, {"agent_id": "bob"}]}
    facts = facts_of({"db": {"latest_event_id": 1}}, agents, {"tools": []})
    assert facts.agent("BOB") is None
    bob = facts.agent("bob")
    assert bob is not None
    assert bob.id == "bob"
