"""Acknowledged submits a second over WebSocket: many clients, and one alone; each waits for its answer before the next.

When the count is reached the daemon is killed with SIGKILL, and every acknowledged id must be in its database.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from dataclasses import dataclass

from benchmarks.books import expect
from benchmarks.gateway_place import PROFILE, cpu_seconds, daemon, echo, missing
from benchmarks.gateway_wire import Wire, connect, hang_up, request


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


@dataclass(frozen=True, slots=True)
class Place:
    """Where frames are sent, and whose processor time is counted."""

    url: str
    token: str
    pid: int
    greets: bool


async def _opened(place: Place, one: Loop) -> Loop:
    if place.greets:
        greeting = asyncio.get_running_loop().create_future()
        one.wire = await connect(place.url, place.token, greeting.set_result)
        one.wire.transport.write(request(0, "system.hello", {"version": "1.0"}))
        await greeting
        one.wire.take = one.take
    else:
        one.wire = await connect(place.url, place.token, one.take)
    return one


async def _run(place: Place, clients: int, each: int) -> tuple[Rate, list[bytes]]:
    submit = {"kind": "noop", "payload": {}, "agent_id": "default"}
    frames = [request(number, "task.submit", submit) for number in range(each)]
    loops = [await _opened(place, Loop(each, frames)) for _ in range(clients)]
    before, begun = cpu_seconds(place.pid), time.perf_counter()
    for one in loops:
        one.next(begun)
    await asyncio.gather(*(one.done for one in loops))
    seconds = time.perf_counter() - begun
    computed = cpu_seconds(place.pid) - before
    await hang_up(*(one.wire for one in loops))
    waits = sorted(wait for one in loops for wait in one.waits)
    rate = Rate(
        per_second=len(waits) / seconds,
        cores=computed / seconds,
        p50_ms=waits[len(waits) // 2] * 1000,
        p99_ms=waits[len(waits) * 99 // 100] * 1000,
    )
    return rate, [answer for one in loops for answer in one.answers]


def submits(clients: int, each: int, *, working: bool) -> Rate:
    """The rate with the workers running what comes in, or held by a pause."""
    with daemon() as running:
        if not working:
            running.call("system.pause")
        rate, answers = asyncio.run(_run(Place(running.url, running.token, running.pid, True), clients, each))
        if os.environ.get(PROFILE):
            running.stop()
        else:
            running.kill()
        task_ids = [json.loads(answer)["result"]["task_id"] for answer in answers]
        expect("acknowledged tasks that are not in the database", missing(running.home, task_ids), 0)
    return rate


def round_trips(clients: int, each: int, way: str = "starlette on goclaw's server") -> Rate:
    """The same loop against a bare echo: frames of the same size, nothing stored."""
    with echo(way) as place:
        return asyncio.run(_run(Place(place.url, "", place.pid, False), clients, each))[0]
