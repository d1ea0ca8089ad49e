"""The little language of the offline provider: `/tool key=value ...` or `/tool {json}`, one directive a line.
Pure.
"""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from goclaw.brain.providers.reading import parse_json
from goclaw.core.chat import ToolSpec

DIRECTIVES_LIMIT = 32


class DirectiveError(ValueError):
    """A directive that cannot be run; the message is for the user."""


@dataclass(frozen=True, slots=True)
class Directive:
    """One line of the prompt: the tool, its arguments, and the line as it was typed."""

    line: str
    tool: str
    arguments: Mapping[str, Any]


def parse_directives(prompt: str, tools: Sequence[ToolSpec]) -> tuple[Directive, ...]:
    """The directives of a prompt; none where its first line is not one.

    Once the first line is a directive all must be. Raises DirectiveError, which names the nearest tool and
    all tools.
    """
    lines = [line.strip() for line in prompt.splitlines() if line.strip()]
    if not lines or not lines[0].startswith("/"):
        return ()
    if len(lines) > DIRECTIVES_LIMIT:
        raise DirectiveError(f"{len(lines)} directives in one prompt; at most {DIRECTIVES_LIMIT} are run together.")
    return tuple(_directive(line, tools) for line in lines)


def _directive(line: str, tools: Sequence[ToolSpec]) -> Directive:
    word, _, rest = line.partition(" ")
    if not word.startswith("/"):
        raise DirectiveError(f"This line is not a directive: {line}\nWrite /tool key=value ... or /tool {{json}}.")
    tool = next((tool for tool in tools if tool.name == word[1:]), None)
    if tool is None:
        raise DirectiveError(_unknown(word[1:], [tool.name for tool in tools]))
    rest = rest.strip()
    arguments = _object(line, rest) if rest.startswith("{") else _pairs(line, rest, tool)
    return Directive(line, tool.name, arguments)


def _object(line: str, text: str) -> Mapping[str, Any]:
    try:
        value = parse_json(text)
    except ValueError as error:
        raise DirectiveError(f"The arguments are not valid JSON ({error}): {line}") from None
    if not isinstance(value, dict):
        raise DirectiveError(f"The arguments are not a JSON object: {line}")
    return value


def _pairs(line: str, text: str, tool: ToolSpec) -> Mapping[str, Any]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise DirectiveError(f"The quotes do not match ({error}): {line}") from None
    arguments: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            hint = f"Write /{tool.name} key=value ... or /{tool.name} {{json}}."
            raise DirectiveError(f"'{word}' is not key=value: {line}\n{hint}")
        if key in arguments:
            raise DirectiveError(f"'{key}' is given twice: {line}")
        arguments[key] = _value(value, _declared(tool, key))
    return arguments


def _value(text: str, declared: object) -> Any:
    """JSON where it is a number, a truth value, null, a list or an object; text otherwise, and where text is
    asked.
    """
    if declared == "string":
        return text
    try:
        value = parse_json(text)
    except ValueError:
        return text
    return text if isinstance(value, str) else value


def _declared(tool: ToolSpec, key: str) -> object:
    properties = tool.parameters.get("properties")
    schema = properties.get(key) if isinstance(properties, Mapping) else None
    return schema.get("type") if isinstance(schema, Mapping) else None


def _unknown(name: str, tools: Sequence[str]) -> str:
    if not tools:
        return f"There is no tool '{name}': this agent has no tools."
    near = difflib.get_close_matches(name, tools, n=1, cutoff=0.5)
    guess = f" Did you mean {near[0]}?" if near else ""
    return f"There is no tool '{name}'.{guess} Tools: {', '.join(sorted(tools))}."
