"""Group commit: what is acknowledged is durable, and what fails hurts nobody else."""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from goclaw.clock import SystemClock
from goclaw.db import Database
from goclaw.db import batch as batch_module
from goclaw.db import writer as writer_module
from goclaw.db.batch import BATCH_BYTES
from goclaw.db.migrate import open_checked
from goclaw.errors import GoclawError, NotFound, StoreClosed, StoreFull

ROOT = Path(__file__).parents[3]


def put(conn: sqlite3.Connection, name: str, value: str = "x") -> str:
    conn.execute("INSERT INTO meta (name, value) VALUES (?, ?)", (name, value))
    return name


def put_and_refuse(conn: sqlite3.Connection, name: str) -> str:
    put(conn, name)
    raise NotFound("no such thing")


def _keep_all(conn: sqlite3.Connection, items: Sequence[str]) -> list[str | GoclawError]:
    """Store all in one row, but refuse those that begin with "no"; break on "bad"."""
    if "bad" in items:
        raise RuntimeError("broken")
    put(conn, "+".join(items))
    return [NotFound(item) if item.startswith("no") else f"{item} of {len(items)}" for item in items]


def names(conn: sqlite3.Connection) -> set[str]:
    return {row[0] for row in conn.execute("SELECT name FROM meta")}


class Gate:
    """Holds the writer inside a transaction until it is opened."""

    def __init__(self) -> None:
        self._entered = threading.Event()
        self._opened = threading.Event()

    def __call__(self, conn: sqlite3.Connection) -> None:
        self._entered.set()
        assert self._opened.wait(30)

    async def entered(self) -> None:
        assert await asyncio.to_thread(self._entered.wait, 30)

    def open(self) -> None:
        self._opened.set()


async def handed_over() -> None:
    """What was asked for has left the loop: the futures have begun, and the loop has turned since."""
    for _ in range(3):
        await asyncio.sleep(0)


@asynccontextmanager
async def held(database: Database) -> AsyncIterator[None]:
    """While the block runs, the writer is busy: what is queued in it becomes one batch."""
    gate = Gate()
    busy = asyncio.ensure_future(database.write(gate))
    await gate.entered()
    try:
        yield
        await handed_over()
    finally:
        gate.open()
        await busy


async def test_many_callers_share_a_commit(tmp_path: Path) -> None:
    async with Database(tmp_path / "d.db", SystemClock()) as database:
        async with held(database):
            waiting = [asyncio.ensure_future(database.write(put, f"n{n}")) for n in range(50)]
            await asyncio.sleep(0)
        assert await asyncio.gather(*waiting) == [f"n{n}" for n in range(50)]
        assert database.commits == 1
        assert len(await database.read(names)) == 50


@pytest.mark.spec("GC-PER-101")
async def test_the_load_of_many_callers_needs_fewer_commits_than_requests(tmp_path: Path) -> None:
    async with Database(tmp_path / "d.db", SystemClock()) as database:
        await asyncio.gather(*(database.write(put, f"n{n}") for n in range(300)))
        assert database.commits < 300
        assert len(await database.read(names)) == 300


async def test_a_batch_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_module, "BATCH_REQUESTS", 10)
    async with Database(tmp_path / "d.db", SystemClock()) as database:
        async with held(database):
            waiting = [asyncio.ensure_future(database.write(put, f"n{n}")) for n in range(35)]
            await asyncio.sleep(0)
        await asyncio.gather(*waiting)
        assert database.commits == 4


@pytest.mark.spec("GC-PER-102")
async def test_nobody_is_answered_before_the_commit(tmp_path: Path) -> None:
    before, after = Gate(), Gate()
    async with Database(tmp_path / "d.db", SystemClock()) as database:
        asks: list[asyncio.Future[Any]] = [asyncio.ensure_future(database.write(before))]
        await before.entered()
        asks += [asyncio.ensure_future(database.write(put, "a")), asyncio.ensure_future(database.write(after))]
        await handed_over()
        before.open()
        await after.entered()
        # "a" is executed, in one transaction with what stands before and behind it, and not committed.
        assert await database.read(names) == set()
        assert not any(ask.done() for ask in asks)
        after.open()
        await asyncio.gather(*asks)
        assert await database.read(names) == {"a"}


