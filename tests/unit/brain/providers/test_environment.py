"""Who answers when nobody configured anything."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from goclaw.brain.providers import ProviderSettings, default_chain, default_settings, ollama_models
from goclaw.brain.providers.environment import ollama_settings
from tests.mock_llm.faulty import Answer, faulty

NOBODY = "http://127.0.0.1:1"


def tags(*names: str) -> Answer:
    body = json.dumps({"models": [{"name": name} for name in names]})
    return Answer(200, {"content-type": "application/json"}, (body,))


@pytest.mark.spec("GC-BRN-140")
@pytest.mark.parametrize(
    ("env", "name"),
    [
        ({"ANTHROPIC_API_KEY": "a", "OPENAI_API_KEY": "b", "OPENROUTER_API_KEY": "c"}, "anthropic"),
        ({"OPENAI_API_KEY": "b", "OPENROUTER_API_KEY": "c"}, "openai"),
        ({"OPENROUTER_API_KEY": "c", "OLLAMA_HOST": "127.0.0.1"}, "openrouter"),
        ({"OLLAMA_HOST": "127.0.0.1"}, "ollama"),
        ({"ANTHROPIC_API_KEY": "  ", "OPENAI_API_KEY": ""}, "offline"),
        ({}, "offline"),
    ],
)
async def test_the_first_key_decides_then_ollama_then_offline(env: Mapping[str, str], name: str) -> None:
    [chosen] = await default_chain(env, probe_url=NOBODY)
    assert chosen.name == name


@pytest.mark.spec("GC-BRN-140")
async def test_an_ollama_that_answers_on_this_machine_is_found() -> None:
    async with faulty(tags("qwen", "llama")) as server:
        [chosen] = await default_chain({}, probe_url=server.url)
        assert server.requests[0][0] == "/api/tags"
    assert (chosen.name, chosen.kind, chosen.base_url) == ("ollama", "openai", server.url + "/v1")


@pytest.mark.spec("GC-BRN-140")
@pytest.mark.parametrize(
    "answer",
    [
        tags(),
        Answer(404, {}, ("{}",)),
        Answer(200, {}, ("<html>",)),
        Answer(200, {}, ('{"models": 5}',)),
        Answer(200, {}, ("[]",)),
        Answer(then="hang"),
        Answer(then="cut"),
    ],
)
async def test_what_is_no_ollama_with_a_model_is_passed_over(answer: Answer) -> None:
    async with faulty(answer) as server:
        assert await ollama_models(server.url) == ()


@pytest.mark.spec("GC-BRN-140")
def test_every_key_offers_its_provider_in_the_order_of_preference() -> None:
    env = {
        "OPENROUTER_API_KEY": "c",
        "OPENAI_API_KEY": " b\n",
        "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
        "ANTHROPIC_API_KEY": "a",
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:9",
    }
    found = default_settings(env)
    assert list(found) == ["anthropic", "openai", "openrouter", "offline"]
    assert found["anthropic"].base_url == "http://127.0.0.1:9"
    assert (found["openai"].base_url, found["openai"].api_key) == ("http://127.0.0.1:9/v1", "b")
    assert found["openrouter"].base_url == "https://openrouter.ai/api/v1"
    assert [settings.kind for settings in found.values()] == ["anthropic", "openai", "openai", "offline"]
    assert all(settings.model for settings in list(found.values())[:3])


@pytest.mark.parametrize(
    ("host", "base_url"),
    [
        ("127.0.0.1", "http://127.0.0.1:11434/v1"),
        ("0.0.0.0", "http://127.0.0.1:11434/v1"),  # noqa: S104 - what people set for the server
        ("box:9999", "http://box:9999/v1"),
        ("http://box", "http://box:11434/v1"),
        ("https://box/ollama/", "https://box:443/ollama/v1"),
        ("[::1]:5", "http://[::1]:5/v1"),
        ("http://box:1/v1", "http://box:1/v1"),
    ],
)
def test_ollama_host_is_understood_in_the_forms_ollama_takes(host: str, base_url: str) -> None:
    assert ollama_settings({"OLLAMA_HOST": host}).base_url == base_url


@pytest.mark.spec("GC-BRN-112")
def test_a_key_does_not_show_when_settings_are_printed() -> None:
    assert "hush" not in repr(ProviderSettings(name="x", kind="openai", api_key="hush"))
