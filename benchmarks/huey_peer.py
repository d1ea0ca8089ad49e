"""huey on SQLite at its durable setting: WAL, synchronous=FULL, threads.

It deletes a row before it runs the task (at most once) and keeps no history: one commit a task, where goclaw keeps
three transitions and four events.
"""

from __future__ import annotations

import itertools
import sqlite3
import threading
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks import books
from benchmarks.stopwatch import Stopwatch, Took


def _open(path: Path) -> Any:
    library: Any = import_module("huey")
    # fsync=True is synchronous=FULL, said aloud: what a distribution compiles in as default differs.
    return library.SqliteHuey(filename=str(path), fsync=True)


def _durable(huey: Any) -> None:
    with huey.storage.db() as cursor:
        books.expect_full(cursor.connection)


def work(path: Path, count: int, workers: int) -> Took:
    """Seconds from the start of the consumer until the last of `count` queued tasks has run."""
    huey = _open(path)
    _durable(huey)
    done, ended = itertools.count(1), threading.Event()

    def noop() -> None:
        if next(done) == count:
            ended.set()

    _prefill(path, huey, huey.task()(noop), count)
    consumer = huey.create_consumer(workers=workers, worker_type="thread", periodic=False)
    watch = Stopwatch()
    consumer.start()
    ended.wait()
    took = watch.read()
    consumer.stop(graceful=True)
    books.expect("huey tasks run", next(done) - 1, count)
    books.expect("huey tasks left", len(huey), 0)
    return took


def _prefill(path: Path, huey: Any, noop: Any, count: int) -> None:
    """Its own messages, in one transaction: filling the queue is not what is measured."""
    rows = [(huey.name, huey.serialize_task(noop.s())) for _ in range(count)]
    conn = sqlite3.connect(path)
    with conn:
        conn.executemany("INSERT INTO task (queue, data) VALUES (?, ?)", rows)
    conn.close()


def submits(path: Path, count: int, callers: int) -> Took:
    """Seconds until `callers` threads have enqueued `count` tasks."""
    huey = _open(path)
    _durable(huey)

    def noop() -> None:
        """Never run here."""

    enqueue = huey.task()(noop)

    def caller(share: int) -> None:
        for _ in range(share):
            enqueue()

    shares = [count // callers + (number < count % callers) for number in range(callers)]
    threads = [threading.Thread(target=caller, args=(share,)) for share in shares]
    watch = Stopwatch()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = watch.read()
    books.expect("huey tasks queued", len(huey), count)
    return took
