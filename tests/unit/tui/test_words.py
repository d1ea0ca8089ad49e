"""Text made fit for the screen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goclaw.tui.words import call_text, clean, first_line, head, one_line, seconds, short_id, tail


@pytest.mark.spec("GC-TUI-013")
@given(st.text())
def test_nothing_that_steers_a_terminal_is_left(text: str) -> None:
    cleaned = clean(text)
    assert not any(ord(char) < 32 and char not in "\n\t" for char in cleaned)
    assert not any(0x7F <= ord(char) <= 0x9F or 0x202A <= ord(char) <= 0x202E for char in cleaned)
    cleaned.encode()


def test_joiners_of_emoji_and_line_breaks_stay() -> None:
    assert clean("\U0001f468\u200d\U0001f469 a\r\n\tb") == "\U0001f468\u200d\U0001f469 a\n\tb"


@given(st.text(), st.integers(2, 40))
def test_one_line_is_one_line_of_that_length(text: str, limit: int) -> None:
    line = one_line(text, limit)
    assert len(line) <= limit
    assert len(line.splitlines()) <= 1


def test_the_first_line_says_how_many_follow() -> None:
    assert first_line("\n  a  b\n\nc\n") == "a b (+1 line)"
    assert first_line("a\nb\nc") == "a (+2 lines)"
    assert first_line(" \n") == ""


def test_a_head_and_a_tail_say_what_is_missing() -> None:
    assert head("a\nb\n", 5, 100) == "a\nb"
    assert head("a\nb\nc", 1, 100) == "a\n\u2026 (4 more characters)"
    assert tail("abc", 3) == "abc"
    assert tail("abcdef", 2) == "(4 characters above are not shown)\n\u2026ef"


def test_a_call_is_written_as_a_person_would_type_it() -> None:
    assert call_text(None) == ""
    assert call_text({"file_path": "a b"}) == "a b"
    assert call_text({"pattern": "x", "path": "."}) == "pattern=x path=."
    assert call_text({"argv": ["wc", "a b"], "cwd": "/"}) == "wc 'a b' cwd=/"
    assert call_text({"n": 5}) == "5"


def test_durations_are_said_as_people_do() -> None:
    assert [seconds(ms) for ms in (-5, 999, 61_000, 3_720_000)] == ["0 s", "0 s", "1 min 01 s", "1 h 02 min"]


def test_a_long_id_is_known_by_its_beginning() -> None:
    assert short_id("abcdef", 4) == "abc\u2026"
    assert short_id("abcd", 4) == "abcd"
