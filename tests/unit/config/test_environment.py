"""The environment and .env."""

from __future__ import annotations

from dataclasses import replace

import pytest

from goclaw.config.environment import complete_provider, ollama_url, provider_from_environment, read_environment
from goclaw.config.settings import ProviderEntry


def test_lines_of_dotenv_are_read_as_shells_write_them() -> None:
    text = '\ufeff# c\n\nA=1\nexport B = two words # note\nC=\'# kept $X\'\nD="a\\nb\\""  # note\nE=\nF=a#b\n'
    found = read_environment({}, text)
    assert found.problems == ()
    assert dict(found.variables) == {
        "A": "1", "B": "two words", "C": "# kept $X", "D": 'a\nb"', "E": "", "F": "a#b",
    }  # fmt: skip


@pytest.mark.spec("GC-CFG-007")
def test_the_process_wins_over_dotenv() -> None:
    assert read_environment({"A": "process"}, "A=file").variables["A"] == "process"


@pytest.mark.spec("GC-CFG-007")
@pytest.mark.parametrize("name", ["GOCLAW_HOME", "goclaw_auth_token", "OPENAI_BASE_URL", "X_BASE_URL"])
def test_dotenv_may_not_move_the_home_the_token_or_an_address(name: str) -> None:
    found = read_environment({}, f"A=1\n{name}=http://evil.example\n")
    assert [(line, name in message, "evil" in message) for line, message in found.problems] == [(2, True, False)]
    assert name not in found.variables


def test_a_broken_line_is_named_without_its_value() -> None:
    found = read_environment({}, "topsecretvalue\nB='topsecretvalue\n")
    assert [line for line, _ in found.problems] == [1, 2]
    assert "topsecret" not in repr(found.problems)


def test_values_are_secret_by_the_names_of_their_variables() -> None:
    found = read_environment({"MY_API_KEY": "k", "PATH": "/bin"}, "DB_PASSWORD=p\nPLAIN=x\n")
    assert set(found.secrets) == {"k", "p"}


@pytest.mark.spec("GC-CFG-008")
def test_the_first_key_present_decides_when_nothing_is_configured() -> None:
    every = {"ANTHROPIC_API_KEY": "a", "OPENAI_API_KEY": "o", "OPENROUTER_API_KEY": "r", "OLLAMA_HOST": "h"}
    order = []
    while found := provider_from_environment(every):
        order += [(name, entry.kind, entry.api_key) for name, entry in found.items()]
        every.pop({"ollama": "OLLAMA_HOST"}.get(order[-1][0], f"{order[-1][0].upper()}_API_KEY"))
    assert order == [
        ("anthropic", "anthropic", "a"), ("openai", "openai", "o"), ("openrouter", "openai", "r"),
        ("ollama", "openai", None),
    ]  # fmt: skip


def test_a_vendors_name_takes_the_vendors_variables_over_the_file() -> None:
    entry = ProviderEntry(kind="openai", base_url="http://file", api_key="file")
    variables = {"OPENAI_API_KEY": "env", "OPENAI_BASE_URL": "http://env"}
    full = complete_provider("openai", entry, variables)
    assert (full.api_key, full.base_url) == ("env", "http://env")
    assert complete_provider("openai", replace(entry, model="m"), {}) == replace(entry, model="m")
    assert complete_provider("openai", entry, {}).model, "a vendor has a model that is asked for when nobody chose one"


@pytest.mark.spec("GC-CFG-008")
def test_a_vendors_key_is_never_sent_to_an_address_of_another_name() -> None:
    variables = {"OPENAI_API_KEY": "env", "ANTHROPIC_API_KEY": "env"}
    elsewhere = ProviderEntry(kind="openai", base_url="http://elsewhere")
    assert complete_provider("mine", elsewhere, variables).api_key is None
    assert complete_provider("mine", ProviderEntry(kind="openai"), variables).api_key == "env"
    assert complete_provider("mine", ProviderEntry(kind="anthropic"), variables).api_key == "env"
    assert complete_provider("mine", ProviderEntry(kind="offline"), variables).api_key is None


def test_openrouter_and_ollama_know_their_addresses() -> None:
    entry = ProviderEntry(kind="openai")
    assert complete_provider("openrouter", entry, {}).base_url == "https://openrouter.ai/api/v1"
    assert complete_provider("ollama", entry, {}).base_url == "http://127.0.0.1:11434/v1"
    assert ollama_url("box") == "http://box:11434/v1"
    assert ollama_url("0.0.0.0:99") == "http://127.0.0.1:99/v1"
    assert ollama_url("https://box/") == "https://box/v1"
