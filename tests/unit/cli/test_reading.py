"""What people type, as values."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from goclaw.cli.reading import json_value, moment_of, since, span_of
from goclaw.errors import BadRequest

NOW = 1_789_948_800_000


@pytest.mark.parametrize(
    ("word", "ms"),
    [("500ms", 500), ("90s", 90_000), ("15m", 900_000), ("6h", 21_600_000), ("1d", 86_400_000)],
)
def test_a_span_has_a_unit(word: str, ms: int) -> None:
    assert span_of(word, "--every") == ms
    assert since(word, NOW) == NOW - ms


@pytest.mark.parametrize("word", ["", "5", "s", "1.5h", "-3s", "1w"])
def test_what_is_no_span_is_refused(word: str) -> None:
    with pytest.raises(BadRequest, match="--every"):
        span_of(word, "--every")


def test_a_moment_is_milliseconds_or_a_date() -> None:
    assert moment_of("1789948800000") == NOW
    assert moment_of("2026-09-21T00:00:00+00:00") == NOW
    local = datetime.fromtimestamp(NOW / 1000, tz=UTC).astimezone().replace(tzinfo=None)
    assert moment_of(local.isoformat()) == NOW
    assert since(None, NOW) is None


@pytest.mark.parametrize("word", ["yesterday", "2026-13-01", "9" * 20 + "x"])
def test_what_is_no_moment_is_refused(word: str) -> None:
    with pytest.raises(BadRequest, match="no moment"):
        moment_of(word)


@pytest.mark.parametrize("word", ["NaN", "[Infinity]", "{", "[" * 100_000])
def test_what_is_not_json_is_refused(word: str) -> None:
    with pytest.raises(BadRequest, match="--payload"):
        json_value(word, "--payload")
