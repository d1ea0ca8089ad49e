"""The limits of the queue as config.yaml says them."""

from __future__ import annotations

from pathlib import Path

import pytest

from goclaw.config.edit import get_value, set_value
from goclaw.config.home import Home, locate_home
from goclaw.config.load import check_settings, load_settings
from goclaw.config.settings import Settings
from goclaw.errors import BadRequest, ConfigInvalid

pytestmark = pytest.mark.spec("GC-QUE-419")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return locate_home({}, str(tmp_path))


def load(home: Home, text: str) -> Settings:
    home.config.write_text(text)
    return load_settings(home, {})


def test_without_a_word_nothing_is_limited(home: Home) -> None:
    settings = load(home, "")
    assert (settings.concurrency, settings.starts_per_minute) == ({}, {})
    assert settings.agents()["default"].starts_per_minute == {}


def test_names_have_limits_and_kinds_have_rates(home: Home) -> None:
    settings = load(home, "concurrency: {deploy: 1, 'web crawl': 4}\nstarts_per_minute: {chat: 30}\n")
    assert settings.concurrency == {"deploy": 1, "web crawl": 4}
    assert settings.agents()["default"].starts_per_minute == {"chat": 30}


def test_the_rates_of_an_agent_go_before_those_of_all(home: Home) -> None:
    settings = load(home, "starts_per_minute: {chat: 30, exec: 5}\nagents: {a: {starts_per_minute: {chat: 2}}}\n")
    assert settings.agents()["a"].starts_per_minute == {"chat": 2, "exec": 5}
    assert settings.agents()["default"].starts_per_minute == {"chat": 30, "exec": 5}


def test_a_changed_limit_is_a_changed_configuration(home: Home) -> None:
    hashes = {load(home, f"concurrency: {{deploy: {n}}}\n").config_hash for n in (1, 2)}
    assert len(hashes) == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("concurrency: {deploy: 0}\n", "concurrency.deploy"),
        ("concurrency: {deploy: -1}\n", "concurrency.deploy"),
        ("concurrency: {deploy: many}\n", "concurrency.deploy"),
        ("concurrency: {deploy: }\n", "concurrency.deploy"),
        ("concurrency: 3\n", "mapping of name to integer"),
        ("starts_per_minute: {chat: 0}\n", "starts_per_minute.chat"),
        ("starts_per_minute: {caht: 3}\n", "did you mean chat"),
        ("agents: {a: {starts_per_minute: {noop: 1.5}}}\n", "agents.a.starts_per_minute.noop"),
    ],
)
def test_a_limit_that_cannot_be_is_refused_with_its_place(home: Home, text: str, told: str) -> None:
    home.config.write_text(text)
    assert told in " ".join(map(str, check_settings(home, {})))
    with pytest.raises(ConfigInvalid):
        load_settings(home, {})


def test_one_limit_can_be_set_and_read_by_its_name(home: Home) -> None:
    home.config.write_text("# mine\nconcurrency: {crawl: 4}\n")
    assert set_value(home, "concurrency.crawl", "2", {}).live
    assert set_value(home, "starts_per_minute.chat", "30", {}).live
    settings = load_settings(home, {})
    assert (get_value(settings, "concurrency.crawl"), get_value(settings, "starts_per_minute.chat")) == (2, 30)
    assert home.config.read_text().startswith("# mine\n")
    with pytest.raises(ConfigInvalid):
        set_value(home, "concurrency.crawl", "0", {})
    with pytest.raises(BadRequest):
        set_value(home, "concurrency.crawl.more", "1", {})
    assert load_settings(home, {}).concurrency == {"crawl": 2}
