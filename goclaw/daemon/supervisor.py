"""Long-lived parts are started again when they fail; the few that cannot be end the daemon in order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from goclaw.core.ports import Clock, Emit
from goclaw.errors import GoclawError
from goclaw.log import Log

FIRST_WAIT_MS = 1_000
LONGEST_WAIT_MS = 30_000
HEALTHY_MS = 60_000
"""A part that ran this long before it failed starts over with the short wait."""

Start = Callable[[], Awaitable[Any]]


class Supervisor:
    """Runs parts. A failure is logged, told as an event and followed by a restart after 1 s doubling to 30 s.

    `judge` sees every failure: it may find one that the daemon must not outlive.
    """

    def __init__(
        self,
        clock: Clock,
        log: Log,
        emit: Emit,
        give_up: Callable[[GoclawError], None],
        judge: Callable[[BaseException], None],
    ) -> None:
        self._clock = clock
        self._log = log
        self._emit = emit
        self._give_up = give_up
        self._judge = judge

    async def keep(self, name: str, start: Start) -> None:
        """Run `start()` for ever, until cancelled."""
        wait = FIRST_WAIT_MS
        while True:
            begun = self._clock.monotonic()
            try:
                await start()
                return
            except Exception as error:
                if self._clock.monotonic() - begun >= HEALTHY_MS:
                    wait = FIRST_WAIT_MS
                self._log.exception("part failed", error, part=name, restart_in_ms=wait)
                told = {"part": name, "error": type(error).__name__, "restart_in_ms": wait}
                self._emit("system.part_failed", told)
                self._judge(error)
            await self._clock.sleep(wait)
            wait = min(wait * 2, LONGEST_WAIT_MS)

    async def need(self, name: str, start: Start) -> None:
        """Run a part that nothing can go on without: when it fails, the daemon stops and the next start recovers."""
        try:
            await start()
        except Exception as error:
            self._log.exception("part failed", error, part=name)
            self._judge(error)
            self._give_up(GoclawError(f"{name} failed: {type(error).__name__}"))
