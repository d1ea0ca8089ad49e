"""The doorbell: who waits for events is woken after each commit; what happened is read from the log.

The bus keeps a ring of recent events so that many readers of the same news cost one read of the table. A reader is a
cursor: it asks for what lies behind it, at its own pace, and nobody waits for it. Deltas pass through without being
stored; a reader that is slow loses deltas, never events.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from goclaw.core.event import Delta, Event

RING = 4_096
"""Recent events in memory; at most twice as many."""
PAGE = 1_000
DELTAS = 1_024
ENCODED_BYTES = 4 * 1024 * 1024
PER_READER_S = 50e-6
"""What it takes to wake a reader that then writes, about."""
SHORTEST_REST_S = 1e-3
"""The loop's timers are no finer; a shorter rest is one round of the loop."""

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


class Encoded:
    """The bytes that were made of what is told, once for all readers. Keeps the newest 4 MiB."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, tuple[Event | Delta, bytes]] = OrderedDict()
        self._bytes = 0

    def of(self, told: Event | Delta, encode: Callable[[Any], bytes]) -> bytes:
        """What `encode`, always the same function, makes of it. Readers are given the same object: that is the key."""
        kept = self._kept.get(id(told))
        if kept is not None:
            return kept[1]
        made = encode(told)
        # The object is kept too: no other can have its id meanwhile.
        self._kept[id(told)] = (told, made)
        self._bytes += len(made)
        while self._bytes > ENCODED_BYTES:
            _, (_, oldest) = self._kept.popitem(last=False)
            self._bytes -= len(oldest)
        return made

    def clear(self) -> None:
        """Keep nothing."""
        self._kept.clear()
        self._bytes = 0


class Bus:
    """One per daemon. `read(cursor, limit)` reads the log in order of ids."""

    def __init__(self, read: Read) -> None:
        self._read = read
        # A list, because a slice of a deque walks to where it begins; its older half goes when it is twice too long.
        self._ring: list[Event] = []
        self.encoded = Encoded()
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
                self._clear()

    async def run(self) -> None:
        """Follow the log while somebody reads. Runs until cancelled.

        News go out at once; then it rests for about as long as its readers need to take them, so that under load many
        readers are woken for many events instead of for each.
        """
        while True:
            await self._bell.wait()
            self._bell.clear()
            while self._readers and self._behind:
                before = self._tail
                await self._pull(before)
                rest = len(self._readers) * PER_READER_S
                await asyncio.sleep(rest if rest >= SHORTEST_REST_S and self._tail > before else 0)

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

    async def followed(self, cursor: int, limit: int = PAGE) -> list[Event]:
        """As `after`, as far as the bus has followed: for who is woken when there is more."""
        if cursor > self._tail:
            await self._skip_to(cursor)
        return self._slice(cursor, limit) if self._covers(cursor) else await self._read(cursor, limit)

    async def forget(self) -> None:
        """Keep nothing in memory of what was told up to now; readers go on from the table."""
        async with self._pulling:
            self._clear()

    def start_at(self, head: int) -> None:
        """Follow from this id on; what is older is read from the table."""
        self._tail = max(self._tail, head)

    def _clear(self) -> None:
        self._ring.clear()
        self.encoded.clear()

    def _covers(self, cursor: int) -> bool:
        return cursor >= (self._ring[0].event_id - 1 if self._ring else self._tail)

    def _slice(self, cursor: int, limit: int) -> list[Event]:
        skip = cursor - self._ring[0].event_id + 1 if self._ring else 0
        return self._ring[skip : skip + limit]

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
                self._extend(page)
                if len(self._ring) > 2 * RING:
                    del self._ring[:-RING]
                self._wake_all()

    def _extend(self, page: list[Event]) -> None:
        """A slice of the ring is found by its ids, so they must be consecutive: it begins anew behind what retention
        has removed, and those who are not that far read the table."""
        for event in page:
            if event.event_id != self._tail + 1:
                self._ring.clear()
            self._ring.append(event)
            self._tail = event.event_id

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
