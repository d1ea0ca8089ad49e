"""One measurement in a process of its own: `python -m benchmarks.cell NAME --count N --size K --folder F`.

A process apiece keeps one system's threads, garbage and page cache handles away from the next one's figure, and a crash
of a peer from the run. It prints one line of JSON: the figures by name. Wrong books end it with exit code 3.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

from benchmarks import books
from benchmarks.stopwatch import Took

WRONG_BOOKS = 3
Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Order:
    """What to measure: `count` tasks, `size` workers, callers or tasks in a group."""

    count: int
    size: int
    folder: Path
    dsn: str = ""
    rounds: int = 1

    @property
    def file(self) -> Path:
        """The database of this run."""
        return self.folder / "bench.db"


def _rate(order: Order, took: Took) -> Figures:
    return {"rate": order.count / took.wall, "processor_us": took.processor * 1e6 / order.count}


def raw_tasks(order: Order) -> Figures:
    from benchmarks import depth, raw

    depth.prefill(order.file, order.count)
    took = raw.work(order.file, order.count, order.size)
    books.audit(order.file, succeeded=order.count)
    return _rate(order, took)


def raw_submits(order: Order) -> Figures:
    from benchmarks import raw

    took = raw.submits(order.file, order.count, order.size)
    books.audit(order.file, queued=order.count)
    return _rate(order, took)


def our_tasks(order: Order) -> Figures:
    from benchmarks import ours

    took = asyncio.run(ours.work(order.file, order.count, order.size))
    books.audit(order.file, succeeded=order.count)
    return _rate(order, took)


def our_submits(order: Order) -> Figures:
    from benchmarks import ours

    took = asyncio.run(ours.submits(order.file, order.count, order.size))
    books.audit(order.file, queued=order.count)
    return _rate(order, took)


def our_pickup(order: Order) -> Figures:
    from benchmarks import ours

    after_ack, in_all = asyncio.run(ours.pickup(order.file, order.count))
    books.audit(order.file, succeeded=order.count)
    acked, called = quantiles(after_ack, n=100), quantiles(in_all, n=100)
    return {
        "p50_ms": acked[49] * 1000,
        "p99_ms": acked[98] * 1000,
        "submit_p50_ms": called[49] * 1000,
        "submit_p99_ms": called[98] * 1000,
    }


def our_depth(order: Order) -> Figures:
    from statistics import median

    from benchmarks import depth

    shallow, deep = asyncio.run(depth.compare(order.folder, order.size, order.count, order.rounds))
    return {
        "queued": order.size,
        "shallow": median(shallow),
        "deep": median(deep),
        "shallow_min": min(shallow),
        "shallow_max": max(shallow),
        "deep_min": min(deep),
        "deep_max": max(deep),
        # Neighbours on the machine come and go; what is compared stood side by side.
        "slower": 1 - median(there / here for here, there in zip(shallow, deep, strict=True)),
    }


def our_recovery(order: Order) -> Figures:
    from benchmarks import recovery

    found = recovery.recover(order.folder, order.count)
    return {
        "tasks": order.count,
        "ready_ms": found.ready_ms,
        "first_claim_ms": found.first_claim_ms,
        "peak_mb": found.peak_mb,
    }


def our_bytes(order: Order) -> Figures:
    from benchmarks import written

    passed, charged = asyncio.run(written.tasks(order.file, order.count, order.size))
    books.audit(order.file, succeeded=order.count)
    figures = {"passed": passed, "charged": charged}
    if written.strace() is not None:
        traced = order.folder / "traced"
        traced.mkdir()
        words = ["-m", "benchmarks.cell", "ours.marked", "--count", str(order.count), "--size", str(order.size)]
        figures["syncs"] = written.syncs(order.folder, [*words, "--folder", str(traced)]) / order.count
    return figures


def our_turns(order: Order) -> Figures:
    from benchmarks import turns

    found = turns.measure(order.folder, order.count)
    figures = {"passed": found.passed, "charged": found.charged}
    return figures if found.syncs is None else figures | {"syncs": found.syncs}


def our_marked(order: Order) -> Figures:
    from benchmarks import written

    asyncio.run(written.marked_work(order.file, order.count, order.size))
    books.audit(order.file, succeeded=order.count)
    return {}


def huey_tasks(order: Order) -> Figures:
    from benchmarks import huey_peer

    return _rate(order, huey_peer.work(order.file, order.count, order.size))


def huey_submits(order: Order) -> Figures:
    from benchmarks import huey_peer

    return _rate(order, huey_peer.submits(order.file, order.count, order.size))


def postgres_tasks(order: Order) -> Figures:
    from benchmarks import postgres_peer

    return _rate(order, asyncio.run(postgres_peer.work(order.dsn, order.count, order.size)))


def postgres_submits(order: Order) -> Figures:
    from benchmarks import postgres_peer

    return _rate(order, asyncio.run(postgres_peer.submits(order.dsn, order.count, order.size)))


CELLS: Mapping[str, Callable[[Order], Figures]] = {
    "raw.tasks": raw_tasks,
    "raw.submits": raw_submits,
    "ours.tasks": our_tasks,
    "ours.submits": our_submits,
    "ours.pickup": our_pickup,
    "ours.depth": our_depth,
    "ours.recovery": our_recovery,
    "ours.bytes": our_bytes,
    "ours.marked": our_marked,
    "ours.turns": our_turns,
    "huey.tasks": huey_tasks,
    "huey.submits": huey_submits,
    "postgres.tasks": postgres_tasks,
    "postgres.submits": postgres_submits,
}


def main() -> int:
    """Measure one cell and print its figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cell")
    parser.add_argument("name", choices=CELLS)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--dsn", default="")
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    try:
        figures = CELLS[given.name](Order(given.count, given.size, given.folder, given.dsn, given.rounds))
    except books.WrongBooks as error:
        print(f"wrong books in {given.name} {given.size}: {error}", file=sys.stderr)
        return WRONG_BOOKS
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
