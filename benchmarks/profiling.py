"""Where the time of a task goes: the loop's thread against the writer's, by the processor's clock and by function."""

from __future__ import annotations

import asyncio
import cProfile
import io
import os
import pstats
import re
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import books
from benchmarks.ours import Kernel, Watch, work

WORKERS = 50
TOP = 18
STATEMENT_CHARS = 110
_VALUES = re.compile(r"'[^']*'|\b\d+\b|x'[0-9a-fA-F]*'")
ROOT = Path(__file__).parents[1]
_NOISE = re.compile(rf"{re.escape(str(ROOT))}/|{re.escape(sys.base_prefix)}/lib/|{re.escape(sys.prefix)}/lib/")


def lines(folder: Path, count: int) -> Iterator[str]:
    """The split of a plain run, then what each thread did in a run with the profiler on that thread."""
    yield ""
    yield from _split(folder, count)
    if sys.version_info < (3, 12):
        for thread in ("loop", "writer"):
            yield ""
            yield f"{thread} thread by own time (the profiler slows it: read the shares)"
            yield from _profiled(folder, count, _Profiler(thread))
    else:
        yield "left out: functions by thread: from Python 3.12 on cProfile mixes the calls of all threads; use 3.11"
    yield ""
    yield "writer thread by statement: from its start to the start of the next, so with the Python in between"
    yield from _by_statement(folder, count)


# `write`, not `apply`: a brief request of a lone caller may be carried out on the loop's own thread.


class _Clocks(Watch):
    """Processor time of the two threads and inside the operating system, and commits, between begin and end."""

    def __init__(self) -> None:
        self._clocks: dict[str, int] = {}
        self._begun: dict[str, float] = {}
        self.spent: dict[str, float] = {}

    async def begin(self, made: Kernel) -> None:
        self._clocks = {"writer": await made.database.write(_clock_of_thread), "loop": _clock_of_thread()}
        self._begun = self._read(made)

    async def end(self, made: Kernel) -> None:
        self.spent = {name: now - self._begun[name] for name, now in self._read(made).items()}

    def _read(self, made: Kernel) -> dict[str, float]:
        seconds = {name: time.clock_gettime(clock) for name, clock in self._clocks.items()}
        return seconds | {"system": os.times().system, "commits": float(made.database.commits)}


def _clock_of_thread(_: sqlite3.Connection | None = None) -> int:
    return time.pthread_getcpuclockid(threading.get_ident())


def _split(folder: Path, count: int) -> Iterator[str]:
    path, clocks = _fresh(folder), _Clocks()
    took = asyncio.run(work(path, count, WORKERS, clocks))
    books.audit(path, succeeded=count)
    spent, us = clocks.spent, 1e6 / count
    both = spent["loop"] + spent["writer"]
    rate, ends = count / took.wall, count / spent["commits"]
    yield f"{WORKERS} workers, {count:,} tasks: {rate:,.0f}/s, {ends:.1f} ends a commit"
    yield f"  {took.wall * us:6.1f} us a task in all"
    for name in ("loop", "writer"):
        share = spent[name] / took.wall
        yield f"  {spent[name] * us:6.1f} us the {name} thread on a processor ({share:.0%} of the time)"
    yield f"  {spent['system'] * us:6.1f} us of these inside the operating system"
    yield f"  {max(took.wall - both, 0) * us:6.1f} us at least with neither on a processor: the disk, the handing over"


class _Profiler(Watch):
    """cProfile on one of the two threads, as it works up to Python 3.11."""

    def __init__(self, thread: str) -> None:
        self.profile = cProfile.Profile()
        self._on_loop = thread == "loop"

    async def begin(self, made: Kernel) -> None:
        if self._on_loop:
            self.profile.enable()
        else:
            await made.database.write(self._start)

    async def end(self, made: Kernel) -> None:
        if self._on_loop:
            self.profile.disable()
        else:
            await made.database.write(self._stop)

    def _start(self, _: sqlite3.Connection) -> None:
        self.profile.enable()

    def _stop(self, _: sqlite3.Connection) -> None:
        self.profile.disable()


def _profiled(folder: Path, count: int, profiler: _Profiler) -> Iterator[str]:
    path = _fresh(folder)
    asyncio.run(work(path, count, WORKERS, profiler))
    books.audit(path, succeeded=count)
    told = io.StringIO()
    pstats.Stats(profiler.profile, stream=told).sort_stats("tottime").print_stats(TOP)
    for line in told.getvalue().splitlines():
        if re.match(r"\s*(\d|ncalls)", line):
            yield "  " + _NOISE.sub("", line)


class _Tracer(Watch):
    """Time by statement, as SQLite announces them; statements of triggers count for themselves."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.times: Counter[str] = Counter()
        self._running = ""
        self._since = 0.0

    async def begin(self, made: Kernel) -> None:
        await made.database.write(self._trace, self._note)

    async def end(self, made: Kernel) -> None:
        await made.database.write(self._trace, None)

    def _trace(self, conn: sqlite3.Connection, callback: Callable[[str], None] | None) -> None:
        self._since = time.perf_counter()
        conn.set_trace_callback(callback)

    def _note(self, statement: str) -> None:
        now = time.perf_counter()
        self.seconds[self._running] += now - self._since
        self._running = _VALUES.sub("?", statement)[:STATEMENT_CHARS].replace("\n", " ")
        self.times[self._running] += 1
        self._since = time.perf_counter()


def _by_statement(folder: Path, count: int) -> Iterator[str]:
    path, tracer = _fresh(folder), _Tracer()
    asyncio.run(work(path, count, WORKERS, tracer))
    books.audit(path, succeeded=count)
    yield f"  {'us a task':>10} {'a task':>7}  statement"
    for statement, seconds in sorted(tracer.seconds.items(), key=lambda row: -row[1])[:TOP]:
        yield f"  {seconds * 1e6 / count:10.1f} {tracer.times[statement] / count:7.2f}  {re.sub(' +', ' ', statement)}"


def _fresh(folder: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=folder)) / "bench.db"
