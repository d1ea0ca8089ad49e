"""The disk under the home: what goes on while it is full, and that everybody can see it.

New work is refused, queued work waits and schedules stand still, so that what room the store has left is for what
ends things: settling, cancelling, stopping. Reading needs no room. Nothing here looks at the disk while nothing is
written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from goclaw.core.access import Access, Decision
from goclaw.core.agent import Agent
from goclaw.core.ports import Authorize, Clock, Emit
from goclaw.db.room import free_bytes
from goclaw.errors import StoreFull
from goclaw.log import Log
from goclaw.telemetry import Metrics

RETRY_AFTER_MS = 5_000
GLANCE_MS = 1_000
"""How often the free space is compared with its mark while something is written."""
AMPLE = 1.25
"""A disk that was low counts as ample again at this multiple of the mark, so that it is not told back and forth."""

ENDING = frozenset(
    {
        "task.cancel",
        "agent.abort",
        "session.end",
        "session.purge",
        "cron.disable",
        "cron.remove",
        "system.pause",
        "system.resume",
        "backup.create",
    }
)
"""What a client may still do on a full disk: end work, give room back, or save what is there to another disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """The disk as it is now. `full_since` is in milliseconds since 1970 UTC; `free` is None where it cannot be told."""

    free: int | None
    low_mark: int
    full_since: int | None

    @property
    def state(self) -> str:
        """`full`, `low` or `ample`."""
        if self.full_since is not None:
            return "full"
        return "low" if self.free is not None and self.free < self.low_mark else "ample"

    def as_json(self) -> dict[str, Any]:
        """As `system.status` and `/readyz` show it."""
        shown = {"state": self.state, "free_bytes": self.free, "low_bytes": self.low_mark}
        return shown if self.full_since is None else shown | {"full_since": self.full_since}


class Storage:
    """The disk under one home. `told` is called with what the store meets; `low_mark` is the setting in bytes."""

    def __init__(self, folder: Path, clock: Clock, log: Log, metrics: Metrics, low_mark: Callable[[], int]) -> None:
        self._folder = folder
        self._clock = clock
        self._log = log
        self._low_mark = low_mark
        self._emit: Emit | None = None
        self._room = asyncio.Event()
        self._room.set()
        self._full = asyncio.Event()
        self._full_since: int | None = None
        self._low = False
        self._next_glance = 0
        self._listeners: list[Callable[[], None]] = []
        self._refused = metrics.counter("goclaw_storage_refused_total", "Requests refused on a full disk.")

    def open(self, emit: Emit) -> None:
        """From now on changes are told as events too; also the present state, where it is not ample."""
        self._emit = emit
        if self._full_since is not None:
            self._tell("storage.full")
        self.look()

    def listen(self, room: Callable[[], None]) -> None:
        """Call `room` whenever there is room again."""
        self._listeners.append(room)

    @property
    def now(self) -> Space:
        """The disk as it is now: one call to the system."""
        return Space(free=free_bytes(self._folder), low_mark=self._low_mark(), full_since=self._full_since)

    def told(self, full: bool) -> None:
        """The store has met a full disk, or has found room again."""
        if full and self._full_since is None:
            self._full_since = self._clock.wall()
            self._room.clear()
            self._full.set()
            self._log.error("disk full", advice="free some space; new work is refused until then", **_bytes(self.now))
            self._tell("storage.full")
        elif not full and self._full_since is not None:
            since, self._full_since = self._full_since, None
            self._full.clear()
            self._room.set()
            self._log.warning("disk has room again", full_ms=self._clock.wall() - since, **_bytes(self.now))
            self._tell("storage.room", full_ms=self._clock.wall() - since)
            for listener in self._listeners:
                listener()
        self.look()

    def glance(self) -> None:
        """After a commit: look, unless that was done within a second."""
        now = self._clock.monotonic()
        if now >= self._next_glance:
            self._next_glance = now + GLANCE_MS
            self.look()

    def look(self) -> None:
        """Tell when the free space has come below its mark, or risen well above it again."""
        now = self.now
        if now.free is None or now.full_since is not None:
            return
        if not self._low and now.free < now.low_mark:
            self._low = True
            self._log.warning("disk low", advice="free some space: a full disk stops all intake", **_bytes(now))
            self._tell("storage.low")
        elif self._low and now.free >= now.low_mark * AMPLE:
            self._low = False
            self._tell("storage.ample")

    def door(self, authorize: Authorize) -> Authorize:
        """`authorize`, but on a full disk a client that would change something is refused with StoreFull."""

        def guarded(access: Access, *, pinned: str | None = None, task_id: str | None = None) -> Decision:
            if self._full_since is not None and _starts_something(access):
                self._refused.add()
                raise StoreFull(since=self._full_since, retry_after_ms=RETRY_AFTER_MS)
            return authorize(access, pinned=pinned, task_id=task_id)

        return guarded

    def lanes(self, agents: Mapping[str, Agent]) -> Mapping[str, Agent]:
        """The agents with the workers they may use: none on a full disk, where a task that ends is not followed by
        another."""
        if self._full_since is None:
            return agents
        return {name: replace(agent, worker_count=0) for name, agent in agents.items()}

    async def while_room(self, start: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `start()` while there is room: cancelled when the disk is full, started again when it is not."""
        while True:
            await self._room.wait()
            if await self._run_until_full(start):
                return

    async def _run_until_full(self, start: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """True when it ended by itself."""
        try:
            async with asyncio.TaskGroup() as group:
                running = group.create_task(start())
                full = group.create_task(self._full.wait())
                await asyncio.wait((running, full), return_when=asyncio.FIRST_COMPLETED)
                running.cancel()
                full.cancel()
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return not running.cancelled()

    def _tell(self, event_type: str, **more: Any) -> None:
        if self._emit is not None:
            self._emit(event_type, {**_bytes(self.now), **more})


def _starts_something(access: Access) -> bool:
    return access.subject == "client" and access.capability != "acp.read" and access.resource not in ENDING


def _bytes(space: Space) -> dict[str, Any]:
    return {"free_bytes": space.free, "low_bytes": space.low_mark}
