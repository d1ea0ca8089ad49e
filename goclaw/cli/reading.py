"""What people type, as values: JSON arguments, points in time, durations."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from goclaw.errors import BadRequest

_SPAN = re.compile(r"(\d+)(ms|s|m|h|d)")
_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def json_object(word: str, name: str) -> Mapping[str, Any]:
    """A JSON object from the word itself, from @file, or from stdin for `-`. Raises BadRequest."""
    value = json_value(word, name)
    if not isinstance(value, dict):
        raise BadRequest(f"{name} is a JSON object such as '{{\"key\": 1}}'")
    return value


def json_value(word: str, name: str) -> Any:
    """Any JSON value, in the same ways. Raises BadRequest."""
    try:
        return json.loads(_source(word, name), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"{name} is not valid JSON: {error}") from None


def milliseconds(seconds: float | None) -> int | None:
    """Seconds as the wire takes them."""
    return None if seconds is None else round(seconds * 1000)


def since(word: str | None, now: int) -> int | None:
    """A moment that is past: `90s`, `2h` or `3d` ago, or as `moment_of`. Raises BadRequest."""
    if word is None:
        return None
    return now - span_of(word, "--since") if _SPAN.fullmatch(word) else moment_of(word)


def moment_of(word: str) -> int:
    """Milliseconds since 1970, or an ISO date (local time where it names no zone). Raises BadRequest."""
    if word.isdecimal():
        return int(word)
    try:
        return round(datetime.fromisoformat(word).astimezone().timestamp() * 1000)
    except (ValueError, OverflowError):
        raise BadRequest(f"{word!r} is no moment; write 2026-01-31T08:00 or milliseconds since 1970") from None


def span_of(word: str, name: str) -> int:
    """A duration such as 500ms, 90s, 15m, 6h or 1d, in milliseconds. Raises BadRequest."""
    span = _SPAN.fullmatch(word)
    if span is None:
        raise BadRequest(f"{name}: {word!r} is no duration; write 90s, 15m, 6h or 1d")
    return int(span[1]) * _UNIT_MS[span[2]]


def _source(word: str, name: str) -> str:
    if word == "-":
        return sys.stdin.read()
    if not word.startswith("@"):
        return word
    try:
        return Path(word[1:]).read_text("utf-8")
    except OSError as error:
        raise BadRequest(f"{name}: {word[1:]}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadRequest(f"{name}: {word[1:]} is not UTF-8 text") from None


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
