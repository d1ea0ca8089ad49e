"""The daemon's figures, measured from another process over real sockets, each beside its goal.

    python -m benchmarks.gateway            some minutes
    python -m benchmarks.gateway --short    small counts, about a minute, for CI
    python -m benchmarks.gateway --only submits replay
    python -m benchmarks.gateway --servers  ways to carry a WebSocket, side by side
    GATEWAY_BENCH_PROFILE=FILE python -m benchmarks.gateway --only submits     the daemon under cProfile (pstats FILE)

Each figure has a daemon of its own on a fresh home. Counts are verified: every acknowledged task is in the database
after a SIGKILL, every reader was told every event once and in order; wrong books are an error, not a figure. Goals are
absolute, and disks and neighbours differ: the ratio to a bare starlette echo on the same server stands beside them.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.books import WrongBooks
from benchmarks.gateway_fanout import replay, working, written
from benchmarks.gateway_idle import idle, idle_echo
from benchmarks.gateway_place import ECHOES
from benchmarks.gateway_submits import round_trips, submits

READERS = 50
CLIENTS = 64
KB = 1_000


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. A goal of None is for information; `most` says that less is better."""

    text: str
    seen: float
    unit: str
    goal: float | None = None
    most: bool = False
    more: str = ""

    @property
    def verdict(self) -> str:
        """Whether the goal is reached."""
        if self.goal is None:
            return ""
        reached = self.seen <= self.goal if self.most else self.seen >= self.goal
        return "reached" if reached else "missed"

    def row(self) -> str:
        """As a line of a Markdown table."""
        goal = "" if self.goal is None else f"{'at most ' if self.most else ''}{self.goal:,.0f} {self.unit}"
        seen = f"{self.seen:,.{0 if self.seen >= 100 else 1}f} {self.unit}"
        return f"| {self.text} | {goal} | {seen} | {self.verdict} | {self.more} |"


def submit_figures(short: bool) -> Iterator[Figure]:
    """Acknowledged submits, with the workers at work and held, and the ceiling."""
    each, rounds = (30, 1) if short else (150, 3)
    ceiling = round_trips(CLIENTS, each * 2)
    alone = round_trips(1, each * 10)
    yield Figure(f"bare echo, {CLIENTS} clients", ceiling.per_second, "frames/s")
    yield Figure("bare echo, one client", alone.per_second, "frames/s")
    for held in (False, True):
        rates = [submits(CLIENTS, each, working=not held) for _ in range(rounds)]
        rate = sorted(rates, key=lambda one: one.per_second)[len(rates) // 2]
        more = (
            f"p50 {rate.p50_ms:.1f} ms, p99 {rate.p99_ms:.1f} ms; {rate.cores / rate.per_second * 1e6:.0f} us of a "
            f"processor each; {rate.per_second / ceiling.per_second:.2f} x bare echo"
        )
        what = "workers held" if held else "workers at work"
        yield Figure(f"acknowledged submits, {CLIENTS} clients, {what}", rate.per_second, "/s", 3_000, more=more)
    rates = [submits(1, each * 5, working=False) for _ in range(rounds)]
    seen = median(one.per_second for one in rates)
    yield Figure(
        "acknowledged submits, one client, workers held", seen, "/s", 400, more=f"p50 {rates[0].p50_ms:.2f} ms"
    )


def replay_figures(short: bool) -> Iterator[Figure]:
    """A thousand events to one reader."""
    taken, computed = replay(1_000, 5 if short else 30)
    more = f"worst {taken[-1]:.0f} ms; the daemon computed {computed:.0f} ms for it"
    yield Figure("1,000 events replayed, median", median(taken), "ms", 50, most=True, more=more)


def fanout_figures(short: bool) -> Iterator[Figure]:
    """Live events to fifty readers."""
    # More than the sockets of a reader hold, so that the one that takes nothing falls behind.
    tasks = 6_000 if short else 20_000
    plain = written(READERS, tasks)
    yield Figure(
        f"event frames to {READERS} readers, the gateway alone",
        plain.per_second,
        "/s",
        40_000,
        more=_cores(plain.cores),
    )
    stalled = written(READERS, tasks, stalled=True)
    more = (
        f"{stalled.per_second / plain.per_second:.2f} x without it; it was {'' if stalled.cut_off else 'NOT '}cut off"
    )
    yield Figure("the same beside a reader that takes nothing", stalled.per_second, "/s", 40_000, more=more)
    whole = working(READERS, tasks // 8)
    more = f"{whole.events_per_second:,.0f} events/s; {_cores(whole.cores)}"
    yield Figure(f"event frames to {READERS} readers, tasks running", whole.per_second, "/s", 40_000, more=more)


def idle_figures(short: bool) -> Iterator[Figure]:
    """Connections that are silent."""
    count = 2_000 if short else 10_000
    for subscribed in (False, True):
        seen = idle(count, subscribed=subscribed)
        # The whole process by connections is the goal at 10,000; with fewer, its own size would be counted too often.
        whole = (seen.added + seen.base / 10_000) / KB
        more = (
            f"{seen.added / KB:.1f} KB each beside {seen.base / KB / KB:.0f} MB; {seen.opened_per_second:,.0f} opened/s"
        )
        what = "following the log" if subscribed else "greeted"
        yield Figure(f"{count:,} idle connections, {what}", whole, "KB", 36, most=True, more=more)


GROUPS: dict[str, Callable[[bool], Iterator[Figure]]] = {
    "submits": submit_figures,
    "replay": replay_figures,
    "fanout": fanout_figures,
    "idle": idle_figures,
}


def server_figures(short: bool) -> Iterator[Figure]:
    """Ways to carry a WebSocket: memory of an idle connection, round trips of 64 clients and of one."""
    for way, name in ECHOES.items():
        if name == "wsproto" and importlib.util.find_spec("wsproto") is None:
            continue
        kept = idle_echo(way, 1_000 if short else 5_000)
        many, alone = round_trips(CLIENTS, 100 if short else 500, way), round_trips(1, 500 if short else 3_000, way)
        each_us = many.cores / many.per_second * 1e6
        more = (
            f"{many.per_second:,.0f} round trips/s of {CLIENTS} ({each_us:.0f} us each), {alone.per_second:,.0f} of one"
        )
        yield Figure(way, kept.added / KB, "KB", more=more)


def _cores(cores: float) -> str:
    return f"{cores:.2f} of a processor"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 when the books of a run are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gateway", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="small counts, about a minute")
    parser.add_argument("--only", nargs="+", choices=tuple(GROUPS), default=tuple(GROUPS), metavar="WHAT")
    parser.add_argument("--servers", action="store_true", help="ways to carry a WebSocket instead")
    chosen = parser.parse_args(arguments)
    print(f"{os.cpu_count()} processors, Python {sys.version.split()[0]}, load {os.getloadavg()[0]:.1f} at the start\n")
    print("| figure | goal | seen | | |\n|---|---|---|---|---|")
    groups = [server_figures] if chosen.servers else [GROUPS[name] for name in chosen.only]
    try:
        for group in groups:
            for figure in group(chosen.short):
                print(figure.row(), flush=True)
    except WrongBooks as wrong:
        print(f"wrong books: {wrong}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
