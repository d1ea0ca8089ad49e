"""The entry point loads nothing that it does not need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from goclaw import __version__
from tests.unit.cli.conftest import Goclaw

SHOW = "print([n for n in sys.modules if n.partition('.')[0] in ('goclaw', 'typer', 'asyncio', 'yaml')])"
DAEMON = """
import types
daemon = sys.modules["goclaw.daemon"] = types.ModuleType("goclaw.daemon")
daemon.serve = lambda home, bind, human=False: print(home, bind) or 7
"""


def _loaded(arguments: list[str], before: str = "") -> tuple[int, str, list[str]]:
    code = (
        f"import sys; sys.argv = ['goclaw', *{arguments!r}]\n{before}\nfrom goclaw.__main__ import main\nc = main()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", f"{code}{SHOW}\nsys.exit(c)"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    first, _, last = ended.stdout.rstrip().rpartition("\n")
    return ended.returncode, first, eval(last)  # noqa: S307 - a list that the line above printed


@pytest.mark.spec("GC-PERF-102")
def test_the_version_is_answered_before_anything_is_loaded() -> None:
    assert _loaded(["--version"]) == (0, f"goclaw {__version__}", ["goclaw", "goclaw.__main__"])


@pytest.mark.spec("GC-PERF-103")
def test_serve_is_dispatched_without_the_parser_of_the_command_line() -> None:
    code, out, loaded = _loaded(["serve", "--bind", "127.0.0.1:0"], DAEMON)
    assert (code, out) == (7, "None 127.0.0.1:0")
    assert "typer" not in loaded
    assert "goclaw.cli.app" not in loaded


def test_alone_without_a_terminal_it_serves() -> None:
    code, out, _ = _loaded([], DAEMON)
    assert (code, out) == (7, "None None")


async def test_the_chat_without_a_terminal_is_a_usage_error_and_starts_nothing(goclaw: Goclaw, home: Path) -> None:
    ended = await goclaw("tui")
    assert (ended.code, "goclaw ask" in ended.err) == (2, True)
    assert not (home / "logs").exists()
