"""The one thread that writes: group commit.

Callers queue plain functions; the thread takes all that wait, runs them in one transaction and commits once with
synchronous=FULL. The fsync itself is the batching window, so a lone caller pays for no timer and fifty callers share
one fsync. Nobody is answered before the commit that holds his change.

A lone request of the kernel's own, while the thread has nothing to do, is carried out where it stands, on the loop:
the way to the thread and back costs as much as the commit. A disk that is slow to sync ends that until it is quick
again, so the loop is never held up for long.

Requests that share a function and stand next to each other can be carried out by one call of it: with a statement for
a whole set instead of one for each, a task costs a fifth (docs/performance.md).
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from goclaw.core.ports import Clock
from goclaw.db.batch import Batch, Request, Write, is_full
from goclaw.db.damage import is_damage
from goclaw.db.migrate import BUSY_MS
from goclaw.db.room import LOOK_S, Room
from goclaw.db.wal import Wal
from goclaw.errors import GoclawError, StoreClosed, StoreDamaged, StoreFailed, StoreFull

IDLE_CHECKPOINT_S = 0.5
CHECKPOINT_BYTES = 4 * 1024 * 1024
"""How much the log may have that the database file does not: half of what `room.RESERVE_BYTES` keeps on the disk."""
RESTART_BYTES = 16 * 1024 * 1024
"""A log longer than this is begun anew, for which the readers of that moment are waited for."""
RESTART_WAIT_MS = 100

BRIEF_MS = 2.0
"""While commits take longer than this on average, the loop does not wait for one itself."""

TURN_WAIT_S = 0.000_2
"""How long the loop waits for the thread to put down what it has just answered; a checkpoint takes longer."""


class Writer:
    """Owns the read-write connection. `on_commit` is called on the loop after each commit that changed rows;
    `on_failure` once, when durability is no longer known and the process must end; `on_room` with True when the disk
    is full and with False when there is room again."""

    def __init__(
        self,
        conn: sqlite3.Connection,
        clock: Clock,
        on_commit: Callable[[], None],
        on_failure: Callable[[GoclawError], None],
        on_room: Callable[[bool], None],
        wal: Wal,
    ) -> None:
        self._conn = conn
        self._wal = wal
        self._left = 0
        self._clock = clock
        self._on_commit = on_commit
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._gathered: list[Request] = []
        self._outstanding = 0
        self._inbox: queue.SimpleQueue[list[Request] | None] = queue.SimpleQueue()
        self._turn = threading.Lock()
        self._here = False
        self._asleep = False
        self._pace_ms = 0.0
        self._waiting: deque[Request] = deque()
        self._closing = False
        self._failed: GoclawError | None = None
        self._checkpointed = self._looked = conn.total_changes
        self._room = Room(conn, lambda full: self._tell(on_room, full))
        self.commits = 0
        self._thread = threading.Thread(target=self._run, name="goclaw-writer", daemon=True)
        self._thread.start()

    def submit(self, function: Write, args: tuple[Any, ...], *, isolated: bool) -> asyncio.Future[Any]:
        """Queue `function(conn, *args)`; the future resolves after the commit that holds it."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._put(Request(function, args, future, isolated, brief=not isolated))
        return future

    def share(self, function: Write, item: Any, size: int) -> asyncio.Future[Any]:
        """Queue `item` for `function(conn, items)`, which answers with a result or a refusal for each.

        `size` is about how many bytes the item brings, for the bound of a batch.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        self._put(Request(function, item, future, False, shared=True, brief=True, size=size))
        return future

    def alone(self, function: Write, args: tuple[Any, ...]) -> asyncio.Future[Any]:
        """Queue `function(conn, *args)` to run outside of any transaction, with nothing beside it."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._put(Request(function, args, future, False, alone=True))
        return future

    def post(self, function: Write, args: tuple[Any, ...]) -> None:
        """Queue without waiting; it commits no later than anything queued after it. Errors go to `on_failure`'s log."""
        self._put(Request(function, args, None, True))

    def _put(self, request: Request) -> None:
        # Called on the loop only, as is `seal`: nothing can come in behind the None that ends the thread.
        if self._failed is not None:
            raise self._failed
        if self._closing:
            raise StoreClosed
        if not self._gathered:
            self._loop.call_soon(self._hand_over)
        self._gathered.append(request)

    def _hand_over(self) -> None:
        """What was asked for in one turn of the loop goes to the thread together; a lone request may be done here."""
        requests, self._gathered = self._gathered, []
        lone = len(requests) == 1 and requests[0].brief and self._outstanding == 0 and self._failed is None
        if lone and self._pace_ms < BRIEF_MS and self._turn.acquire(timeout=TURN_WAIT_S):
            try:
                self._serve_here(requests[0])
            finally:
                self._turn.release()
        elif requests:
            self._outstanding += len(requests)
            self._inbox.put(requests)

    def _serve_here(self, request: Request) -> None:
        self._here = True
        try:
            self._batch(deque([request]), _nothing)
            self._room.glance(self._clock.monotonic())
        finally:
            self._here = False
        if self._asleep or self._is_due():
            # The thread has a checkpoint to think of.
            self._asleep = False
            self._inbox.put([])

    def seal(self) -> None:
        """Take nothing more. Call it on the loop, then `join` off it."""
        if not self._closing:
            self._closing = True
            self._hand_over()
            self._inbox.put(None)

    def join(self) -> None:
        """Wait until what was queued is done and the thread has ended. Blocks."""
        self._thread.join()

    def _run(self) -> None:
        with self._turn:
            # What a life that was cut short has left in the log; a row of such lives must not make it long.
            self._checkpoint()
        while self._await_work():
            with self._turn:
                self._work()
        if self._failed is None:
            with self._turn:
                self._checkpoint()

    def _work(self) -> None:
        """Carry out a batch of what waits, or what must stand alone. A mistake in here ends the daemon, visibly."""
        if self._failed is not None:
            self._refuse_all(self._failed)
            return
        try:
            self._carry_out()
        except Exception as error:
            self._fail(error)

    def _carry_out(self) -> None:
        if self._waiting and self._waiting[0].alone:
            self._stand_alone(self._waiting.popleft())
            return
        self._batch(self._waiting, self._top_up)
        self._room.glance(self._clock.monotonic())
        self._looked = self._conn.total_changes
        if self._is_due() or self._room.full:
            self._checkpoint()

    def _await_work(self) -> bool:
        """Wait for a request; False when there will be none any more. A pause after a change is for a checkpoint."""
        while not self._waiting:
            # Set before the connection is looked at: who changes it on the loop from now on wakes the thread.
            self._asleep = True
            try:
                requests = self._inbox.get(timeout=self._patience())
            except queue.Empty:
                self._pause()
                continue
            finally:
                self._asleep = False
            if requests is None:
                return False
            self._waiting.extend(requests)
            if not requests and self._is_due():
                with self._turn:
                    self._checkpoint()
        return True

    def _pause(self) -> None:
        """Nothing came for a while: a checkpoint, unless the loop has been busy here meanwhile."""
        with self._turn:
            if self._looked == self._conn.total_changes or self._room.full:
                self._checkpoint()
            self._looked = self._conn.total_changes

    def _is_due(self) -> bool:
        return self._wal.lengths()[1] - self._left >= CHECKPOINT_BYTES

    def _patience(self) -> float | None:
        """How long to wait for a request, in seconds, before a checkpoint is tried."""
        if self._failed is not None:
            return None
        if self._room.full:
            return LOOK_S
        return IDLE_CHECKPOINT_S if self._conn.total_changes != self._checkpointed else None

    def _top_up(self) -> None:
        """Take in what has come since the thread last looked."""
        try:
            while (requests := self._inbox.get_nowait()) is not None:
                self._waiting.extend(requests)
            self._inbox.put(None)
        except queue.Empty:
            pass

    def _checkpoint(self) -> None:
        # PASSIVE never waits for a reader; the WAL file is reused afterwards, not shrunk, which is twice as fast.
        try:
            self._conn.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            length, self._left = self._wal.lengths()
            if length >= RESTART_BYTES and not self._left:
                self._begin_log_anew()
        except sqlite3.Error as error:
            if is_full(error):
                self._room.ran_out()
            else:
                self._fail(error)
        else:
            self._room.look()
        self._checkpointed = self._conn.total_changes

    def _begin_log_anew(self) -> None:
        """Where readers come and go without a pause, the log would grow for ever: wait until they have let go of it."""
        self._conn.execute(f"PRAGMA busy_timeout = {RESTART_WAIT_MS}")
        try:
            self._conn.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
        finally:
            self._conn.execute(f"PRAGMA busy_timeout = {BUSY_MS}")

    def _batch(self, waiting: deque[Request], top_up: Callable[[], None]) -> None:
        batch = Batch(self._conn, self._clock, waiting, top_up)
        batch.run()
        if batch.broke is not None:
            self._abort(batch.done, batch.broke)
        else:
            self.commits += batch.changed
            self._pace_ms += (batch.commit_ms - self._pace_ms) / 16
            self._answer(batch.done, batch.changed)
        if batch.refused:
            self._answer(batch.refused, False)

    def _stand_alone(self, request: Request) -> None:
        """Run a request that brings its own transactions (VACUUM, a checkpoint). A file that is locked or a disk that
        is full refuses that request alone; after any other error of the file durability is not known."""
        try:
            request.result = request.function(self._conn, *request.args)
        except Exception as error:
            if self._conn.in_transaction:
                self._conn.execute("ROLLBACK")
            request.error = error
            if is_full(error):
                self._room.ran_out()
                request.error = StoreFull()
            elif isinstance(error, sqlite3.Error) and "locked" not in str(error):
                request.error = self._fail(error)
        else:
            self._room.look()
        self._answer([request], False)

    def _abort(self, done: list[Request], error: sqlite3.Error) -> None:
        """The transaction is gone (disk full, I/O error): nobody in it is acknowledged."""
        if is_full(error):
            self._room.ran_out()
            for request in done:
                request.error = StoreFull()
        else:
            failure = self._fail(error)
            for request in done:
                request.error = failure
        self._answer(done, False)

    def _fail(self, error: BaseException) -> GoclawError:
        kind = StoreDamaged if is_damage(error) else StoreFailed
        failure = kind(f"{kind.__doc__} ({error})")
        self._failed = failure
        self._tell(self._on_failure, failure)
        return failure

    def _refuse_all(self, failure: GoclawError) -> None:
        """The thread lives on to answer those who asked before they could know."""
        waiting = list(self._waiting)
        self._waiting.clear()
        for request in waiting:
            request.error = failure
        self._answer(waiting, False)

    def _answer(self, requests: list[Request], changed: bool) -> None:
        if self._here:
            _resolve(requests, self._on_commit if changed else None)
        else:
            self._tell(self._answer_there, requests, changed)

    def _answer_there(self, requests: list[Request], changed: bool) -> None:
        self._outstanding -= len(requests)
        _resolve(requests, self._on_commit if changed else None)

    def _tell(self, function: Callable[..., None], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            # The loop is closed: the process is ending and nobody waits for an answer any more.
            return


def _nothing() -> None:
    """Who serves one request takes in no other."""


def _resolve(requests: list[Request], on_commit: Callable[[], None] | None) -> None:
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
