"""What one connection follows: sessions of the event log by cursor, and the deltas of turns.

Replay and live read the same log by cursor, so there is no gap to close. A reader that stalls moves nobody else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from weakref import WeakSet

from goclaw.bus import PAGE
from goclaw.core.event import Delta, Event
from goclaw.gateway.house import House
from goclaw.gateway.outlet import Outlet, event_frame, told_frame
from goclaw.gateway.pipe import Gone, Pipe, text_frame
from goclaw.gateway.rpc import Subscribed
from goclaw.log import get_logger
from goclaw.store import events
from goclaw.wire.frames import CLOSE_BACKPRESSURE, notification

BEHIND = 1_024
ALL = "*"


class Following:
    """The subscriptions of one connection, from the first one until `close`. `run` is to run all that time."""

    def __init__(self, house: House, outlet: Outlet) -> None:
        self._house = house
        self._outlet = outlet
        # What is live, each from behind the position that its replay has reached.
        self._sessions: dict[str, int] = {}
        # What is not yet live: it replays, waits for its answer to be sent, or catches up with `run`. One that failed
        # on the way is held by nobody.
        self._joining: WeakSet[Subscribed] = WeakSet()
        self._streaming: set[str] = set()
        # Up to where what is live is written.
        self._cursor = 0
        self._caught_up = False
        self._stack = ExitStack()
        self._reader = self._stack.enter_context(house.bus.subscribe(self._wants))

    def close(self) -> None:
        """Follow nothing any more."""
        self._sessions.clear()
        self._stack.close()

    async def run(self) -> None:
        """Send what is live, woken by the bus. Ends when the reader was cut off."""
        try:
            while True:
                await self._reader.wait()
                await self.send_deltas()
                await self._send_news()
        except Gone:
            return

    async def replay(self, session_id: str, cursor: int) -> tuple[Subscribed, int]:
        """Send what lies behind the cursor, to the end of the log; the subscription there, and how many were sent.

        It is cut short when the session is left meanwhile.
        """
        subscribed = Subscribed(session_id, cursor)
        self._joining.add(subscribed)
        sent, more = 0, True
        while more and not subscribed.left:
            page, subscribed.cursor, more = await self._page(session_id, subscribed.cursor)
            if page:
                await self._outlet.stream(map(event_frame, page))
            sent += len(page)
        return subscribed, sent

    async def join(self, subscribed: Subscribed) -> None:
        """Go live from where its replay ended, without a gap and without a repeat, unless it was left meanwhile."""
        if not self._sessions and not subscribed.left:
            # Nothing is live yet: `run` starts where the replay ended.
            self._cursor = max(self._cursor, subscribed.cursor)
        await self._catch_up(subscribed)
        self._joining.discard(subscribed)
        if subscribed.left:
            return
        cursor = subscribed.cursor
        self._sessions[subscribed.session_id] = min(cursor, self._sessions.get(subscribed.session_id, cursor))
        self._caught_up = True
        self._reader.wake()

    def leave(self, session_id: str) -> bool:
        """End the subscriptions to a session, live or on their way; False when there was none."""
        joining = [one for one in self._joining if one.session_id == session_id and not one.left]
        for one in joining:
            one.left = True
        return self._sessions.pop(session_id, None) is not None or bool(joining)

    def stream_deltas(self, task_id: str) -> None:
        """Pass on the deltas of a task until `end_deltas`."""
        self._streaming.add(task_id)

    async def end_deltas(self, task_id: str) -> None:
        """Send what is still waiting, then pass on no more."""
        await self.send_deltas()
        self._streaming.discard(task_id)

    async def send_deltas(self) -> None:
        """Send the deltas that wait."""
        if self._reader.deltas:
            await self._outlet.stream(self._taken_deltas())

    async def check_stall(self, pipe: Pipe) -> None:
        """The reader took nothing for a while: cut a live one off when it is far behind; it resumes by cursor.

        Raises Gone when it did.
        """
        head = await self._house.database.read(events.head)
        if self._caught_up and self._sessions and head - self._cursor > BEHIND:
            told = {"cursor": self._cursor, "latest_event_id": head, "reason": "the reader takes no frames"}
            get_logger("gateway").warning("reader cut off", **told)
            await pipe.cut(text_frame(notification("system.backpressure", told)), CLOSE_BACKPRESSURE, "backpressure")
            raise Gone

    async def _catch_up(self, subscribed: Subscribed) -> None:
        """Send what `run` has passed since the replay, but for what a live subscription was told there."""
        while not subscribed.left and subscribed.cursor < (target := self._untold(subscribed.session_id)):
            page, reached, _ = await self._page(subscribed.session_id, subscribed.cursor)
            missing = (one for one in page if one.event_id <= target and not subscribed.left)
            await self._outlet.stream(map(event_frame, missing))
            subscribed.cursor = min(reached, target)

    def _untold(self, session_id: str) -> int:
        """Up to where `run` has passed this session's events without sending them."""
        live = (self._sessions.get(name, self._cursor) for name in (ALL, session_id))
        return min(self._cursor, *live)

    async def _send_news(self) -> None:
        # Without a reader nothing is taken from the page and the cursor stays: going on would never end.
        while self._sessions and not self._outlet.gone:
            page = await self._house.bus.followed(self._cursor)
            if not page:
                self._caught_up = True
                return
            await self._outlet.stream(self._live_frames(page))

    def _live_frames(self, page: list[Event]) -> Iterator[bytes]:
        for event in page:
            number = event.event_id
            self._cursor = number
            wide = self._sessions.get(ALL, number)
            if wide < number or self._sessions.get(event.session_id or ALL, number) < number:
                yield self._house.bus.encoded.of(event, told_frame)

    def _taken_deltas(self) -> Iterator[bytes]:
        deltas = self._reader.deltas
        while deltas:
            yield self._house.bus.encoded.of(deltas.popleft(), told_frame)

    async def _page(self, session_id: str, cursor: int) -> tuple[list[Event], int, bool]:
        """Matching events behind a cursor, the position they reach, and whether there are more."""
        if session_id == ALL:
            page = await self._house.bus.after(cursor)
            return page, page[-1].event_id if page else cursor, len(page) == PAGE
        page, head = await self._house.database.read(events.read_session_to_head, session_id, cursor, PAGE)
        more = len(page) == PAGE
        return page, page[-1].event_id if more else max(cursor, head), more

    def _wants(self, delta: Delta) -> bool:
        wide = ALL in self._sessions or delta.session_id in self._sessions
        return wide or delta.task_id in self._streaming
