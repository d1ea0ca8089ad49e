"""What the command line prints: data to stdout, talk to stderr, tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

WIDE = 60
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
    """Rows for people; plain aligned columns when stdout is no terminal."""
    cells = [[_cell(value) for value in row] for row in rows]
    if sys.stdout.isatty():
        _rich_table(columns, cells)
        return
    widths = [max(len(line[at]) for line in [list(columns), *cells]) for at in range(len(columns))]
    for line in [[name.upper() for name in columns], *cells]:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        sys.stdout.write("  ".join(padded).rstrip() + "\n")
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


def _rich_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        shown.add_column(name, overflow="fold")
    for row in rows:
        shown.add_row(*(Text(cell) for cell in row))
    Console(highlight=False).print(shown)
