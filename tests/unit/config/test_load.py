"""From files, environment and flags to settings, or to the list of what is wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from goclaw.config.home import Home
from goclaw.config.load import Problem, check_settings, is_loopback, load_settings
from goclaw.config.starter import AGENTS_NOTES, CONFIG, SOUL
from goclaw.core.agent import DEFAULT_AGENT
from goclaw.errors import ConfigInvalid


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def problems(home: Home, text: str, **environ: str) -> list[str]:
    home.config.write_text(text)
    return [str(problem) for problem in check_settings(home, environ)]


def test_an_empty_home_has_the_defaults(home: Home) -> None:
    settings = load_settings(home, {})
    assert (settings.bind_addr, settings.address) == ("127.0.0.1:18789", ("127.0.0.1", 18789))
    assert (settings.log_level, settings.worker_count, settings.max_queue_depth) == ("info", 16, 1_000_000)
    assert (settings.task_timeout_ms, settings.drain_timeout_ms) == (600_000, 5_000)
    assert settings.chain() == ("offline",)
    assert list(settings.agents()) == [DEFAULT_AGENT]
    assert set(settings.sources.values()) == {"default"}


@pytest.mark.spec("GC-CFG-004")
def test_a_flag_wins_over_the_environment_that_over_the_file_and_that_over_the_default(home: Home) -> None:
    home.config.write_text("worker_count: 2\nlog_level: error\ntask_timeout_seconds: 30\nbind_addr: '[::1]:1'\n")
    environ = {"GOCLAW_WORKER_COUNT": "3", "GOCLAW_LOG_LEVEL": "WARNING", "GOCLAW_BIND_ADDR": "localhost:2"}
    settings = load_settings(home, environ, {"bind_addr": "0.0.0.0:0"})
    assert settings.bind_addr == "0.0.0.0:0"
    assert (settings.worker_count, settings.log_level) == (3, "warning")
    assert settings.task_timeout_seconds == 30.0
    assert settings.sources["bind_addr"] == "flag"
    assert settings.sources["worker_count"] == "environment"
    assert settings.sources["task_timeout_seconds"] == "config.yaml"
    assert settings.sources["drain_timeout_seconds"] == "default"


def test_every_variable_of_the_contract_sets_its_key(home: Home) -> None:
    environ = {
        "GOCLAW_BIND_ADDR": "127.0.0.1:5",
        "GOCLAW_LOG_LEVEL": "debug",
        "GOCLAW_WORKER_COUNT": "7",
        "GOCLAW_TASK_TIMEOUT_SECONDS": "8",
        "GOCLAW_DRAIN_TIMEOUT_SECONDS": "0.5",
    }
    shown = load_settings(home, environ).redacted()
    names = ("bind_addr", "log_level", "worker_count", "task_timeout_seconds", "drain_timeout_seconds")
    assert [shown[name] for name in names] == ["127.0.0.1:5", "debug", 7, 8.0, 0.5]


@pytest.mark.spec("GC-CFG-005")
def test_all_problems_are_told_at_once_with_line_path_and_the_nearest_name(home: Home) -> None:
    text = "worker_cout: 3\nlog_level: loud\nproviders:\n  a: {kind: openai, modle: x}\n  b: {model: y}\nagents: []\n"
    assert problems(home, text, GOCLAW_WORKER_COUNT="many") == [
        "config.yaml line 1: worker_cout is not a known key; did you mean worker_count?",
        "config.yaml line 2: log_level is 'loud'; expected one of debug, info, warning, error",
        "GOCLAW_WORKER_COUNT: worker_count is 'many'; expected an integer 1 to 1,024",
        "config.yaml line 4: providers.a.modle is not a known key; did you mean model?",
        "config.yaml line 5: providers.b.kind is missing; expected anthropic | openai | offline",
        "config.yaml line 6: agents is a list; expected a mapping of id to settings",
    ]
    with pytest.raises(ConfigInvalid) as caught:
        load_settings(home, {"GOCLAW_WORKER_COUNT": "many"})
    assert caught.value.code == "E_CONFIG_LOAD"
    assert len(caught.value.data["problems"]) == 6


@pytest.mark.spec("GC-CFG-005")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- a\n", "expected a mapping"),
        ("just text\n", "expected a mapping"),
        ("a: [1\n", "not valid YAML"),
        ("log_level: info\nlog_level: info\n", "line 2: log_level is set twice"),
        ("worker_count: 0\n", "expected an integer 1 to 1,024"),
        ("worker_count: true\n", "expected an integer"),
        ("worker_count: '5'\n", "expected an integer"),
        ("worker_count: 1.5\n", "expected an integer"),
        ("drain_timeout_seconds: 1e999\n", "expected seconds 0 to 3600"),
        ("bind_addr: 18789\n", "expected HOST:PORT (put it in quotes)"),
        ("bind_addr: localhost\n", "expected HOST:PORT"),
        ("bind_addr: :18789\n", "expected HOST:PORT"),
        ("bind_addr: 127.0.0.1:70000\n", "ports end at 65535"),
        ("allowed_origins: ['*']\n", "allowed_origins[0] expected origin"),
        ("allowed_origins: [https://x/path]\n", "expected origin"),
        ("allowed_origins: https://x\n", "is text; expected a list"),
        ("providers: {'a b': {kind: openai}}\n", "expected a name of 1 to 64"),
        ("providers: {a: {kind: openai, base_url: 'ftp://x'}}\n", "base_url expected an http:// or https://"),
        ("providers: {a: {kind: openai, base_url: 'http://u:p@x'}}\n", "without user and password"),
        ("providers: {a: {kind: openai, timeout_seconds: 0}}\n", "expected seconds 1"),
        ("providers: {offline: {kind: openai}}\n", "is the name of the provider without a model"),
        ("provider_chain: [nope]\n", "provider_chain[0] names no provider: 'nope'; known are offline"),
        ("agents: {x: {providers: [oflfine]}}\n", "did you mean offline?"),
        ("agents: {raw: {}}\n", "agents.raw is not free"),
        ("agents: {x: {soul: missing.md}}\n", "a file that is not there"),
        ("agents: {x: {soul: ../x.md}}\n", "outside of GOCLAW_HOME"),
        ("agents: {x: {soul: /etc/x.md}}\n", "outside of GOCLAW_HOME"),
        ("schedules: [{id: a, kind: noop}]\n", "exactly one of cron, every and at"),
        ("schedules: [{id: a, kind: noop, every: 5s, cron: '@daily'}]\n", "exactly one of"),
        ("schedules: [{id: a, kind: noop, every: soon}]\n", "expected a duration"),
        ("schedules: [{id: a, kind: noop, every: 1ms}]\n", "from 1s to 366d"),
        ("schedules: [{id: a, kind: noop, every: ''}]\n", "from 1s to 366d"),
        ("schedules: [{id: a, kind: noop, at: tomorrow}]\n", "expected an instant"),
        ("schedules: [{id: a, kind: noop, at: 2027-01-01T00:00:00}]\n", "with its offset"),
        ("schedules: [{id: a, kind: noop, cron: '* * *'}]\n", "five cron fields"),
        ("schedules: [{id: a, kind: noop, cron: '0 0 31 2 *'}]\n", "never comes"),
        ("schedules: [{id: a, kind: noop, every: 5s, zone: Mars/X}]\n", "unknown time zone"),
        ("schedules: [{id: a, kind: noop, every: 5s, zone: ../../etc/passwd}]\n", "time zone"),
        ("schedules: [{id: a, kind: noop, every: 5s, agent_id: nobody}]\n", "names no agent"),
        ("schedules: [{id: a, kind: noop, every: 5s, missed: catch_up}]\n", "catch_up(N)"),
        ("schedules: [{id: a, kind: noop, every: 5s}, {id: a, kind: noop, every: 5s}]\n", "is used twice"),
        ("schedules: [{id: a, kind: chat, every: 5s}]\n", "(a) payload.content is missing"),
        ("schedules: [{id: a, kind: noop, every: 5s, payload: {x: 1}}]\n", "payload has no field 'x'"),
        (
            "schedules: [{id: a, kind: noop, every: 5s, payload: {result: 1e999}}]\n",
            "(a) payload is not valid JSON",
        ),
        ("schedules: [5]\n", "schedules[0] is a number; expected keys: id, name, cron"),
    ],
)
def test_a_wrong_value_is_refused_with_its_path_and_what_was_expected(home: Home, text: str, expected: str) -> None:
    found = problems(home, text)
    assert len(found) == 1
    assert expected in found[0]


def test_bytes_that_are_no_text_and_files_that_cannot_be_read_are_refused(home: Home) -> None:
    home.config.write_bytes(b"a: \xff\n")
    assert "is not UTF-8" in str(check_settings(home, {})[0])
    home.config.unlink()
    home.config.mkdir()
    assert "cannot be read: Is a directory" in str(check_settings(home, {})[0])


@pytest.mark.spec("GC-CFG-009")
def test_an_address_that_others_can_reach_is_taken_from_the_flag_only(home: Home) -> None:
    for host in ("[::]", "192.168.1.5", "example.org"):
        found = problems(home, "{}", GOCLAW_BIND_ADDR=f"{host}:0")
        assert len(found) == 1
        assert "say so on the command line: serve --bind" in found[0]
        assert load_settings(home, {}, {"bind_addr": f"{host}:0"}).bind_addr == f"{host}:0"
    for host in ("127.0.0.1", "127.9.9.9", "[::1]", "localhost", "LOCALHOST"):
        assert problems(home, f"bind_addr: '{host}:0'\n") == []
        assert is_loopback(host.strip("[]"))


def test_a_key_without_a_value_means_its_default(home: Home) -> None:
    home.config.write_text("worker_count:\nproviders:\nagents:\n  default:\nallowed_hosts: ~\n")
    assert load_settings(home, {}).redacted() == {
        **load_settings(Home(home.root / "none"), {}).redacted(),
        "agents": load_settings(home, {}).redacted()["agents"],
    }


@pytest.mark.spec("GC-CFG-010")
def test_a_key_comes_from_the_environment_and_is_never_shown(home: Home) -> None:
    home.config.write_text("providers:\n  a: {kind: openai, base_url: 'http://${HOST}/v1', api_key: '${MY_KEY}'}\n")
    home.dotenv.write_text("MY_KEY=very-secret-value\n")
    settings = load_settings(home, {"HOST": "h"})
    entry = settings.providers["a"]
    assert (entry.api_key, entry.base_url) == ("very-secret-value", "http://h/v1")
    assert settings.secrets == ("very-secret-value",)
    assert settings.redacted()["providers"]["a"]["api_key"] == "********"
    assert "very-secret" not in repr(settings) + repr(settings.redacted()) + repr(entry)


@pytest.mark.spec("GC-CFG-010")
def test_a_variable_that_is_not_there_is_refused_by_name(home: Home) -> None:
    words = {
        "${NOPE}": "${NOPE} is not set",
        "${EMPTY}": "is not set",
        "${a b}": "is not the name",
        "${secret:X}": "refers to the credential store",
    }
    for word, told in words.items():
        found = problems(home, f"providers: {{a: {{kind: openai, api_key: '{word}'}}}}\n", EMPTY="")
        assert len(found) == 1
        assert told in found[0]


def test_two_dollars_are_a_literal_one_and_souls_are_never_expanded(home: Home) -> None:
    home.config.write_text("model: $${X}\nagents: {a: {soul: 'say ${X}'}}\n")
    settings = load_settings(home, {"X": "1"})
    assert settings.model == "${X}"
    assert settings.agents()["a"].soul == "say ${X}"


def test_dotenv_problems_stop_the_start_without_showing_values(home: Home) -> None:
    home.dotenv.write_text("GOCLAW_AUTH_TOKEN=topsecret-topsecret-topsecret-topsecret\n")
    with pytest.raises(ConfigInvalid, match=r"\.env line 1: may not set GOCLAW_AUTH_TOKEN") as caught:
        load_settings(home, {})
    assert "topsecret" not in str(caught.value.data) + caught.value.message


def test_agents_fill_what_they_do_not_say_from_the_top(home: Home) -> None:
    home.soul.write_text("<!-- who\nyou are -->I am the default.\n")
    (home.root / "r.md").write_text("I research.")
    home.config.write_text(
        "worker_count: 4\nmodel: m\nprovider_chain: [offline]\n"
        "agents:\n  r: {soul: r.md, worker_count: 2, tools: [grep], max_rounds: 9}\n"
        "  default: {display_name: Me}\n"
    )
    agents = load_settings(home, {}).agents()
    assert list(agents) == ["default", "r"]
    default, r = agents["default"], agents["r"]
    assert (default.display_name, default.soul, default.worker_count) == ("Me", "I am the default.", 4)
    assert (r.display_name, r.soul, r.worker_count, r.model) == ("r", "I research.", 2, "m")
    assert (r.tools, r.max_rounds, r.providers, r.max_queue_depth) == (("grep",), 9, ("offline",), 1_000_000)


def test_conventions_are_read_without_their_comments(home: Home) -> None:
    home.conventions.write_text("<!-- a --> Use tabs. <!-- never ended")
    assert load_settings(home, {}).conventions == "Use tabs."


def test_schedules_are_read_in_every_form(home: Home) -> None:
    home.config.write_text(
        "schedules:\n"
        "  - {id: a, every: 1h30m, kind: noop, missed: catch_up(3), overlap: allow, "
        "priority: -2, enabled: false}\n"
        "  - {id: b, every: 90000, kind: noop}\n"
        "  - {id: c, at: 2027-01-31T08:00:00+01:00, kind: noop}\n"
        "  - {id: d, at: 1800000000000, kind: noop, session_id: s}\n"
        "  - {id: e, cron: '*/5 8-18 * * MON-FRI', zone: Europe/Berlin, payload: {content: hi}}\n"
        "  - {id: f, cron: '@daily', kind: noop}\n"
    )
    a, b, c, d, e, f = load_settings(home, {}).schedules
    assert (a.every_ms, a.missed, a.overlap, a.priority, a.enabled) == (
        5_400_000,
        "catch_up(3)",
        "allow",
        -2,
        False,
    )
    assert b.every_ms == 90_000
    assert (c.at, d.at) == (1_801_378_800_000, 1_800_000_000_000)
    assert (d.session_id, e.zone, e.kind, e.payload) == ("s", "Europe/Berlin", "chat", {"content": "hi"})
    assert f.cron == "@daily"
    assert (b.missed, b.overlap, b.agent_id, b.zone) == ("coalesce", "skip", None, "UTC")


@pytest.mark.spec("GC-CFG-011")
def test_the_hash_tells_settings_apart_but_no_secrets(home: Home) -> None:
    def hashed(text: str, soul: str = "") -> str:
        home.config.write_text(text)
        home.soul.write_text(soul)
        return load_settings(home, {"A": "first-key", "B": "other-key"}).config_hash

    assert re.fullmatch(r"[0-9a-f]{64}", hashed("{}"))
    assert hashed("{}") == hashed("# nothing\n") != hashed("worker_count: 3\n")
    assert hashed("{}") != hashed("{}", soul="someone else")
    key = "providers: {{p: {{kind: openai, api_key: '${{{}}}'}}}}\n"
    assert hashed(key.format("A")) == hashed(key.format("B"))


def test_the_starter_sets_nothing_and_everything_it_shows_would_load(home: Home) -> None:
    assert problems(home, CONFIG) == []
    bare = Home(home.root / "none")
    assert load_settings(home, {}).redacted() == load_settings(bare, {}).redacted()
    shown = re.sub(r"(?m)^# (?=[a-z_]+: |providers:|agents:|schedules:|retention:|  )", "", CONFIG)
    assert "bind_addr: 127.0.0.1:18789" in shown.splitlines()[4]
    assert problems(home, shown, ANTHROPIC_API_KEY="k") == []
    settings = load_settings(home, {"ANTHROPIC_API_KEY": "k"})
    assert settings.chain() == ("claude", "local")
    assert list(settings.agents()) == ["default", "researcher"]
    assert settings.schedules[0].id == "morning"


def test_the_starter_pages_leave_a_soul_and_no_conventions(home: Home) -> None:
    home.soul.write_text(SOUL)
    home.conventions.write_text(AGENTS_NOTES)
    settings = load_settings(home, {})
    assert settings.agents()["default"].soul.startswith("You are goclaw")
    assert settings.conventions == ""


def test_a_problem_reads_as_one_line() -> None:
    assert str(Problem("config.yaml line 3", "a.b", "is wrong")) == "config.yaml line 3: a.b is wrong"
    assert str(Problem(".env", "", "is wrong")) == ".env: is wrong"


@pytest.mark.spec("GC-DATA-319")
def test_how_long_what_is_kept_is_read_with_forever_and_its_bounds(home: Home) -> None:
    page = "retention:\n  tasks: {days: forever, rows: 10}\n  sessions: {days: 30}\n  audit: {days: 0}\n"
    assert problems(home, page) == []
    rules = load_settings(home, {}).retention
    assert (rules.tasks.days, rules.tasks.rows, rules.sessions.days, rules.audit.days) == (0, 10, 30, 0)
    assert (rules.events.days, rules.audit.rows) == (90, 1_000_000)
    for wrong in ("-1", "36501", "soon", "1.5", "true"):
        assert problems(home, f"retention: {{tasks: {{days: {wrong}}}}}") != []
    assert "did you mean tasks" in str(problems(home, "retention: {task: {days: 1}}"))
