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
        self.deltas: deque[Delta] = deque(maxlen=DELTAS)

    def wake(self) -> None:
        """Let `wait` return."""
        self._bell.set()

    def offer(self, delta: Delta) -> None:
        """Take a delta if it is wanted; the oldest is dropped when full."""
        if self._wants(delta):
            self.deltas.append(delta)
            self._bell.set()

    async def wait(self) -> None:
        """Return when there may be news since the last return."""
        await self._bell.wait()
        self._bell.clear()


class Bus:
    """One per daemon. `read(cursor, limit)` reads the log in order of ids."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._ring: deque[Event] = deque(maxlen=RING)
        self._tail = 0
        self._readers: set[Subscription] = set()
        self._bell = asyncio.Event()
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

    async def run(self) -> None:
        """Follow the log while somebody reads. Runs until cancelled."""
        while True:
            await self._bell.wait()
            self._bell.clear()
            news = await self._follow()
            self._behind = self._bell.is_set() or not self._readers
            if news:
                for reader in self._readers:
                    reader.wake()

    async def after(self, cursor: int, limit: int = PAGE) -> list[Event]:
        """Events behind a cursor: from the ring when it reaches back that far, else from the table.

        Whatever was acknowledged before the call is in the answer or behind its last event.
        """
        if cursor > self._tail:
            # This reader is ahead of the ring: what lies between the two, nobody needs from it.
            self._ring.clear()
            self._tail = cursor
            # Readers that are not that far have not been told of it, and following on from here tells of later news.
            for reader in self._readers:
                reader.wake()
        if self._ring and cursor >= self._ring[0].event_id - 1:
            skip = cursor - self._ring[0].event_id + 1
            found = list(islice(self._ring, skip, skip + limit))
            if found or not self._behind:
                return found
        return await self._read(cursor, limit)

    async def _follow(self) -> bool:
        if not self._readers:
            # Nobody listens: forget, so that the next reader does not meet a hole.
            self._ring.clear()
            return False
        news = False
        while True:
            tail = self._tail
            page = await self._read(tail, PAGE)
            if tail != self._tail:
                continue
            if page:
                if self._ring and page[0].event_id != self._ring[-1].event_id + 1:
                    self._ring.clear()
                self._ring.extend(page)
                self._tail = page[-1].event_id
                news = True
            if len(page) < PAGE:
                return news

    def start_at(self, head: int) -> None:
        """Follow from this id on; what is older is read from the table."""
        self._tail = max(self._tail, head)
