"""When unclean stops are a crash loop, and how long it is answered by waiting."""

from __future__ import annotations

import pytest

from goclaw.core.starts import LONGEST_HOLD_MS, WINDOW_MS, judge

NOW = 10_000_000


@pytest.mark.spec("GC-REL-211")
@pytest.mark.parametrize(
    ("stops", "looping", "hold"),
    [
        ([], False, 0),
        ([NOW], False, 0),
        ([NOW - 5, NOW], False, 0),
        ([NOW - 9, NOW - 5, NOW], True, 10_000),
        ([NOW - 9] * 3 + [NOW], True, 20_000),
        ([NOW - 9] * 5 + [NOW], True, 80_000),
        ([NOW - 9] * 19 + [NOW], True, LONGEST_HOLD_MS),
    ],
)
def test_from_the_third_on_it_is_a_loop_and_the_wait_doubles_to_a_bound(
    stops: list[int], looping: bool, hold: int
) -> None:
    starts = judge(stops, NOW, 10_000)
    assert (starts.looping, starts.hold_ms, starts.held_until) == (looping, hold, NOW + hold)


@pytest.mark.spec("GC-REL-213")
def test_what_is_older_than_the_window_or_lies_ahead_does_not_count() -> None:
    starts = judge([NOW - WINDOW_MS, NOW - WINDOW_MS + 1, NOW, NOW + 1], NOW, 10_000)
    assert (len(starts.recent), starts.looping) == (2, False)


def test_no_delay_at_all_can_be_asked_for() -> None:
    starts = judge([NOW] * 5, NOW, 0)
    assert (starts.looping, starts.hold_ms) == (True, 0), "it is said all the same"
    assert starts.as_json()["crash_loop"] is True
