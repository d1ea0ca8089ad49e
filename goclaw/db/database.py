"""The database as the house sees it: `write`, `post`, `read`."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import aiosqlite

from goclaw.core.ports import Clock
from goclaw.db.migrate import open_checked
from goclaw.db.wal import Wal
from goclaw.db.writer import Writer
from goclaw.errors import GoclawError, StoreClosed

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
Transaction = Callable[Concatenate[sqlite3.Connection, P], T]

READERS = 2


def _nothing(*_: object) -> None:
    """No listener."""


class Database:
    """One SQLite file with one writer and a few readers. An async context manager; leaving it closes the file.

    `on_commit`, `on_failure` and `on_room` are those of `Writer`. Readers see what is committed, never more.
    """

    def __init__(
        self,
        path: Path,
        clock: Clock,
        on_commit: Callable[[], None] = _nothing,
        on_failure: Callable[[GoclawError], None] = _nothing,
        on_room: Callable[[bool], None] = _nothing,
    ) -> None:
        self.path = path
        self._clock = clock
        self._on_commit = on_commit
        self._on_failure = on_failure
        self._on_room = on_room
        self._writer: Writer | None = None
        self._conn: sqlite3.Connection | None = None
        self._readers: list[aiosqlite.Connection] = []
        self._turn = itertools.count()
        self._wal = Wal(path)

    async def __aenter__(self) -> Self:
        self._conn = await asyncio.to_thread(open_checked, self.path, self._clock)
        self._writer = Writer(self._conn, self._clock, self._on_commit, self._on_failure, self._on_room, self._wal)
        self._readers = [await _reader(self.path) for _ in range(READERS)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        readers, self._readers = self._readers, []
        for reader in readers:
            await reader.close()
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.seal()
            await asyncio.to_thread(writer.join)
        if self._conn is not None:
            await asyncio.to_thread(_close, self._conn)
        self._wal.close()

    def write(self, function: Transaction[P, T], *args: P.args, **none: P.kwargs) -> asyncio.Future[T]:
        """Run `function(conn, *args)` in a transaction of the writer; what it returns, when it is durable.

        It has a savepoint of its own: if it raises, only its own changes are undone and the exception comes here.
        """
        return self._writing().submit(function, args, isolated=True)

    def apply(self, function: Transaction[P, T], *args: P.args, **none: P.kwargs) -> asyncio.Future[T]:
        """As `write`, without a savepoint: for the kernel's own operations, which refuse by value and do not raise."""
        return self._writing().submit(function, args, isolated=False)

    def share(
        self,
        function: Callable[[sqlite3.Connection, Sequence[T]], Sequence[R | GoclawError]],
        item: T,
        size: int = 0,
    ) -> asyncio.Future[R]:
        """Run `function(conn, items)` once for `item` and what its neighbours in the queue bring to the same function.

        It answers with a result or a refusal for each, in order; it raises only when it is broken, and then each item
        is tried by itself. `size` is about how many bytes the item brings. Durable when it returns.
        """
        return self._writing().share(function, item, size)

    def post(self, function: Transaction[P, T], *args: P.args, **none: P.kwargs) -> None:
        """Queue a write and go on. It commits no later than any write queued after it."""
        self._writing().post(function, args)

    def alone(self, function: Transaction[P, T], *args: P.args, **none: P.kwargs) -> asyncio.Future[T]:
        """Run `function(conn, *args)` on the writer outside of any transaction, everybody else waiting: for VACUUM.

        Raises StoreFull, or sqlite3.OperationalError where the file is locked; nothing is changed then.
        """
        return self._writing().alone(function, args)

    async def read(self, function: Transaction[P, T], *args: P.args, **none: P.kwargs) -> T:
        """Run `function(conn, *args)` on a read-only connection, in one snapshot."""
        if self._writer is None:
            raise StoreClosed
        reader = self._readers[next(self._turn) % READERS]
        # aiosqlite offers one statement a hop; a function in one hop needs its internal entry (pinned in the lock).
        hop: Any = reader._execute  # noqa: SLF001
        result: T = await hop(_snapshot, reader._conn, function, args)  # noqa: SLF001
        return result

    @property
    def commits(self) -> int:
        """Commits that changed rows since the start."""
        return self._writing().commits

    def _writing(self) -> Writer:
        if self._writer is None:
            raise StoreClosed
        return self._writer


def _read_only(path: Path) -> str:
    return f"{path.absolute().as_uri()}?mode=ro"


async def _reader(path: Path) -> aiosqlite.Connection:
    reader = await aiosqlite.connect(_read_only(path), uri=True, isolation_level=None)
    reader.row_factory = sqlite3.Row
    await reader.execute("PRAGMA query_only = ON")
    return reader


def _snapshot(conn: sqlite3.Connection, function: Callable[..., T], args: tuple[object, ...]) -> T:
    conn.execute("BEGIN")
    try:
        return function(conn, *args)
    finally:
        conn.execute("COMMIT")


def _close(conn: sqlite3.Connection) -> None:
    with suppress(sqlite3.OperationalError):  # on a full disk there may be no room for what it would write
        conn.execute("PRAGMA optimize")
    conn.close()
