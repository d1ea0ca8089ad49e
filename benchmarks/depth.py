"""Does a long queue slow the claim? The same work with 1,000 and with very many tasks behind it, in turn."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from time import perf_counter

from benchmarks import books, raw
from benchmarks.ours import Counting, Kernel, kernel, stop

SHALLOW = 1_000
WORKERS = 50
FILL_GROUP = 10_000
PATIENCE_MS = 10_000


async def compare(folder: Path, deep: int, share: int, rounds: int) -> tuple[list[float], list[float]]:
    """Tasks/s with SHALLOW and with `deep` tasks queued behind the `share` that is timed, one of each a round."""
    depths = (SHALLOW, deep)
    paths = [folder / f"depth-{depth}.db" for depth in depths]
    filled = [depth + share * (rounds + 1) for depth in depths]
    for path, count in zip(paths, filled, strict=True):
        prefill(path, count)
    rates: tuple[list[float], list[float]] = ([], [])
    done = [0, 0]
    async with AsyncExitStack() as stack:
        kernels = [await stack.enter_async_context(kernel(path, WORKERS)) for path in paths]
        for number in range(rounds + 1):
            for which in (0, 1) if number % 2 else (1, 0):
                rate, begun = await _share(kernels[which], share)
                done[which] += begun
                if number:  # the first of each warms the caches
                    rates[which].append(rate)
    for path, count, finished in zip(paths, filled, done, strict=True):
        books.audit(path, succeeded=finished, queued=count - finished)
    return rates


async def _share(made: Kernel, share: int) -> tuple[float, int]:
    """Tasks begun a second for the first `share`, and how many were begun until the workers had left."""
    fresh = made.renewed()
    handler = Counting(fresh.clock, share)
    pool = fresh.pool(handler)
    begun = perf_counter()
    running = asyncio.create_task(pool.run())
    await handler.all_begun.wait()
    took = perf_counter() - begun
    await pool.drain(PATIENCE_MS)
    await stop(running)
    return share / took, handler.begun


def prefill(path: Path, count: int, payload: str = "{}") -> None:
    """A database with `count` queued tasks, as submissions would have left it: inputs, events, chain and depth."""
    filling = raw.Raw(path)
    raw.fill(filling, count, FILL_GROUP, payload)
    filling.close()