@pytest.mark.spec("GC-PER-103")
async def test_a_request_that_fails_undoes_only_itself(tmp_path: Path) -> None:
    async with Database(tmp_path / "d.db", SystemClock()) as database:
        async with held(database):
            waiting = [
                asyncio.ensure_future(database.write(put, "a")),
                asyncio.ensure_future(database.write(put_and_refuse, "b")),
                asyncio.ensure_future(database.write(put, "a")),
                asyncio.ensure_future(database.write(put, "c")),
            ]
            await asyncio.sleep(0)
        done = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(one) for one in done] == [str, NotFound, sqlite3.IntegrityError, str]
        assert await database.read(names) == {"a", "c"}
        assert database.commits == 1


@pytest.mark.spec("GC-PER-103")
async def test_a_failure_without_a_savepoint_is_left_out_and_the_rest_runs_again(tmp_path: Path) -> None:
    runs: list[str] = []

    def counted(conn: sqlite3.Connection, name: str) -> str:
        runs.append(name)
        return put(conn, name)

    async with Database(tmp_path / "d.db", SystemClock()) as database:
        async with held(database):
            waiting = [
                asyncio.ensure_future(database.apply(counted, "a")),
                asyncio.ensure_future(database.apply(put_and_refuse, "b")),
                asyncio.ensure_future(database.apply(counted, "c")),
                asyncio.ensure_future(database.write(counted, "d")),
            ]
            await asyncio.sleep(0)
        done = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(one) for one in done] == [str, NotFound, str, str]
        assert await database.read(names) == {"a", "c", "d"}
        assert runs == ["a", "a", "c", "d"]


async def test_posted_writes_come_before_what_is_queued_after_them(tmp_path: Path) -> None:
    async with Database(tmp_path / "d.db", SystemClock()) as database:
        for n in range(5):
            database.post(put, f"n{n}")
        assert await database.write(names) == {f"n{n}" for n in range(5)}


async def test_a_posted_write_that_fails_is_told_to_the_loop(tmp_path: Path) -> None:
    told: list[BaseException] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
    async with Database(tmp_path / "d.db", SystemClock()) as database:
        await database.write(put, "a")
        database.post(put, "a")
        database.post(put_and_refuse, "b")  # a refusal is the caller's business, and he does not ask
        await database.write(put, "c")
    assert [type(error) for error in told] == [sqlite3.IntegrityError]


async def test_the_bell_rings_after_commits_that_changed_something(tmp_path: Path) -> None:
    rings: list[int] = []
    async with Database(tmp_path / "d.db", SystemClock(), on_commit=lambda: rings.append(1)) as database:
        await database.write(put, "a")
        await database.write(names)
        with pytest.raises(NotFound):
            await database.write(put_and_refuse, "b")
        assert await database.read(names) == {"a"}
    assert len(rings) <= 2
    assert rings


async def test_a_caller_who_leaves_does_not_disturb_the_writer(tmp_path: Path) -> None:
    async with Database(tmp_path / "d.db", SystemClock()) as database:
        async with held(database):
            leaving = asyncio.ensure_future(database.write(put, "a"))
            await asyncio.sleep(0)
            leaving.cancel()
        await database.write(put, "b")
        assert await database.read(names) == {"a", "b"}


async def test_a_closed_database_says_so(tmp_path: Path) -> None:
    database = Database(tmp_path / "d.db", SystemClock())
    async with database:
        queued = asyncio.ensure_future(database.write(put, "a"))
        await asyncio.sleep(0)
    assert await queued == "a", "what was queued is finished first"
    for ask in (database.write, database.apply, database.post):
        with pytest.raises(StoreClosed):
            ask(put, "b")
    with pytest.raises(StoreClosed):
        await database.read(names)
    assert not (tmp_path / "d.db-wal").exists()


CHILD = """
import asyncio, sys
from pathlib import Path
from goclaw.clock import SystemClock
from goclaw.db import Database

def put(conn, name):
    conn.execute("INSERT INTO meta (name, value) VALUES (?, 'x')", (name,))
    return name

async def caller(database, me):
    for n in range(10**9):
        print(await database.write(put, f"{me}.{n}"), flush=True)

async def main():
    async with Database(Path(sys.argv[1]), SystemClock()) as database:
        await asyncio.gather(*(caller(database, me) for me in range(8)))

asyncio.run(main())
"""


