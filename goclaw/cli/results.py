"""The end of a task that was one call: its text to stdout, why it failed to stderr."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from goclaw.cli import exits, screen


def show_result(task: Mapping[str, Any], as_json: bool) -> int:
    """Show a terminal task; the exit code."""
    code = exits.of_task(task)
    if as_json:
        screen.data(task)
        return code
    if words := result_text(task):
        screen.text(words)
    if code != exits.OK:
        screen.say(f"goclaw: {why(task)}")
    return code


def result_text(task: Mapping[str, Any]) -> str:
    """What a task answered, as text: the answer of a turn, the output of a tool."""
    result = task.get("result")
    if isinstance(result, Mapping):
        return str(result.get("text") or "")
    return "" if result is None else str(result)


def why(task: Mapping[str, Any]) -> str:
    """Why a task did not succeed, in one line."""
    return f"{task.get('error') or task['state']} ({task.get('error_code') or task['state']})"
