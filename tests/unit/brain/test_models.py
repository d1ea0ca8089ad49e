"""Which provider answers for whom, and what a reload changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from goclaw.brain.models import Models
from goclaw.brain.providers import ProviderSettings
from goclaw.core.agent import Agent
from goclaw.core.chat import ChatRequest, Message, Text
from goclaw.errors import NoProvider
from tests.fakes_clock import FakeClock


def settings(*names: str, **changes: Any) -> dict[str, ProviderSettings]:
    base = {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "api_key": "sk-test", "model": "m"}
    return {name: ProviderSettings(name=name, **(base | changes)) for name in names}


def agent(*providers: str, model: str | None = None) -> Agent:
    return Agent(id="a", display_name="a", soul="", providers=providers, model=model)


class Told:
    """Fits the port Emit."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str | None]] = []

    def __call__(
        self, event_type: str, payload: Mapping[str, Any], *, task_id: str | None = None, session_id: str | None = None
    ) -> None:
        self.events.append((event_type, task_id))


def test_an_agents_chain_is_its_own_list_in_its_order() -> None:
    models = Models(settings("one", "two", "three"), FakeClock(), Told())
    assert models.provider_for(agent("three", "one")).name == "three+one"
    assert models.provider_for(agent("gone", "two")).name == "two"


def test_without_a_configured_provider_the_offline_one_answers() -> None:
    models = Models({}, FakeClock(), Told())
    assert models.provider_for(agent()).name == "offline"
    assert models.provider_for(agent("gone", model="m")).name == "offline"
    assert models.provider_for(agent(model="m")).name == "offline"
    assert models.names == ("offline",)


async def test_what_a_chain_reports_is_told_of_the_task() -> None:
    told = Told()
    provider = Models({}, FakeClock(), told).provider_for(agent(), "task-1")
    with pytest.raises(NoProvider):
        async for _ in provider.stream(ChatRequest(system="", messages=(Message("user", (Text("hi"),)),))):
            pass
    assert told.events == [("provider.failed", "task-1")]


def test_a_reload_keeps_what_did_not_change_and_a_turn_under_way_keeps_what_it_has() -> None:
    models = Models(settings("one", "two"), FakeClock(), Told())
    before = dict(models._providers)  # noqa: SLF001 (which object serves is the point)
    models.adopt(settings("one") | settings("two", model="another"))
    after = models._providers  # noqa: SLF001
    assert after["one"] is before["one"]
    assert after["offline"] is before["offline"]
    assert after["two"] is not before["two"]
    models.adopt({})
    assert models.names == ("offline",)


async def test_all_are_closed_in_the_end_the_retired_ones_too() -> None:
    models = Models(settings("one"), FakeClock(), Told())
    closed: list[str] = []
    first = models._providers["one"]  # noqa: SLF001

    async def close() -> None:
        closed.append("first")

    first.aclose = close  # type: ignore[method-assign]
    models.adopt(settings("one", model="another"))
    await models.aclose()
    assert closed == ["first"]


def test_an_agents_model_is_asked_of_the_provider_it_was_chosen_for_only() -> None:
    models = Models(settings("one", "two"), FakeClock(), Told())

    def first_model(chosen: Agent) -> str | None:
        chain = models.provider_for(chosen)
        first: Any = chain._candidates[0]  # type: ignore[attr-defined]  # noqa: SLF001
        return getattr(first, "_model", None) if type(first).__name__ == "OnModel" else None

    assert first_model(agent("one", "two", model="big")) == "big"
    assert first_model(agent("gone", "two", model="big")) is None
