"""`serve` is parsed by hand; it must be as strict as the rest."""

from __future__ import annotations

import pytest

from goclaw.cli.foreground import parse, serve


def test_values_may_stand_behind_an_equals_sign_or_a_blank() -> None:
    assert parse(["--bind", "127.0.0.1:0", "--home=/x", "--json"]) == {
        "--bind": "127.0.0.1:0",
        "--home": "/x",
        "--json": "",
    }


@pytest.mark.spec("GC-RUN-104")
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--bnd", "x"], "the nearest is --bind"),
        (["now"], "unknown word 'now'"),
        (["--home"], "--home needs a value"),
        (["--home", "--json"], "--home needs a value"),
        (["--home="], "--home needs a value"),
        (["--json=yes"], "--json takes no value"),
    ],
)
def test_a_wrong_word_is_a_usage_error(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert serve(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert told in err


def test_help_goes_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert serve(["-h"]) == 0
    assert "--bind HOST:PORT" in capsys.readouterr().out
