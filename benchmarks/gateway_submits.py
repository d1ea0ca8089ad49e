"""Acknowledged submits a second over WebSocket: many clients, and one alone; each waits for its answer before the next.

When the count is reached the daemon is killed with SIGKILL, and every acknowledged id must be in its database.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.books import expect
from benchmarks.gateway_place import PROFILE, cpu_seconds, daemon, echo, missing
from benchmarks.gateway_wire import Wire, connect, request
from tests.system.running import RunningDaemon


@dataclass(frozen=True, slots=True)
class Rate:
    """Answers a second over the whole run, and how much of a core the other process had for them."""

    per_second: float
    cores: float
    p50_ms: float
    p99_ms: float


class Loop:
    """One client in a closed loop: a frame, its answer, the next frame."""

    def __init__(self, count: int, frames: list[bytes]) -> None:
        self._count = count
        self._frames = iter(frames)
        self._sent = 0.0
        self.answers: list[bytes] = []
        self.waits: list[float] = []
        self.done = asyncio.get_running_loop().create_future()
        self.wire: Wire

    def take(self, frame: bytes) -> None:
        now = time.perf_counter()
        self.waits.append(now - self._sent)
        self.answers.append(frame)
        if len(self.answers) == self._count:
            self.done.set_result(None)
        else:
            self.next(now)

    def next(self, now: float) -> None:
        self._sent = now
        self.wire.transport.write(next(self._frames))


async def _run(url: str, token: str, clients: int, each: int, *, hello: bool) -> tuple[list[Loop], float]:
    submit = {"kind": "noop", "payload": {}, "agent_id": "default"}
    frames = [request(number, "task.submit", submit) for number in range(each)]
    loops = []
    for _ in range(clients):
        one = Loop(each, frames)
        if hello:
            greeting = asyncio.get_running_loop().create_future()
            one.wire = await connect(url, token, greeting.set_result)
            one.wire.transport.write(request(0, "system.hello", {"version": "1.0"}))
            await greeting
            one.wire.take = one.take
        else:
            one.wire = await connect(url, token, one.take)
        loops.append(one)
    begun = time.perf_counter()
    for one in loops:
        one.next(begun)
    await asyncio.gather(*(one.done for one in loops))
    return loops, time.perf_counter() - begun


def _rate(loops: list[Loop], seconds: float, computed: float) -> Rate:
    waits = sorted(wait for one in loops for wait in one.waits)
    return Rate(
        per_second=len(waits) / seconds,
        cores=computed / seconds,
        p50_ms=waits[len(waits) // 2] * 1000,
        p99_ms=waits[len(waits) * 99 // 100] * 1000,
    )


async def _submits(running: RunningDaemon, clients: int, each: int) -> tuple[Rate, list[str]]:
    before = cpu_seconds(running.pid)
    loops, seconds = await _run(running.url, running.token, clients, each, hello=True)
    rate = _rate(loops, seconds, cpu_seconds(running.pid) - before)
    for one in loops:
        one.wire.transport.abort()
    return rate, [json.loads(answer)["result"]["task_id"] for one in loops for answer in one.answers]


def submits(clients: int, each: int, *, working: bool) -> Rate:
    """The rate with the workers running what comes in, or held by a pause."""
    with daemon() as running:
        if not working:
            running.call("system.pause")
        rate, task_ids = asyncio.run(_submits(running, clients, each))
        if os.environ.get(PROFILE):
            running.stop()
        else:
            running.kill()
        expect("acknowledged tasks that are not in the database", missing(Path(running.home), task_ids), 0)
    return rate


def round_trips(clients: int, each: int, way: str = "starlette on goclaw's server") -> Rate:
    """The same loop against a bare echo: frames of the same size, nothing stored."""
    with echo(way) as place:
        before = cpu_seconds(place.pid)
        loops, seconds = asyncio.run(_run(place.url, "", clients, each, hello=False))
        return _rate(loops, seconds, cpu_seconds(place.pid) - before)