@pytest.mark.spec("GC-PER-102")
def test_everything_acknowledged_before_sigkill_is_there(tmp_path: Path) -> None:
    path = tmp_path / "d.db"
    command = [sys.executable, "-c", CHILD, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
        assert child.stdout is not None
        acknowledged = [child.stdout.readline().strip() for _ in range(400)]
        os.kill(child.pid, signal.SIGKILL)
        acknowledged += [line.strip() for line in child.stdout if line.endswith("\n")]
    with closing(open_checked(path, SystemClock())) as conn:
        stored = names(conn)
        assert set(acknowledged) <= stored
        assert conn.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    assert len(stored) <= len(acknowledged) + 8 * 1_000, "and nothing was made up"


def pages(conn: sqlite3.Connection, limit: int | None) -> int:
    count = conn.execute("PRAGMA page_count").fetchone()[0]
    return int(conn.execute(f"PRAGMA max_page_count = {limit or count}").fetchone()[0])


def put_rows(conn: sqlite3.Connection, name: str, value: str) -> str:
    """Several rows in one statement: SQLite then undoes the statement alone, and the transaction goes on."""
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20)"
    conn.execute(f"{numbers} INSERT INTO meta SELECT ? || i, ? FROM n", (name, value))  # noqa: S608 (constant)
    return name


@pytest.mark.spec("GC-PER-104")
@pytest.mark.parametrize("big", [put, put_rows])
async def test_a_full_store_refuses_and_recovers(tmp_path: Path, big: Callable[..., str]) -> None:
    async with Database(tmp_path / "d.db", SystemClock()) as database:
        await database.write(put, "before")
        await database.write(pages, None)
        with pytest.raises(StoreFull):
            await database.write(big, "big", "x" * 100_000)
        with pytest.raises(StoreFull):
            await database.apply(big, "big", "x" * 100_000)
        assert await database.read(names) == {"before"}
        await database.write(pages, 1_000_000)
        await database.write(big, "big", "x" * 100_000)
        assert len(await database.read(names)) == (2 if big is put else 21)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root may make a small disk; a full store is tested without one too")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.spec("GC-PER-104")
async def test_a_full_disk_refuses_and_recovers_when_there_is_room(small_disk: Path) -> None:
    stored: set[str] = set()
    async with Database(small_disk / "d.db", SystemClock()) as database:
        for n in range(40):
            try:
                stored.add(await database.write(put, f"n{n}", "x" * 60_000))
            except StoreFull:
                break
        else:
            pytest.fail("the disk never was full")
        assert await database.read(names) == stored, "nobody was told more than there is"
        with pytest.raises(StoreFull):
            await database.apply(put, "another", "x" * 60_000)
        await asyncio.to_thread(subprocess.run, ["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
        await database.write(put, "room", "x" * 60_000)
        assert await database.read(names) == stored | {"room"}
    with closing(open_checked(small_disk / "d.db", SystemClock())) as conn:
        assert names(conn) == stored | {"room"}
        assert conn.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


BROKEN_DISK = """
import asyncio, resource, signal, sqlite3, sys
from pathlib import Path
from goclaw.clock import SystemClock
from goclaw.db import Database
from goclaw.errors import StoreFailed

def put(conn, name, value):
    conn.execute("INSERT INTO meta (name, value) VALUES (?, ?)", (name, value))

async def main():
    failures = []
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    async with Database(Path(sys.argv[1]), SystemClock(), on_failure=failures.append) as database:
        await database.write(put, "a", "x")
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        asks = [database.write(put, f"n{n}", "x" * 300_000) for n in range(3)]
        done = await asyncio.gather(*asks, return_exceptions=True)
        assert all(isinstance(one, StoreFailed) for one in done), done
        try:
            await database.write(put, "b", "x")
        except StoreFailed:
            pass
        else:
            raise AssertionError("a failed store takes writes")
    assert len(failures) == 1, failures
    print("told once")

asyncio.run(main())
"""


@pytest.mark.spec("GC-PER-105")
def test_when_a_commit_can_not_be_made_durable_the_process_is_told_to_end(tmp_path: Path) -> None:
    command = [sys.executable, "-c", BROKEN_DISK, str(tmp_path / "d.db")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=60)
    assert (done.stdout.strip(), done.returncode) == ("told once", 0), done.stderr


async def test_an_idle_store_writes_nothing_after_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "IDLE_CHECKPOINT_S", 0.01)
    told: list[str] = []
    at_rest = threading.Event()

    class Watched(queue.SimpleQueue[Any]):
        def get(self, block: bool = True, timeout: float | None = None) -> Any:
            told.append("waits without end" if timeout is None else "waits a moment")
            if told[-3:] == ["waits a moment", "checkpoint", "waits without end"]:
                at_rest.set()
            return super().get(block, timeout)

    def trace(statement: str) -> None:
        told.extend(["checkpoint"] if "checkpoint" in statement else [])

    def watch(conn: sqlite3.Connection) -> None:
        conn.set_trace_callback(trace)

    monkeypatch.setattr(queue, "SimpleQueue", Watched)
    database = Database(tmp_path / "d.db", SystemClock())
    async with database:
        monkeypatch.undo()
        await database.write(watch)
        await database.write(put, "a")
        assert await asyncio.to_thread(at_rest.wait, 30)
        assert told.count("checkpoint") == 1


async def test_a_long_load_is_checkpointed_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "CHECKPOINT_BYTES", 40_000)
    monkeypatch.setattr(writer_module, "IDLE_CHECKPOINT_S", 60.0)
    path = tmp_path / "d.db"
    async with Database(path, SystemClock()) as database:
        for n in range(200):
            await database.write(put, f"n{n}", "x" * 1_000)
        # Behind its frames the log is filled with zeros, up to its reserve.
        written = len((tmp_path / "d.db-wal").read_bytes().rstrip(b"\0"))
        assert written < 400_000, "the log is used again, not grown"


