"""What a line of input means."""

from __future__ import annotations

import pytest

from goclaw.tui.commands import COMMANDS, Command, Say, Slip, nearest, parse

TOOLS = {"read_file", "exec", "helper"}


@pytest.mark.spec("GC-TUI-012")
@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("hello", Say("hello")),
        ("  hello\nyou  ", Say("hello\nyou")),
        ("", None),
        (" \n", None),
        ("/agent coder", Command("agent", "coder")),
        ("/AGENTS", Command("agents")),
        ("/session  a:b ", Command("session", "a:b")),
        ("/exit", Command("quit")),
        ("/?", Command("help")),
        (" /help", Say("/help")),
        ("/read_file file_path=a.txt", Say("/read_file file_path=a.txt")),
        ("/read_file file_path=a\n/exec x=1", Say("/read_file file_path=a\n/exec x=1")),
        ("/unknown_skill", Say("/unknown_skill")),
        ("/helper", Say("/helper")),
        ("/helpr", Slip("helpr", "help")),
        ("/agnt coder", Slip("agnt", "agent")),
        ("/agnt name=coder", Say("/agnt name=coder")),
        ('/hepl {"a": 1}', Say('/hepl {"a": 1}')),
        ("/etc/hosts is what?", Say("/etc/hosts is what?")),
        ("/", Say("/")),
    ],
)
def test_a_line_means(text: str, meant: object) -> None:
    assert parse(text, TOOLS) == meant


def test_every_command_is_written_as_its_usage_says() -> None:
    for word, (usage, meaning) in COMMANDS.items():
        assert isinstance(parse(usage.split()[0]), Command)
        assert usage.startswith(f"/{word}")
        assert meaning


def test_the_nearest_name_is_found_whatever_its_case() -> None:
    assert nearest("CODR", ["default", "Coder"]) == "Coder"
    assert nearest("xyz", ["default"]) is None
