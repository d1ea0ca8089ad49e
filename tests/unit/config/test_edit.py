"""`config get` and `config set`."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goclaw.config.document import read_document
from goclaw.config.edit import edit_text, get_value, set_value
from goclaw.config.home import Home
from goclaw.config.load import load_settings
from goclaw.config.starter import CONFIG
from goclaw.errors import BadRequest, ConfigInvalid, HomeUnwritable


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.mark.spec("GC-CFG-012")
@pytest.mark.parametrize(
    ("before", "path", "value", "after"),
    [
        ("", "log_level", "debug", "log_level: debug\n"),
        ("# note\n", "a.b.c", 1, "# note\na:\n  b:\n    c: 1\n"),
        ("a: 1  # why\nb: 2\n", "a", 5, "a: 5  # why\nb: 2\n"),
        ("a: 'x' # why\n", "a", "two words", 'a: "two words" # why\n'),
        ("a: 1\n# last", "b", "true", 'a: 1\n# last\nb: "true"\n'),
        ("a:\n  b: 1\n  # about c\n\nd: 2\n", "a.c", 3, "a:\n  b: 1\n  c: 3\n  # about c\n\nd: 2\n"),
        ("a:\n    b:\n        c: 1\n", "a.b.d", 2, "a:\n    b:\n        c: 1\n        d: 2\n"),
        ("a:\n  b: [1,\n   2]\nd: 2\n", "a.c", 3, "a:\n  b: [1,\n   2]\n  c: 3\nd: 2\n"),
        ("a:\n  b: |\n    text\n\nd: 2\n", "a.c", 3, "a:\n  b: |\n    text\n\n  c: 3\nd: 2\n"),
        ("a:\n  - x: 1\n  - y\nd: 2\n", "e", 3, "a:\n  - x: 1\n  - y\nd: 2\ne: 3\n"),
        ("a: {}\n", "a.b.c", "x", 'a: {"b": {"c": "x"}}\n'),
        ("a: {b: 1, c: 2} # note\n", "a.c", 3, "a: {b: 1, c: 3} # note\n"),
        ("a: [1, 2]\n", "a", [], "a: []\n"),
        ("a:\nb: 1\n", "a", 7, "a: 7\nb: 1\n"),
        ("a: # later\nb: 1\n", "a.c", 7, "a: # later\n  c: 7\nb: 1\n"),
        ("a: 1\r\nb: 2\r\n", "a", 3, "a: 3\r\nb: 2\r\n"),
        ('a: "ü: \\u00e4"\nb: 1\n', "b", "é€", 'a: "ü: \\u00e4"\nb: "é€"\n'),
    ],
)
def test_one_value_changes_and_every_comment_stays(before: str, path: str, value: object, after: str) -> None:
    assert edit_text(before, tuple(path.split(".")), value) == after


@pytest.mark.spec("GC-CFG-012")
@pytest.mark.parametrize(
    ("text", "path", "why"),
    [
        ("a: |\n  text\n", "a", "a block of lines"),
        ("a:\n  - 1\n", "a", "takes several lines"),
        ("a:\n  b: 1\n", "a", "takes several lines"),
        ("a: {b: 1}\n", "a.c", "inside braces"),
        ("a: 1\n", "a.b", "a is not a mapping"),
        ("a: &x 1\nb: *x\n", "b", "anchors"),
        ("- a\n", "a", "not a mapping"),
        ("a: 1\na: 2\n", "a", "line 2: a is set twice; keep one; mend that first"),
        ("a: [\n", "a", "mend that first"),
    ],
)
def test_what_cannot_be_changed_safely_is_refused(text: str, path: str, why: str) -> None:
    with pytest.raises(ConfigInvalid, match=why):
        edit_text(text, tuple(path.split(".")), 5)


NAMES = st.sampled_from(["a", "b", "true", "1", "x y", "#", "ä:"])
TEXT = st.text(max_size=20)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**6), 10**6), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=8,
)


@given(
    st.lists(st.tuples(st.lists(NAMES, min_size=1, max_size=3), VALUES), max_size=4),
    st.sampled_from(["", CONFIG]),
)
def test_a_change_does_what_it_says_or_nothing(changes: list[tuple[list[str], object]], text: str) -> None:
    for path, value in changes:
        before = read_document(text).value or {}
        try:
            text = edit_text(text, tuple(path), value)
        except ConfigInvalid:
            continue
        after = read_document(text).value
        assert isinstance(before, dict)
        found = after
        for name in path:
            assert isinstance(found, dict)
            found = found[name]
        assert found == value
        assert isinstance(after, dict)
        assert {n: v for n, v in after.items() if n != path[0]} == {n: v for n, v in before.items() if n != path[0]}


def test_set_writes_what_load_reads(home: Home) -> None:
    home.config.write_text(CONFIG)
    home.config.chmod(0o640)
    assert not set_value(home, "worker_count", "3", {}).live
    assert set_value(home, "providers.p.kind", "offline", {}).live
    set_value(home, "providers.p.model", "1e5", {})
    set_value(home, "allowed_hosts", "[a, b]", {})
    settings = load_settings(home, {})
    assert (settings.worker_count, settings.allowed_hosts) == (3, ("a", "b"))
    assert settings.providers["p"].model == "1e5"
    assert home.config.read_text().startswith(CONFIG)
    assert stat.S_IMODE(home.config.stat().st_mode) == 0o640
    assert [path.name for path in home.root.iterdir()] == ["config.yaml"]


def test_set_makes_the_file_when_there_is_none(home: Home) -> None:
    set_value(home, "log_level", "DEBUG", {})
    assert load_settings(home, {}).log_level == "debug"
    assert stat.S_IMODE(home.config.stat().st_mode) == 0o600


@pytest.mark.spec("GC-CFG-012")
def test_an_invalid_result_is_not_written(home: Home) -> None:
    home.config.write_text("log_level: info\n")
    for name, word in (("worker_count", "0"), ("worker_count", "many"), ("agents.x.providers", "[nope]"),
                       ("providers.p.model", "m"), ("providers.p.api_key", "${NOPE}")):  # fmt: skip
        with pytest.raises(ConfigInvalid):
            set_value(home, name, word, {})
    assert home.config.read_text() == "log_level: info\n"


def test_a_file_that_is_wrong_elsewhere_says_so(home: Home) -> None:
    home.config.write_text("worker_count: 0\n")
    with pytest.raises(ConfigInvalid, match="worker_count is 0"):
        set_value(home, "log_level", "info", {})


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("log_levl", "did you mean log_level"),
        ("providers", "is a group"),
        ("providers.p", "is a group"),
        ("providers.p.modle", "did you mean model"),
        ("log_level.x", "goes deeper"),
        ("schedules.0.cron", "by hand"),
        ("schedules", "is a group"),
        ("a..b", "not a dotted name"),
        ("", "not a dotted name"),
    ],
)
def test_a_name_that_is_no_setting_is_refused(home: Home, name: str, why: str) -> None:
    with pytest.raises(BadRequest, match=why):
        set_value(home, name, "1", {})


def test_get_reads_dotted_names_and_hides_secrets(home: Home) -> None:
    home.config.write_text(
        "providers: {p: {kind: openai, api_key: secret-key}}\nschedules: [{id: s, kind: noop, every: 5s}]\n"
    )
    settings = load_settings(home, {})
    assert get_value(settings, "providers.p.api_key") == "********"
    assert get_value(settings, "worker_count") == 16
    assert get_value(settings, "schedules.0.every") == 5000
    assert get_value(settings, "providers")["p"]["kind"] == "openai"
    for name in ("nope", "providers.q", "worker_count.x", "schedules.1", ""):
        with pytest.raises(BadRequest):
            get_value(settings, name)


def test_a_link_stays_a_link(home: Home, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    real = tmp_path / "elsewhere" / "real.yaml"
    real.write_text("# mine\n")
    home.config.symlink_to(real)
    set_value(home, "log_level", "error", {})
    assert home.config.is_symlink()
    assert real.read_text() == "# mine\nlog_level: error\n"


def test_a_write_that_fails_leaves_the_old_file(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.config.write_text("log_level: info\n")

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("goclaw.config.files.os.fsync", full)
    with pytest.raises(HomeUnwritable, match=r"No space left.*unchanged"):
        set_value(home, "log_level", "debug", {})
    assert [path.name for path in home.root.iterdir()] == ["config.yaml"]
    assert home.config.read_text() == "log_level: info\n"
