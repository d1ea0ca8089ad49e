"""What the command line prints: data to stdout, talk to stderr, tables for people, JSON for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from shutil import get_terminal_size
from textwrap import wrap
from typing import Any

WIDE = 60
GAP = "  "
NARROWEST = 24
"""A last column that would be narrower is not folded; the terminal breaks its lines."""
_KEPT = frozenset("\n\t")


def data(value: Any) -> None:
    """One JSON document on one line of stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def text(words: str) -> None:
    """A line of data for people."""
    sys.stdout.write(safe(words) + "\n")
    sys.stdout.flush()


def say(words: str) -> None:
    """Talk: to stderr."""
    sys.stderr.write(safe(words) + "\n")
    sys.stderr.flush()


def talkative() -> bool:
    """Whether progress is worth telling: only to somebody who sits there."""
    return sys.stderr.isatty()


def safe(words: str) -> str:
    """Without control characters: what a model or a tool wrote must not steer the terminal."""
    return "".join(char if char.isprintable() or char in _KEPT else "\ufffd" for char in words)


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Rows for people, in aligned columns. On a terminal the last column is folded to its width; ids stay whole."""
    lines = [[name.upper() for name in columns], *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(columns) - 1)]
    left = sum(widths) + len(GAP) * len(widths)
    room = _width() - left if sys.stdout.isatty() else 0
    for number, line in enumerate(lines):
        head = "".join(cell.ljust(width) + GAP for cell, width in zip(line, widths, strict=False))
        first, *more = wrap(line[-1], room) or [""] if room >= NARROWEST else [line[-1]]
        sys.stdout.write(_styled((head + first).rstrip(), number == 0) + "\n")
        sys.stdout.writelines(" " * left + part + "\n" for part in more)
    sys.stdout.flush()


def fields(value: Mapping[str, Any]) -> None:
    """One object for people, a field a line; times as local time, what is empty left out."""
    shown = {name: one for name, one in value.items() if one not in (None, "", [], {})}
    width = max((len(name) for name in shown), default=0)
    for name, one in shown.items():
        if name.endswith("_at") and isinstance(one, int):
            one = moment(one)
        told = one if isinstance(one, str) else json.dumps(one, ensure_ascii=False)
        sys.stdout.write(f"{name.ljust(width)}  {safe(told)}\n")
    sys.stdout.flush()


def moment(ms: Any) -> str:
    """Milliseconds since 1970 UTC as local time; empty for None."""
    if not isinstance(ms, int):
        return ""
    local = datetime.fromtimestamp(ms / 1000, tz=UTC).astimezone()
    return local.strftime("%Y-%m-%d %H:%M:%S")


def short(value: Any, limit: int = WIDE) -> str:
    """One line of at most `limit` characters."""
    words = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    words = " ".join(words.split())
    return words if len(words) <= limit else words[: limit - 1] + "\u2026"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return safe(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).replace("\n", " ")


def _styled(line: str, is_header: bool) -> str:
    """The header in bold, where somebody looks who did not forbid it."""
    bold = is_header and sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return f"\x1b[1m{line}\x1b[0m" if bold else line


def _width() -> int:
    return get_terminal_size().columns
