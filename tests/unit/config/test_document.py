"""YAML text becomes values that know their lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goclaw.config.document import MAX_BYTES, plain_scalar, read_document


def flaws(text: str) -> list[str]:
    return [flaw.message for flaw in read_document(text).flaws]


def test_an_empty_text_and_one_of_comments_say_nothing() -> None:
    assert read_document("").value is None
    assert read_document("# a: 1\n").value is None


def test_scalars_follow_yaml_1_2() -> None:
    text = "{a: no, b: on, c: 12:30, d: 2026-01-01, e: true, f: 1_000, g: 1.5, h: ~, i: '5', j: 0x10, k: 1e3}"
    assert read_document(text).value == {
        "a": "no", "b": "on", "c": "12:30", "d": "2026-01-01", "e": True, "f": 1000, "g": 1.5, "h": None,
        "i": "5", "j": "0x10", "k": 1000.0,
    }  # fmt: skip


def test_every_value_knows_its_line() -> None:
    document = read_document("a: 1\nb:\n  c:\n    - x\n    - y: 2\n")
    assert document.value == {"a": 1, "b": {"c": ["x", {"y": 2}]}}
    assert document.line(("b", "c", 1, "y")) == 5
    assert document.line(("b", "c", 0)) == 4
    assert document.line(("b", "missing")) == 2
    assert document.line(("missing",)) == 0


@pytest.mark.spec("GC-CFG-006")
def test_a_key_that_stands_twice_is_a_flaw_at_its_second_line() -> None:
    document = read_document("a:\n  b: 1\n  c: 1\n  b: 2\n")
    assert [(flaw.path, flaw.line) for flaw in document.flaws] == [(("a", "b"), 4)]


def test_keys_are_text_whatever_they_look_like() -> None:
    assert read_document("1: a\ntrue: b\n").value == {"1": "a", "true": "b"}


def test_what_is_not_plain_settings_is_refused() -> None:
    assert flaws("a: !!python/name:os.system x") == [
        "has the tag tag:yaml.org,2002:python/name:os.system; tags are not used here"
    ]
    assert flaws("a: 1\n---\nb: 2\n") == ["holds a second document; only one is read"]
    assert flaws("? [a]\n: 1\n") == ["has a key that is not plain text"]
    assert flaws("? *a\n: 1\n")
    assert "not valid YAML" in flaws("a: [1\n")[0]
    assert "not valid YAML" in flaws("a: \x01\n")[0]
    assert "not valid YAML" in flaws("a: \ud800\n")[0]


def test_anchors_are_read_and_their_growth_is_bounded() -> None:
    assert read_document("a: &x [1, 2]\nb: *x\n").value == {"a": [1, 2], "b": [1, 2]}
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{f'*a{n - 1}, ' * 9}1]\n" for n in range(1, 30))
    assert flaws(bomb) == ["holds more than 100000 values"]
    assert "names no value" in flaws("a: &a [*a]\n")[0]


def test_depth_and_size_are_bounded() -> None:
    assert flaws("[" * 10_000) == ["is nested deeper than 64 levels"]
    assert flaws("#" * (MAX_BYTES + 1)) == [f"is larger than {MAX_BYTES} bytes"]


@given(st.text())
def test_no_text_makes_it_raise(text: str) -> None:
    read_document(text)
    plain_scalar(text)
