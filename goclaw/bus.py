"""The doorbell: who waits for events is woken after each commit; what happened is read from the log.

The bus keeps a ring of recent events so that many readers of the same news cost one read of the table. A reader is a
cursor: it asks for what lies behind it, at its own pace, and nobody waits for it. Deltas pass through without being
stored; a reader that is slow loses deltas, never events.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import islice

from goclaw.core.event import Delta, Event

RING = 8_192
PAGE = 1_000
DELTAS = 1_024

Read = Callable[[int, int], Awaitable[list[Event]]]


class Subscription:
    """One reader: a bell and a bounded queue of deltas."""

    def __init__(self, wants_deltas: Callable[[Delta], bool]) -> None:
        self._wants = wants_deltas
        self._bell = asyncio.Event()
        self._resting = asyncio.Event()
        self.deltas: deque[Delta] = deque(maxlen=DELTAS)

    def wake(self) -> None:
        """Let `wait` return."""
        self._resting.clear()
        self._bell.set()

    def offer(self, delta: Delta) -> None:
        """Take a delta if it is wanted; the oldest is dropped when full."""
        if self._wants(delta):
            self.deltas.append(delta)
            self.wake()

    async def wait(self) -> None:
        """Return when there may be news since the last return."""
        if not self._bell.is_set():
            self.rest()
        await self._bell.wait()
        self._bell.clear()

    def rest(self) -> None:
        """It has taken what there is, or takes nothing more."""
        self._resting.set()

    async def rested(self) -> None:
        """Return when it has taken what there is."""
        await self._resting.wait()


class Bus:
    """One per daemon. `read(cursor, limit)` reads the log in order of ids."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._ring: deque[Event] = deque(maxlen=RING)
        self._tail = 0
        self._readers: set[Subscription] = set()
        self._bell = asyncio.Event()
        self._pulling = asyncio.Lock()
        self._behind = True

    def ring(self) -> None:
        """Something was committed. Costs nothing while nobody listens."""
        self._behind = True
        if self._readers:
            self._bell.set()

    def show(self, delta: Delta) -> None:
        """Pass a delta to whoever watches."""
        for reader in self._readers:
            reader.offer(delta)

    @contextmanager
    def subscribe(self, wants_deltas: Callable[[Delta], bool]) -> Iterator[Subscription]:
        """A reader for the length of the block."""
        reader = Subscription(wants_deltas)
        self._readers.add(reader)
        self._bell.set()
        try:
            yield reader
        finally:
            self._readers.discard(reader)
            reader.rest()
            if not self._readers:
                self._ring.clear()

    async def run(self) -> None:
        """Follow the log while somebody reads. Runs until cancelled."""
        while True:
            await self._bell.wait()
            self._bell.clear()
            while self._readers and self._behind:
                await self._pull(self._tail)

    async def settle(self) -> None:
        """Return when every reader has taken what was committed before. One that stalls holds it up for ever."""
        while self._readers and (self._behind or self._pulling.locked()):
            await self._pull(self._tail)
        for reader in list(self._readers):
            await reader.rested()

    async def after(self, cursor: int, limit: int = PAGE) -> list[Event]:
        """Events behind a cursor: from the ring when it reaches back that far, else from the table.

        `cursor` is 0 or the id of an event. Whatever was acknowledged before the call is in the answer or behind its
        last event.
        """
        if cursor > self._tail:
            await self._skip_to(cursor)
        if self._covers(cursor) and not (found := self._slice(cursor, limit)):
            if not self._behind and not self._pulling.locked():
                return found
            await self._pull(cursor)
        return self._slice(cursor, limit) if self._covers(cursor) else await self._read(cursor, limit)

    def start_at(self, head: int) -> None:
        """Follow from this id on; what is older is read from the table."""
        self._tail = max(self._tail, head)

    def _covers(self, cursor: int) -> bool:
        return cursor >= (self._ring[0].event_id - 1 if self._ring else self._tail)

    def _slice(self, cursor: int, limit: int) -> list[Event]:
        skip = cursor - self._ring[0].event_id + 1 if self._ring else 0
        return list(islice(self._ring, skip, skip + limit))

    async def _pull(self, cursor: int) -> None:
        """Extend the ring by a page, unless somebody else has brought it beyond the cursor meanwhile."""
        async with self._pulling:
            if self._tail > cursor:
                return
            self._behind, page = False, None
            try:
                page = await self._read(self._tail, PAGE)
            finally:
                # What was committed during the read has set it again; a full page or a failure does so too.
                self._behind = self._behind or page is None or len(page) == PAGE
            if page:
                self._ring.extend(page)
                self._tail = page[-1].event_id
                self._wake_all()

    async def _skip_to(self, cursor: int) -> None:
        """A reader is ahead of the ring: what lies between the two, nobody needs from it."""
        async with self._pulling:
            if cursor > self._tail:
                self._ring.clear()
                self._tail = cursor
                # Readers that are not that far have not been told of what was skipped.
                self._wake_all()

    def _wake_all(self) -> None:
        for reader in self._readers:
            reader.wake()
