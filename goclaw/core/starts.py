"""A daemon that keeps dying: seen at its start, said, and answered by waiting with what may have killed it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

WINDOW_MS = 600_000
"""How far back unclean stops count; also how long a start must last until the loop counts as over."""
LOOP_STOPS = 3
LONGEST_HOLD_MS = 300_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Starts:
    """How the last starts went. `hold_ms` is how long schedules and tasks with deaths wait after this start; 0 when
    the daemon does not keep dying."""

    at: int
    recent: tuple[int, ...]
    hold_ms: int

    @property
    def looping(self) -> bool:
        """Whether it keeps dying."""
        return len(self.recent) >= LOOP_STOPS

    @property
    def held_until(self) -> int:
        """When what waits goes on, in milliseconds since 1970 UTC."""
        return self.at + self.hold_ms

    def as_json(self) -> dict[str, Any]:
        """As events, status and the log show it."""
        return {
            "crash_loop": self.looping,
            "unclean_stops": len(self.recent),
            "window_ms": WINDOW_MS,
            "hold_ms": self.hold_ms,
            "held_until": self.held_until,
        }


def judge(unclean_stops: Sequence[int], now: int, first_hold_ms: int) -> Starts:
    """What unclean stops, as the instants of the starts that found them, say about a start at `now`.

    From the third within ten minutes on it is a crash loop, and the wait is `first_hold_ms`, doubled with every
    further one, at most five minutes.
    """
    recent = tuple(stop for stop in unclean_stops if now - WINDOW_MS < stop <= now)
    beyond = len(recent) - LOOP_STOPS
    hold = 0 if beyond < 0 else min(LONGEST_HOLD_MS, first_hold_ms * 2 ** min(beyond, 16))
    return Starts(at=now, recent=recent, hold_ms=hold)
