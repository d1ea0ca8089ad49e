"""What a backup and a verification cost beside work, and how fast a verification is without it.

    python -m benchmarks.keeping [--tasks 100000] [--callers 20] [--folder DIR]

One process, as in the daemon: a queue at synchronous=FULL, callers that submit one task after the other without a
pause, eight lanes that do them. First nothing else happens for a while, then a backup is made, then the database is
verified beside the work; at the end the same verification runs alone.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from goclaw.clock import SystemClock
from goclaw.config.home import Home
from goclaw.core.agent import Agent
from goclaw.core.outcome import Succeeded
from goclaw.core.task import NewTask
from goclaw.db import Database
from goclaw.kernel.keeper import Keeper, verify_stopped
from goclaw.kernel.queue import Queue
from goclaw.kernel.restore import check_backup, restore

QUIET_S = 5
TASK = NewTask(kind="noop", payload={"result": "x" * 200})


@dataclass
class Site:
    """A home with a queue, and what was measured."""

    home: Home
    database: Database
    queue: Queue
    keeper: Keeper
    latencies: list[tuple[float, float]] = field(default_factory=list)
    wal: list[tuple[float, int]] = field(default_factory=list)
    over: bool = False

    async def submit(self) -> None:
        while not self.over:
            began = time.perf_counter()
            await self.queue.submit(TASK)
            self.latencies.append((began, time.perf_counter() - began))

    async def work(self) -> None:
        while not self.over:
            claimed = await self.queue.claim("default", 1)
            following = claimed[0] if claimed else None
            while following is not None:
                _, following = await self.queue.finish_and_claim(following.stored, Succeeded({"ok": True}))
            await asyncio.sleep(0.005)

    async def watch(self) -> None:
        wal = f"{self.home.database}-wal"
        while not self.over:
            self.wal.append((time.perf_counter(), os.stat(wal).st_size))
            await asyncio.sleep(0.02)

    def told(self, what: str, began: float, ended: float) -> None:
        """One line about what the callers met between two instants."""
        met = sorted(took for at, took in self.latencies if at + took >= began and at <= ended)
        wal = max(size for at, size in self.wal if began <= at <= ended + 0.05)
        p50, p99 = met[len(met) // 2] * 1e3, met[int(len(met) * 0.99)] * 1e3
        rate = len(met) / (ended - began)
        print(
            f"{what:<28}{ended - began:7.2f} s   {rate:7.0f} submits/s   p50 {p50:6.2f}   p99 {p99:6.2f}   "
            f"max {met[-1] * 1e3:6.1f} ms   WAL {wal / 1e6:6.1f} MB"
        )


async def fill(site: Site, tasks: int) -> None:
    """So many finished tasks, each with its four events."""
    for _ in range(tasks // 1_000):
        await site.queue.submit_many([TASK] * 1_000)

    async def lane() -> None:
        claimed = await site.queue.claim("default", 1)
        following = claimed[0] if claimed else None
        while following is not None:
            _, following = await site.queue.finish_and_claim(following.stored, Succeeded({"ok": True}))

    await asyncio.gather(*(lane() for _ in range(100)))


async def timed(site: Site, what: str, work: Callable[[], Awaitable[object]]) -> object:
    """Do it, and tell what the callers met meanwhile."""
    began = time.perf_counter()
    result = await work()
    site.told(what, began, time.perf_counter())
    return result


async def beside_work(site: Site, callers: int) -> None:
    """The measurements that need a load."""
    loads = [*(site.submit() for _ in range(callers)), *(site.work() for _ in range(8)), site.watch()]
    async with asyncio.TaskGroup() as group:
        for load in loads:
            group.create_task(load)
        await asyncio.sleep(2)
        await timed(site, "nothing else", lambda: asyncio.sleep(QUIET_S))
        for n in range(3):
            acknowledged = len(site.latencies)
            made = await timed(site, f"backup {n + 1}", lambda: site.keeper.create(None, secrets=False))
            print(f"{'':<28}{made.bytes / 1e6:7.1f} MB, {acknowledged} acknowledged before it began")  # type: ignore[attr-defined]
        report = await timed(site, "verify", site.keeper.verify)
        print(f"{'':<28}{report.events} events, {report.tasks} tasks, {report.found} findings")  # type: ignore[attr-defined]
        site.over = True


async def run(root: Path, tasks: int, callers: int) -> Home:
    """Everything that needs the queue."""
    home, clock = Home(root / "home"), SystemClock()
    home.root.mkdir(mode=0o700)
    agents = {"default": Agent(id="default", display_name="d", soul="", worker_count=8, max_queue_depth=10_000_000)}
    async with Database(home.database, clock) as database:
        queue = Queue(
            database, clock, boot_id="b", agents=lambda: agents, policy_version=lambda: "p", jitter=lambda: 0.0
        )
        keeper = Keeper(home, database, clock, "log", lambda *_, **__: None, lambda _: None)
        site = Site(home, database, queue, keeper)
        await fill(site, tasks)
        print(f"{tasks} finished tasks, {home.database.stat().st_size / 1e6:.1f} MB; {callers} callers")
        await beside_work(site, callers)
    return home


def alone(home: Home, root: Path) -> None:
    """The same without anybody else."""
    began = time.perf_counter()
    report = verify_stopped(home)
    took = time.perf_counter() - began
    print(f"verify of the stopped home  {took:7.2f} s   {report.events / took:7.0f} events/s   {report.found} findings")
    (path, *_) = sorted((home.root / "backups").glob("*.tar"))
    began = time.perf_counter()
    assert check_backup(path, SystemClock()).ok
    print(f"verify of a backup          {time.perf_counter() - began:7.2f} s")
    began = time.perf_counter()
    restore(path, Home(root / "fresh"), SystemClock())
    print(f"restore                     {time.perf_counter() - began:7.2f} s")
    print(f"most memory                 {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:7.0f} MB")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--callers", type=int, default=20)
    parser.add_argument("--folder", type=Path, default=None)
    given = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="goclaw-keeping-", dir=given.folder))
    try:
        alone(asyncio.run(run(root, given.tasks, given.callers)), root)
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