async def test_readers_only_read(tmp_path: Path) -> None:
    async with Database(tmp_path / "d.db", SystemClock()) as database:
        for _ in range(3):
            with pytest.raises(sqlite3.OperationalError, match="readonly"):
                await database.read(put, "a")


async def test_a_reader_sees_one_moment(tmp_path: Path) -> None:
    gate = Gate()

    def twice(conn: sqlite3.Connection) -> tuple[set[str], set[str]]:
        first = names(conn)
        gate(conn)
        return first, names(conn)

    async with Database(tmp_path / "d.db", SystemClock()) as database:
        await database.write(put, "a")
        reading = asyncio.ensure_future(database.read(twice))
        await gate.entered()
        await database.write(put, "b")
        gate.open()
        assert await reading == ({"a"}, {"a"})
        assert await database.read(names) == {"a", "b"}


async def test_a_read_that_raises_leaves_its_reader_usable(tmp_path: Path) -> None:
    async with Database(tmp_path / "d.db", SystemClock()) as database:
        for _ in range(4):
            with pytest.raises(NotFound):
                await database.read(_refuse)
        assert await database.read(names) == set()


def _refuse(conn: sqlite3.Connection) -> None:
    raise NotFound


def test_a_store_error_says_whether_to_try_again() -> None:
    assert StoreFull.retryable
    assert issubclass(StoreFull, GoclawError)


async def test_neighbours_with_the_same_function_are_one_call_and_each_has_its_own_answer(tmp_path: Path) -> None:
    async with Database(tmp_path / "d.db", SystemClock()) as database:
        async with held(database):
            shared = [asyncio.ensure_future(database.share(_keep_all, name)) for name in ("a", "no", "b")]
            between = asyncio.ensure_future(database.write(put, "x"))
            last = asyncio.ensure_future(database.share(_keep_all, "c"))
        answers = await asyncio.gather(*shared, between, last, return_exceptions=True)
        assert [str(answer) for answer in answers] == ["a of 3", "no", "b of 3", "x", "c of 1"]
        assert isinstance(answers[1], NotFound)
        assert await database.read(names) >= {"a+no+b", "x", "c"}


async def test_a_shared_function_that_breaks_costs_only_the_item_that_breaks_it(tmp_path: Path) -> None:
    async with Database(tmp_path / "d.db", SystemClock()) as database:
        async with held(database):
            shared = [asyncio.ensure_future(database.share(_keep_all, name)) for name in ("a", "bad", "b")]
        answers = await asyncio.gather(*shared, return_exceptions=True)
        assert [str(answer) for answer in answers] == ["a of 1", "broken", "b of 1"]
        found = await database.read(names)
        assert found >= {"a", "b"}
        assert not found & {"bad", "a+bad+b"}


async def test_a_batch_ends_at_four_mebibytes_of_input(tmp_path: Path) -> None:
    half = BATCH_BYTES // 2
    async with Database(tmp_path / "d.db", SystemClock()) as database:
        async with held(database):
            shared = [
                asyncio.ensure_future(database.share(_keep_all, name, half)) for name in ("a", "b", "c", "d", "e")
            ]
        assert await asyncio.gather(*shared) == ["a of 2", "b of 2", "c of 2", "d of 2", "e of 1"]


