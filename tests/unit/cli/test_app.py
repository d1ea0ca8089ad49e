"""The root: unknown words, and how every ending leaves one line and a code."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from goclaw import __version__
from goclaw.cli import app as root
from goclaw.errors import NotFound
from tests.unit.cli.conftest import Goclaw


@pytest.mark.spec("GC-RUN-104")
@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        (["taks"], "task"),
        (["sttaus"], "status"),
        (["task", "sumbit"], "submit"),
        (["zzz"], ""),
        (["cron", "ad"], "add"),
    ],
)
async def test_an_unknown_word_is_a_usage_error_that_names_the_nearest(
    goclaw: Goclaw, words: list[str], nearest: str
) -> None:
    ended = await goclaw(*words)
    assert ended.code == 2
    assert ended.out == ""
    assert f"the nearest is '{nearest}" in ended.err


@pytest.mark.spec("GC-RUN-104")
async def test_an_unknown_option_is_a_usage_error_that_names_the_nearest(goclaw: Goclaw) -> None:
    ended = await goclaw("task", "list", "--limt", "3")
    assert ended.code == 2
    assert "--limit" in ended.err


def test_the_users_page_names_every_word() -> None:
    page = Path(__file__).parents[3] / "docs" / "cli.md"
    text = page.read_text()
    assert [word for word in root.WORDS if f"goclaw {word}" not in text] == []


@pytest.mark.parametrize("word", root.WORDS)
async def test_every_word_has_a_help_that_goes_to_stdout(goclaw: Goclaw, word: str) -> None:
    ended = await goclaw(word, "--help")
    assert ended.code == 0
    assert word in ended.out


async def test_the_help_of_the_root_names_every_word(goclaw: Goclaw) -> None:
    ended = await goclaw("--help")
    assert ended.code == 0
    assert all(f"  {word} " in ended.out for word in root.WORDS)


async def test_a_group_without_a_command_is_a_usage_error(goclaw: Goclaw) -> None:
    for word in ("task", "audit"):
        assert (await goclaw(word)).code == 2


async def test_the_version_is_told_behind_options_too(goclaw: Goclaw) -> None:
    ended = await goclaw("--home", "/nowhere", "--version")
    assert (ended.code, ended.out) == (0, f"goclaw {__version__}\n")


@pytest.mark.spec("GC-RUN-105")
@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (RuntimeError("several\nlines"), 1, "goclaw: RuntimeError: several lines\n"),
        (NotFound("there is no such thing"), 6, "goclaw: there is no such thing\n"),
        (ExceptionGroup("group", [NotFound("inside")]), 6, "goclaw: inside\n"),
        (OSError(5, "broken"), 1, "goclaw: OSError: [Errno 5] broken\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
async def test_an_error_is_one_line_and_never_a_traceback(
    goclaw: Goclaw, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, line: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(importlib.import_module("goclaw.cli.place").Place, "call", fail)
    ended = await goclaw("status")
    assert (ended.code, ended.err, ended.out) == (code, line, "")


async def test_without_a_daemon_the_exit_code_is_3_and_says_how_to_start_one(goclaw: Goclaw) -> None:
    ended = await goclaw("status")
    assert ended.code == 3
    assert "goclaw daemon start" in ended.err
