"""Mixed load for minutes to hours: `python -m tests.system.drill_soak --minutes 60 --seed 7`.

Clients submit work of every kind, a watcher follows all events over connections that come and go, and an observer
takes a sample every other second: memory, open files, threads, the WAL, how long a ping takes. At the end the books are
compared, and what must stay bounded must have: none of them may be above its limit or still be growing.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from websockets.exceptions import WebSocketException

from tests.system.drills.books import Verdict
from tests.system.drills.command import Bounds, arguments, run
from tests.system.drills.work import Site
from tests.system.running import DaemonDied, RunningDaemon
from tests.system.speaking import speak

UNBOUNDED = "what must be bounded and is not"
GAPS = "events missed or told twice"
EVERY_S = 2.0
VISIT_S = (0.5, 4.0)
SETTLING = 0.25
"""The part of a run that may still grow: caches fill."""
MINIMUM = 60
"""Fewer samples than this (two minutes) say nothing about growth."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One look from outside."""

    rss_kib: int
    files: int
    threads: int
    wal_kib: int
    ping_ms: float


@dataclass(frozen=True, slots=True)
class Limit:
    """What one number may be at most, and by how much it may be larger at the end than after settling."""

    name: str
    of: Callable[[Sample], float]
    most: float
    growth: float


LIMITS = (
    Limit("memory, KiB", lambda sample: sample.rss_kib, 200 * 1024, 10 * 1024),
    Limit("open files", lambda sample: sample.files, 128, 12),
    Limit("threads", lambda sample: sample.threads, 64, 8),
    Limit("WAL, KiB", lambda sample: sample.wal_kib, 64 * 1024, 16 * 1024),
    Limit("ping, ms", lambda sample: sample.ping_ms, 2_000, 100),
)


def drill(folder: Path, bounds: Bounds) -> Verdict:
    """The whole drill: one life, not disturbed."""
    verdict = Verdict(UNBOUNDED, GAPS)
    site = Site(folder, bounds.seed, verdict)
    site.where = "under load"
    samples: list[Sample] = []
    with suppress(DaemonDied), site.life() as daemon:
        watcher = Watcher(daemon, verdict, bounds.seed)
        with watcher, site.clients(daemon):
            until = time.monotonic() + bounds.seconds
            while time.monotonic() < until and daemon.process is not None and daemon.process.poll() is None:
                samples.append(take(daemon))
                time.sleep(min(EVERY_S, bounds.seconds / 8))
        site.settle(daemon)
        if daemon.stop() != 0:
            verdict.fault(UNBOUNDED, "the daemon did not stop with exit code 0")
    site.inspect()
    verdict.count("samples", len(samples))
    for limit in LIMITS:
        judge(limit, samples, verdict)
    return verdict


def take(daemon: RunningDaemon) -> Sample:
    """One sample. A ping that is not answered raises OSError."""
    begun = time.monotonic()
    daemon.call("system.ping")
    ping_ms = (time.monotonic() - begun) * 1000
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{daemon.pid}/status").read_text().splitlines() if ":" in line
    )
    wal = daemon.home / "goclaw.db-wal"
    return Sample(
        rss_kib=int(status["VmRSS"].split()[0]),
        files=len(os.listdir(f"/proc/{daemon.pid}/fd")),
        threads=int(status["Threads"]),
        wal_kib=wal.stat().st_size // 1024 if wal.exists() else 0,
        ping_ms=ping_ms,
    )


def judge(limit: Limit, samples: Sequence[Sample], verdict: Verdict) -> None:
    """Compare the samples with a limit. Growth is told from medians: after settling, and in the last quarter."""
    values = [limit.of(sample) for sample in samples]
    if not values:
        return
    middle = statistics.median(values)
    told = f"first {values[0]:.0f}, median {middle:.0f}, last {values[-1]:.0f}, most {max(values):.0f}"
    verdict.notes.append(f"{limit.name:<14}{told}")
    if max(values) > limit.most:
        verdict.fault(UNBOUNDED, f"{limit.name}: {max(values):.0f}, more than {limit.most:.0f}")
    settled = values[int(len(values) * SETTLING) :]
    if len(values) >= MINIMUM:
        quarter = max(1, len(settled) // 4)
        early, late = statistics.median(settled[:quarter]), statistics.median(settled[-quarter:])
        if late - early > limit.growth:
            verdict.fault(UNBOUNDED, f"{limit.name}: {early:.0f} became {late:.0f}")


class Watcher:
    """Follows all events by cursor, over one connection after another; each must begin where the last one ended."""

    def __init__(self, daemon: RunningDaemon, verdict: Verdict, seed: int) -> None:
        self._daemon, self._verdict = daemon, verdict
        self._random = random.Random(seed)  # noqa: S311 (a drill must be repeatable)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._follow()))
        self._cursor = 0

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    async def _follow(self) -> None:
        with suppress(OSError, WebSocketException):
            while not self._stop.is_set():
                await self._visit(self._random.uniform(*VISIT_S))
                self._verdict.count("connections of the watcher")

    async def _visit(self, seconds: float) -> None:
        async with speak(self._daemon) as speaker:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await speaker.say("session.events.subscribe", session_id="*", from_event_id=self._cursor)
                    while True:
                        frame = await speaker.hear()
                        if frame.get("method") == "session.event":
                            self._take(int(frame["params"]["event_id"]))

    def _take(self, event_id: int) -> None:
        if event_id != self._cursor + 1:
            self._verdict.fault(GAPS, f"event {event_id} after {self._cursor}")
        self._cursor = event_id
        self._verdict.count("events followed")


def _drill(folder: Path, bounds: Bounds, options: argparse.Namespace) -> Verdict:
    return drill(folder, bounds)


def main() -> int:
    """The drill as a command."""
    return run(arguments("mixed load for minutes to hours; nothing may grow", rounds=1, minutes=5), _drill)


if __name__ == "__main__":
    sys.exit(main())
