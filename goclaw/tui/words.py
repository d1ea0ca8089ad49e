"""Text made fit for the screen: nothing in it steers the terminal, and it is no longer than its place."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from typing import Any

_STEERING = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, marks that turn the direction of writing, halves of characters. Joiners of emoji stay.
"""
REPLACED = "\ufffd"
CUT = "\u2026"


def clean(text: str) -> str:
    """`text` without characters that move the cursor, ring, hide or reorder what is shown."""
    return _STEERING.sub(REPLACED, text.replace("\r", ""))


def one_line(text: str, limit: int = 120) -> str:
    """`text` on one line of at most `limit` characters, its white space collapsed."""
    words = " ".join(clean(text[: limit * 8]).split())
    return words if len(words) <= limit else words[: limit - 1].rstrip() + CUT


def first_line(text: str, limit: int = 120) -> str:
    """The first line that says something, and how many lines follow it."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return ""
    more = f" (+{len(lines) - 1} lines)" if len(lines) > 2 else " (+1 line)" if len(lines) == 2 else ""
    return one_line(lines[0], limit) + more


def head(text: str, lines: int, chars: int) -> str:
    """The beginning of `text`, and a line that says how much more there is."""
    kept = "\n".join(text[:chars].splitlines()[:lines])
    left = len(text) - len(kept)
    return clean(kept) if left <= 1 else f"{clean(kept)}\n{CUT} ({left:,} more characters)"


def tail(text: str, chars: int) -> str:
    """The end of `text`, below a line that says how much stands above it."""
    left = len(text) - chars
    return text if left <= 0 else f"({left:,} characters above are not shown)\n{CUT}{text[-chars:]}"


def call_text(arguments: Mapping[str, Any] | None) -> str:
    """What a tool is called with, as a person would type it: a program with its words, else name=value."""
    if not arguments:
        return ""
    argv = arguments.get("argv")
    if isinstance(argv, list):
        rest = {name: value for name, value in arguments.items() if name != "argv"}
        return f"{one_line(shlex.join(str(word) for word in argv), 200)} {_pairs(rest)}".rstrip()
    if len(arguments) == 1:
        return _value(next(iter(arguments.values())))
    return _pairs(arguments)


def seconds(ms: int) -> str:
    """A duration as people say it: `7 s`, `2 min 05 s`, `1 h 02 min`."""
    whole = max(ms, 0) // 1000
    minutes, rest = divmod(whole, 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours} h {minutes_left:02} min" if hours else f"{minutes} min {rest:02} s"


def short_id(name: str, limit: int = 16) -> str:
    """A long id by its beginning."""
    return name if len(name) <= limit else name[: limit - 1] + CUT


def _pairs(arguments: Mapping[str, Any]) -> str:
    return " ".join(f"{clean(name)}={_value(value)}" for name, value in arguments.items())


def _value(value: Any) -> str:
    words = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return one_line(words, 60)
