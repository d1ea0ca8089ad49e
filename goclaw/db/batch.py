"""One transaction for many requests, and what becomes of each of them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from goclaw.core.ports import Clock
from goclaw.errors import StoreFull

BATCH_REQUESTS = 1_000
BATCH_BYTES = 4 * 1024 * 1024
"""How much input one commit takes, as far as its requests say how large they are."""
BATCH_MS = 20

Write = Callable[..., Any]


@dataclass(slots=True, eq=False)
class Request:
    """One caller's part of a batch. `shared`: `function(conn, [args, ...])` answers for all its neighbours at once.

    `alone`: it runs outside of any transaction. `brief`: the loop may wait for it.
    """

    function: Write
    args: Any
    future: asyncio.Future[Any] | None
    isolated: bool
    shared: bool = False
    size: int = 0
    alone: bool = False
    brief: bool = False
    result: Any = None
    error: BaseException | None = None


class Batch:
    """Carries out what waits, up to its bounds, and commits. Made for one run.

    `top_up` is called when nothing waits any more, to bring what has come in since. Afterwards `broke` is the error
    that undid it all, if one did; then no request was carried out but the refused ones in `refused`.
    """

    def __init__(
        self, conn: sqlite3.Connection, clock: Clock, waiting: deque[Request], top_up: Callable[[], None]
    ) -> None:
        self._conn = conn
        self._clock = clock
        self._waiting = waiting
        self._top_up = top_up
        self.done: list[Request] = []
        self.refused: list[Request] = []
        self.changed = False
        self.commit_ms = 0
        self.broke: sqlite3.Error | None = None

    def run(self) -> None:
        """Do it; every request in `done` and `refused` has its result or its error then."""
        while True:
            before = self._conn.total_changes
            self.done = []
            try:
                self._conn.execute("BEGIN IMMEDIATE")
                self._fill(self.done)
                self.changed = self._conn.total_changes != before
                started = self._clock.monotonic()
                self._conn.execute("COMMIT")
                self.commit_ms = self._clock.monotonic() - started
            except sqlite3.Error as error:
                if self._conn.in_transaction:
                    self._conn.execute("ROLLBACK")
                self.broke = error
            except _Spoiled as spoiled:
                self._put_back(spoiled.requests)
                continue
            return

    def _put_back(self, spoilers: list[Request]) -> None:
        """A group without a savepoint failed: undo the batch and let it run again, each request by itself.

        One that was by itself already is the cause, and its error is its answer.
        """
        self._conn.execute("ROLLBACK")
        if len(spoilers) == 1:
            self.refused += spoilers
        for request in reversed(self.done):
            if request not in self.refused:
                request.error, request.result, request.isolated = None, None, True
                self._waiting.appendleft(request)

    def _fill(self, done: list[Request]) -> None:
        """Carry out what waits, up to the bounds of a batch."""
        until = self._clock.monotonic() + BATCH_MS
        size = 0
        while (first := self._next()) is not None and len(done) < BATCH_REQUESTS and size < BATCH_BYTES:
            if first.alone:
                return
            group = [self._waiting.popleft()]
            size += first.size
            while self._joins(first) and len(done) + len(group) < BATCH_REQUESTS and size < BATCH_BYTES:
                group.append(self._waiting.popleft())
                size += group[-1].size
            done += group
            self._apply(group)
            if self._clock.monotonic() >= until:
                return

    def _next(self) -> Request | None:
        """The request at the head, also one that came in during this batch; None when nobody waits."""
        if not self._waiting:
            self._top_up()
        return self._waiting[0] if self._waiting else None

    def _joins(self, first: Request) -> bool:
        """Whether the next request can be carried out together with `first`."""
        if not first.shared or first.isolated or not self._waiting:
            return False
        following = self._waiting[0]
        return following.function is first.function and not following.isolated

    def _apply(self, group: list[Request]) -> None:
        """Run the group's function: for a whole group without a savepoint, for an isolated request with its own."""
        isolated = group[0].isolated
        if isolated:
            self._conn.execute("SAVEPOINT request")
        try:
            self._call(group)
        except Exception as error:
            for request in group:
                request.error = StoreFull() if is_full(error) else error
            if not self._conn.in_transaction:
                raise _as_sqlite(error) from error
            if not isolated:
                raise _Spoiled(group) from error
            self._conn.execute("ROLLBACK TO request")
        if isolated:
            self._conn.execute("RELEASE request")

    def _call(self, group: list[Request]) -> None:
        first = group[0]
        if not first.shared:
            first.result = first.function(self._conn, *first.args)
            return
        answers = first.function(self._conn, [request.args for request in group])
        for request, answer in zip(group, answers, strict=True):
            if isinstance(answer, BaseException):
                request.error = answer
            else:
                request.result = answer


class _Spoiled(Exception):
    """Requests without a savepoint failed; the batch must be undone."""

    def __init__(self, requests: list[Request]) -> None:
        super().__init__()
        self.requests = requests


def is_full(error: BaseException) -> bool:
    """Whether SQLite met a full disk."""
    return isinstance(error, sqlite3.Error) and "full" in str(error)


def _as_sqlite(error: Exception) -> sqlite3.Error:
    return error if isinstance(error, sqlite3.Error) else sqlite3.OperationalError(str(error))
