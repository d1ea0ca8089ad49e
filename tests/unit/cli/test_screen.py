"""What reaches the terminal."""

from __future__ import annotations

import io
import json

import pytest

from goclaw.cli import screen


@pytest.mark.spec("GC-RUN-101")
def test_json_is_one_line_whatever_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"text": "two\nlines \x1b[2J", "letters": "\u00e4\u20ac"}
    screen.data(value)
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert "\x1b" not in out
    assert json.loads(out) == value


def test_control_characters_become_visible_and_letters_stay() -> None:
    assert screen.safe("\x1b]0;title\x07 \u00e4\t1\n\u202e") == "\ufffd]0;title\ufffd \u00e4\t1\n\ufffd"


def test_a_table_keeps_its_columns_and_one_line_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    screen.table(("id", "note"), [("a", "two\nlines"), ("longer", None)])
    assert capsys.readouterr().out == "ID      NOTE\na       two lines\nlonger\n"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("no_color", "bold"), [("", True), ("1", False)])
def test_on_a_terminal_the_last_column_is_folded_and_colour_can_be_forbidden(
    monkeypatch: pytest.MonkeyPatch, no_color: str, bold: bool
) -> None:
    terminal = _Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", no_color)
    screen.table(("id", "note"), [("0123456789", "one two three four five six seven eight")])
    lines = terminal.getvalue().splitlines()
    assert ("\x1b[1m" in lines[0]) is bold
    assert lines[1:] == ["0123456789  one two three four five six", "            seven eight"]


def test_an_empty_table_is_its_header(capsys: pytest.CaptureFixture[str]) -> None:
    screen.table(("id", "note"), [])
    assert capsys.readouterr().out == "ID  NOTE\n"


def test_fields_leave_out_what_is_empty(capsys: pytest.CaptureFixture[str]) -> None:
    screen.fields({"id": "t", "error": None, "list": [], "number": 0, "flag": False})
    assert capsys.readouterr().out == "id      t\nnumber  0\nflag    false\n"


def test_short_is_one_line_of_a_limited_length() -> None:
    assert screen.short("a\n  b") == "a b"
    assert len(screen.short("x" * 500)) == screen.WIDE
    assert screen.short({"a": 1}) == '{"a": 1}'
