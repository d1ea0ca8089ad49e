"""One claim-to-settle of a task, as its handler sees it: the `Attempt`, `Journal` and `Conversation` ports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from goclaw.core.chat import Message
from goclaw.core.event import Delta
from goclaw.core.step import JournalEntry, Step
from goclaw.core.task import Task
from goclaw.db.database import Database
from goclaw.kernel.claiming import Claimed
from goclaw.kernel.queue import Queue
from goclaw.store import sessions


class LiveJournal:
    """The journal of a held task. A commit after the lease is gone raises LeaseLost and writes nothing."""

    def __init__(self, queue: Queue, claimed: Claimed) -> None:
        self._queue = queue
        self._stored = claimed.stored
        self._steps: Mapping[str, Step] = claimed.steps

    @property
    def steps(self) -> Mapping[str, Step]:
        """What is recorded, by key, in order."""
        return self._steps

    async def commit(self, entries: Sequence[JournalEntry]) -> None:
        """Make the entries durable in one commit."""
        # A new mapping: who reads the journal meanwhile sees it as it was.
        self._steps = {**self._steps, **await self._queue.record(self._stored, entries)}


class SessionConversation:
    """What a turn is told of its session, pinned so that it is told the same after a crash."""

    def __init__(self, database: Database, claimed: Claimed) -> None:
        self._database = database
        self._claimed = claimed

    async def bounds(self) -> tuple[int, int]:
        """What names the history of this turn for ever."""
        stored = self._claimed.stored
        return await self._database.read(sessions.turn_bounds, stored.session_key or 0, stored.task.key)

    async def history(self, bounds: tuple[int, int]) -> tuple[Message, ...]:
        """Earlier turns, then this turn's input."""
        return await self._database.read(sessions.turn_history, self._claimed.stored.session_key or 0, *bounds)

    def pin(self, part_hash: str, body: str) -> None:
        """Keep a prompt part by its hash; durable before anything committed later."""
        self._database.post(sessions.pin_part, part_hash, body)

    async def part(self, part_hash: str) -> str | None:
        """A pinned part."""
        return await self._database.read(sessions.prompt_part, part_hash)


class LiveAttempt:
    """The attempt a worker hands to a handler."""

    def __init__(self, queue: Queue, database: Database, claimed: Claimed, show: Callable[[Delta], None]) -> None:
        self._queue = queue
        self._claimed = claimed
        self._show = show
        self._database = database
        self._deltas = 0
        self._journal: LiveJournal | None = None

    @property
    def journal(self) -> LiveJournal:
        """The journal of this attempt."""
        if self._journal is None:
            self._journal = LiveJournal(self._queue, self._claimed)
        return self._journal

    @property
    def conversation(self) -> SessionConversation:
        """What it is told of its session."""
        return SessionConversation(self._database, self._claimed)

    @property
    def task(self) -> Task:
        """The task as it was claimed."""
        return self._claimed.task

    def delta(self, content: str, *, reset: bool = False) -> None:
        """Show a piece of the answer; it may be lost."""
        self._deltas += 1
        task = self.task
        self._show(Delta(task_id=task.id, session_id=task.session_id, seq=self._deltas, content=content, reset=reset))

    async def progress(self, value: Any) -> None:
        """Record how far the work is."""
        await self._queue.progress(self._claimed.stored, value)