@pytest.mark.spec("GC-DATA-334")
async def test_what_stands_alone_runs_outside_of_a_transaction_in_its_turn(tmp_path: Path) -> None:
    seen: list[object] = []

    def alone(conn: sqlite3.Connection) -> int:
        seen.append((conn.in_transaction, sorted(names(conn) & {"before", "after"})))
        conn.execute("VACUUM")
        return 7

    async with Database(tmp_path / "d.db", SystemClock()) as database:
        before = asyncio.ensure_future(database.write(put, "before"))
        done = asyncio.ensure_future(database.alone(alone))
        after = asyncio.ensure_future(database.apply(put, "after"))
        answers: list[Any] = list(await asyncio.gather(before, done, after))
        assert answers == ["before", 7, "after"]
    assert seen == [(False, ["before"])]


@pytest.mark.spec("GC-DATA-334")
async def test_what_stands_alone_and_fails_leaves_the_writer_at_work(tmp_path: Path) -> None:
    def broken(conn: sqlite3.Connection) -> None:
        conn.execute("BEGIN IMMEDIATE")
        put(conn, "half")
        raise NotFound("no such thing")

    def locked(conn: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("database table is locked")

    def full(conn: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    async with Database(tmp_path / "d.db", SystemClock()) as database:
        for function, error in ((broken, NotFound), (locked, sqlite3.OperationalError), (full, StoreFull)):
            with pytest.raises(error):
                await database.alone(function)
        await database.write(put, "next")
        assert await database.read(names) >= {"next"}
        assert "half" not in await database.read(names)


async def test_a_lone_request_of_the_kernel_is_done_on_the_loop_and_others_on_the_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "BRIEF_MS", 1e9)
    monkeypatch.setattr(writer_module, "TURN_WAIT_S", 10.0)

    def where(conn: sqlite3.Connection, items: Sequence[str]) -> list[str | GoclawError]:
        return [threading.current_thread().name for _ in items]

    async with Database(tmp_path / "d.db", SystemClock()) as database:
        await database.write(put, "a")
        assert await database.share(where, "lone") == threading.current_thread().name
        assert set(await asyncio.gather(*[database.share(where, n) for n in ("a", "b")])) == {"goclaw-writer"}
        async with held(database):
            behind = asyncio.ensure_future(database.share(where, "behind"))
        assert await behind == "goclaw-writer"
        assert await database.share(where, "lone again") == threading.current_thread().name


async def test_the_loop_does_not_wait_for_a_slow_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def where(conn: sqlite3.Connection, items: Sequence[str]) -> list[str | GoclawError]:
        return [threading.current_thread().name for _ in items]

    monkeypatch.setattr(writer_module, "BRIEF_MS", 0.0)
    async with Database(tmp_path / "d.db", SystemClock()) as database:
        assert await database.share(where, "lone") == "goclaw-writer"


async def test_what_is_done_on_the_loop_is_checkpointed_when_it_is_quiet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "IDLE_CHECKPOINT_S", 0.01)
    seen = asyncio.Event()
    loop = asyncio.get_running_loop()

    def trace(statement: str) -> None:
        if "checkpoint" in statement:
            loop.call_soon_threadsafe(seen.set)

    async with Database(tmp_path / "d.db", SystemClock()) as database:
        await database.write(lambda conn: conn.set_trace_callback(trace))
        await database.share(_keep_all, "a")
        await seen.wait()


async def test_the_log_is_begun_anew_when_readers_never_let_go_of_it_all_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "CHECKPOINT_BYTES", 40_000)
    monkeypatch.setattr(writer_module, "RESTART_BYTES", 200_000)
    statements: list[str] = []
    async with Database(tmp_path / "d.db", SystemClock()) as database:
        await database.write(lambda conn: conn.set_trace_callback(statements.append))

        async def read() -> None:
            while len(statements) < 5_000:
                await database.read(names)

        readers = [asyncio.ensure_future(read()) for _ in range(4)]
        for n in range(400):
            await database.write(put, f"n{n}", "x" * 4_000)
        statements += [""] * 5_000
        await asyncio.gather(*readers)
    assert any("RESTART" in statement for statement in statements)
