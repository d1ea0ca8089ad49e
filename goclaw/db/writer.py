"""The one thread that writes: group commit.

Callers queue plain functions; the thread takes all that wait, runs them in one transaction and commits once with
synchronous=FULL. The fsync itself is the batching window, so a lone caller pays for no timer and fifty callers share
one fsync. Nobody is answered before the commit that holds his change.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from goclaw.core.ports import Clock
from goclaw.errors import GoclawError, StoreClosed, StoreFailed, StoreFull

BATCH_REQUESTS = 1_000
BATCH_MS = 20
IDLE_CHECKPOINT_S = 0.5
CHECKPOINT_CHANGES = 8_192
"""Rows changed between checkpoints under load: at 400-600 bytes of WAL each, about 4 MiB."""

Write = Callable[..., Any]


@dataclass(slots=True)
class _Request:
    function: Write
    args: tuple[Any, ...]
    future: asyncio.Future[Any] | None
    isolated: bool
    result: Any = None
    error: BaseException | None = None


class Writer:
    """Owns the read-write connection. `on_commit` is called on the loop after each commit that changed rows;
    `on_failure` once, when durability is no longer known and the process must end."""

    def __init__(
        self,
        conn: sqlite3.Connection,
        clock: Clock,
        on_commit: Callable[[], None],
        on_failure: Callable[[GoclawError], None],
    ) -> None:
        self._conn = conn
        self._clock = clock
        self._on_commit = on_commit
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._inbox: deque[_Request] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._failed: GoclawError | None = None
        self._checkpointed = conn.total_changes
        self.commits = 0
        self._thread = threading.Thread(target=self._run, name="goclaw-writer", daemon=True)
        self._thread.start()

    def submit(self, function: Write, args: tuple[Any, ...], *, isolated: bool) -> asyncio.Future[Any]:
        """Queue `function(conn, *args)`; the future resolves after the commit that holds it."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._put(_Request(function, args, future, isolated))
        return future

    def post(self, function: Write, args: tuple[Any, ...]) -> None:
        """Queue without waiting; it commits no later than anything queued after it. Errors go to `on_failure`'s log."""
        self._put(_Request(function, args, None, True))

    def _put(self, request: _Request) -> None:
        with self._wake:
            if self._failed is not None:
                raise self._failed
            if self._closing:
                raise StoreClosed
            self._inbox.append(request)
            self._wake.notify()

    def close(self) -> None:
        """Finish what is queued, checkpoint, stop the thread. Blocks; call it off the loop."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            if not self._await_work():
                self._checkpoint()
                continue
            if not self._inbox:
                break
            self._batch()
            if self._conn.total_changes - self._checkpointed >= CHECKPOINT_CHANGES:
                self._checkpoint()
        if self._failed is None:
            self._checkpoint()

    def _await_work(self) -> bool:
        """False when nothing came for a while after a change: time for a checkpoint, outside of the lock."""
        with self._wake:
            while not self._inbox and not self._closing:
                dirty = self._conn.total_changes != self._checkpointed
                if not self._wake.wait(IDLE_CHECKPOINT_S if dirty else None) and not self._inbox:
                    return False
            return True

    def _checkpoint(self) -> None:
        # PASSIVE never waits for a reader; the WAL file is reused afterwards, not shrunk, which is twice as fast.
        try:
            self._conn.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.Error as error:
            if "disk" in str(error):
                self._checkpointed = self._conn.total_changes
                return
            self._fail(error)
        self._checkpointed = self._conn.total_changes

    def _batch(self) -> None:
        done: list[_Request] = []
        before = self._conn.total_changes
        try:
            self._conn.execute("BEGIN IMMEDIATE")
            self._fill(done)
            changed = self._conn.total_changes != before
            self._conn.execute("COMMIT")
        except sqlite3.Error as error:
            self._abort(done, error)
            return
        except _Spoiled as spoiled:
            self._replay(done, spoiled.request)
            return
        self.commits += changed
        self._answer(done, changed)

    def _fill(self, done: list[_Request]) -> None:
        until = self._clock.monotonic() + BATCH_MS
        while self._inbox and len(done) < BATCH_REQUESTS:
            request = self._inbox.popleft()
            done.append(request)
            self._apply(request)
            if len(done) % 16 == 0 and self._clock.monotonic() >= until:
                return

    def _apply(self, request: _Request) -> None:
        if request.isolated:
            self._conn.execute("SAVEPOINT request")
        try:
            request.result = request.function(self._conn, *request.args)
        except Exception as error:
            request.error = StoreFull() if _is_full(error) else error
            if not self._conn.in_transaction:
                raise _as_sqlite(error) from error
            if not request.isolated:
                raise _Spoiled(request) from error
            self._conn.execute("ROLLBACK TO request")
        if request.isolated:
            self._conn.execute("RELEASE request")

    def _replay(self, done: list[_Request], spoiler: _Request) -> None:
        """A request without a savepoint failed: undo the batch, leave that request out, run the others again."""
        self._conn.execute("ROLLBACK")
        self._answer([spoiler], False)
        for request in reversed(done):
            if request is not spoiler:
                request.error, request.isolated = None, True
                self._inbox.appendleft(request)
        if self._inbox:
            self._batch()

    def _abort(self, done: list[_Request], error: sqlite3.Error) -> None:
        """The transaction is gone (disk full, I/O error): nobody in it is acknowledged."""
        if self._conn.in_transaction:
            self._conn.execute("ROLLBACK")
        if _is_full(error):
            for request in done:
                request.error = StoreFull()
        else:
            failure = self._fail(error)
            for request in done:
                request.error = failure
        self._answer(done, False)

    def _fail(self, error: BaseException) -> GoclawError:
        failure = StoreFailed(f"{StoreFailed.__doc__} ({error})")
        with self._wake:
            self._failed = failure
            self._closing = True
            waiting = list(self._inbox)
            self._inbox.clear()
        for request in waiting:
            request.error = failure
        self._answer(waiting, False)
        self._tell(self._on_failure, failure)
        return failure

    def _answer(self, requests: list[_Request], changed: bool) -> None:
        self._tell(_resolve, requests, self._on_commit if changed else None)

    def _tell(self, function: Callable[..., None], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            # The loop is closed: the process is ending and nobody waits for an answer any more.
            return


class _Spoiled(Exception):
    """A request without a savepoint raised; the batch must be undone."""

    def __init__(self, request: _Request) -> None:
        super().__init__()
        self.request = request


def _is_full(error: BaseException) -> bool:
    return isinstance(error, sqlite3.Error) and "full" in str(error)


def _as_sqlite(error: Exception) -> sqlite3.Error:
    return error if isinstance(error, sqlite3.Error) else sqlite3.OperationalError(str(error))


def _resolve(requests: list[_Request], on_commit: Callable[[], None] | None) -> None:
    for request in requests:
        future = request.future
        if future is None:
            if request.error is not None and not isinstance(request.error, GoclawError):
                asyncio.get_running_loop().call_exception_handler(
                    {"message": "a queued write failed", "exception": request.error}
                )
        elif not future.done():
            if request.error is not None:
                future.set_exception(request.error)
            else:
                future.set_result(request.result)
    if on_commit is not None:
        on_commit()
