"""PgQueuer, the fastest Python queue on Postgres that we found, with asyncpg, on a server that syncs every commit."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from importlib import import_module
from typing import Any

from benchmarks import books
from benchmarks.stopwatch import Stopwatch, Took

CONNECTIONS = 50


async def _fresh(dsn: str) -> Any:
    """A connection to an empty database of its own."""
    asyncpg = _library("asyncpg")
    admin = await asyncpg.connect(dsn)
    await admin.execute("DROP DATABASE IF EXISTS run")
    await admin.execute("CREATE DATABASE run")
    await admin.close()
    connection = await asyncpg.connect(_named(dsn))
    for setting in ("fsync", "synchronous_commit"):
        books.expect(f"Postgres {setting}", await connection.fetchval(f"SHOW {setting}"), "on")
    driver = _library("pgqueuer.db").AsyncpgDriver(connection)
    await _library("pgqueuer.queries").Queries(driver).install()
    return connection


def _named(dsn: str) -> str:
    return dsn.rpartition("/")[0] + "/run"


async def work(dsn: str, count: int, workers: int) -> Took:
    """Seconds until `count` queued jobs are done and their ends are in its log."""
    connection = await _fresh(dsn)
    queuer = _library("pgqueuer").PgQueuer.from_asyncpg_connection(connection)
    ran = 0

    async def noop(_: Any) -> None:
        nonlocal ran
        ran += 1

    queuer.entrypoint("noop")(noop)
    for start in range(0, count, 1_000):
        size = min(1_000, count - start)
        await queuer.qm.queries.enqueue(["noop"] * size, [None] * size, [0] * size)
    watch = Stopwatch()
    await queuer.qm.run(
        dequeue_timeout=timedelta(milliseconds=50),
        batch_size=workers,
        max_concurrent_tasks=2 * workers,  # the least it accepts
        mode=_library("pgqueuer.types").QueueExecutionMode.drain,
    )
    took = watch.read()
    books.expect("PgQueuer jobs run", ran, count)
    check = await _library("asyncpg").connect(_named(dsn))
    books.expect("PgQueuer jobs left", await check.fetchval("SELECT count(*) FROM pgqueuer"), 0)
    await check.close()
    return took


async def submits(dsn: str, count: int, callers: int) -> Took:
    """Seconds until `callers` coroutines on a pool of connections have enqueued `count` jobs, one a commit."""
    first = await _fresh(dsn)
    size = min(callers, CONNECTIONS)
    async with _library("asyncpg").create_pool(_named(dsn), min_size=size, max_size=size) as pool:
        driver = _library("pgqueuer.db").AsyncpgPoolDriver(pool)
        queries = _library("pgqueuer.queries").Queries(driver)

        async def caller(share: int) -> None:
            for _ in range(share):
                await queries.enqueue("noop", None)

        watch = Stopwatch()
        async with asyncio.TaskGroup() as group:
            for number in range(callers):
                group.create_task(caller(count // callers + (number < count % callers)))
        took = watch.read()
    books.expect("PgQueuer jobs queued", await first.fetchval("SELECT count(*) FROM pgqueuer"), count)
    await first.close()
    return took


def _library(name: str) -> Any:
    """A module that only this measurement needs, and that need not be installed."""
    return import_module(name)
