"""A clock that stands still until a test moves it: nothing that waits on it waits in real time."""

from __future__ import annotations

import asyncio
import heapq
import itertools

START = 1_789_948_800_000
"""Monday, 21 September 2026, midnight UTC."""


class FakeClock:
    """Both clocks of the `Clock` port. `advance` moves them together and ends the sleeps whose time has come;
    `set_wall` is a person or NTP setting the wall clock, which ends no sleep.

    A sleep counts monotonic time, as `asyncio.sleep` does. `wall` and `monotonic` may be read from any
    thread.
    """

    def __init__(self, wall: int = START, monotonic: int = 1_000_000) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._watchers: list[asyncio.Future[None]] = []
        self.asked: list[float] = []
        """Every duration that was asked of `sleep`, in milliseconds."""

    def wall(self) -> int:
        """Milliseconds since 1970 UTC, as last set."""
        return self._wall

    def monotonic(self) -> int:
        """Milliseconds that only `advance` moves."""
        return self._monotonic

    async def sleep(self, ms: float) -> None:
        """Wait until `advance` has moved the clock this far. Zero and less only gives way to other tasks."""
        self.asked.append(ms)
        if ms <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._monotonic + ms, next(self._order), future))
        self._tell_watchers()
        try:
            await future
        finally:
            self._sleepers = [sleeper for sleeper in self._sleepers if sleeper[2] is not future]
            heapq.heapify(self._sleepers)

    def advance(self, ms: int) -> None:
        """Let `ms` pass on both clocks. Who sleeps that long wakes up, in the order of the instants waited
        for, when the test awaits something next; what he does then sees the clock at the end of the step."""
        self._monotonic += ms
        self._wall += ms
        while self._sleepers and self._sleepers[0][0] <= self._monotonic:
            _, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                future.set_result(None)

    def set_wall(self, wall: int) -> None:
        """Set the wall clock, forward or back. The monotonic clock and all sleeps stay as they are."""
        self._wall = wall

    @property
    def sleepers(self) -> tuple[float, ...]:
        """The monotonic instants somebody sleeps until, earliest first."""
        return tuple(sorted(due for due, _, future in self._sleepers if not future.done()))

    async def asleep(self, count: int = 1) -> None:
        """Return when at least `count` sleeps are under way: the sign that a loop has nothing to do until its
        timer."""
        while len(self.sleepers) < count:
            watcher: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._watchers.append(watcher)
            await watcher

    def _tell_watchers(self) -> None:
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            if not watcher.done():
                watcher.set_result(None)
