"""Events to many readers: live to 50 of them, beside one that takes nothing, and replayed to one.

Every reader must be told every event behind its cursor once and in order; a gap is an error, not a figure.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from benchmarks.books import expect
from benchmarks.gateway_place import cpu_seconds, daemon
from benchmarks.gateway_wire import Caller, hang_up
from tests.system.running import RunningDaemon

_EVENT = b'{"jsonrpc":"2.0","method":"session.event","params":{"event_id":'
BATCH = 500
BACKPRESSURE = 1008
NARROW = 4_096
CUT_OFF_S = 30


@dataclass(frozen=True, slots=True)
class Fanned:
    """Event frames a second over all readers, from the first submission to the last frame of the last reader."""

    per_second: float
    events_per_second: float
    cores: float
    cut_off: bool


class Reader:
    """Checks that the ids are gapless, and tells when it has reached one."""

    def __init__(self) -> None:
        self.last = 0
        self.gaps = 0
        self.goal = 0
        self.reached = asyncio.Event()

    def take(self, frame: bytes) -> None:
        if not frame.startswith(_EVENT):
            return
        number = int(frame[len(_EVENT) : frame.index(b",", len(_EVENT))])
        if number != self.last + 1:
            self.gaps += 1
        self.last = number
        if number >= self.goal:
            self.reached.set()

    async def until(self, goal: int) -> None:
        self.goal = goal
        if self.last < goal:
            self.reached.clear()
            await self.reached.wait()

    async def open(self, running: RunningDaemon, cursor: int | str, receive_bytes: int | None = None) -> Caller:
        caller = await Caller(self.take).open(running.url, running.token, receive_bytes)
        if isinstance(cursor, int):
            self.last = cursor
        answer = await caller.ask("session.events.subscribe", session_id="*", from_event_id=cursor)
        self.last = answer["latest_event_id"]
        return caller


async def _submit(running: RunningDaemon, tasks: int) -> None:
    caller = await Caller().open(running.url, running.token)
    for begun in range(0, tasks, BATCH):
        batch = [{"kind": "noop", "payload": {}}] * min(BATCH, tasks - begun)
        await caller.ask("task.submit_many", tasks=batch)
    await hang_up(caller.wire)


async def _fan(running: RunningDaemon, readers: int, tasks: int, *, events_each: int, stalled: bool) -> Fanned:
    many = [Reader() for _ in range(readers)]
    wires = [(await one.open(running, "latest")).wire for one in many]
    still = Reader()
    idle = await still.open(running, "latest", NARROW) if stalled else None
    if idle is not None:
        idle.wire.transport.pause_reading()
    first = many[0].last
    before, begun = cpu_seconds(running.pid), time.perf_counter()
    goal = first + tasks * events_each
    async with asyncio.TaskGroup() as group:
        group.create_task(_submit(running, tasks))
        for one in many:
            group.create_task(one.until(goal))
    seconds = time.perf_counter() - begun
    computed = cpu_seconds(running.pid) - before
    expect("gaps", sum(one.gaps for one in many), 0)
    cut_off = False
    if idle is not None:
        cut_off = await _cut_off(running, idle)
        expect("gaps of the reader that stalled", still.gaps, 0)
    await hang_up(*wires)
    sent = (goal - first) * readers
    return Fanned(sent / seconds, (goal - first) / seconds, computed / seconds, cut_off)


async def _cut_off(running: RunningDaemon, idle: Caller) -> bool:
    async with asyncio.timeout(CUT_OFF_S):
        # A thread reads the daemon's log.
        while not any(line.get("msg") == "reader cut off" for line in running.lines):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        idle.wire.transport.resume_reading()
        return bool(await idle.wire.ended == BACKPRESSURE)


def written(readers: int, tasks: int, *, stalled: bool = False) -> Fanned:
    """The gateway's part alone: workers are held, each task is one event, a thousand of them a commit."""
    with daemon() as running:
        running.call("system.pause")
        return asyncio.run(_fan(running, readers, tasks, events_each=1, stalled=stalled))


def working(readers: int, tasks: int) -> Fanned:
    """The whole daemon: each task runs and is four events."""
    with daemon() as running:
        return asyncio.run(_fan(running, readers, tasks, events_each=4, stalled=False))


async def _replays(running: RunningDaemon, events: int, runs: int) -> tuple[list[float], float]:
    await _submit(running, events)
    head = running.call("system.status")["db"]["latest_event_id"]
    taken = []
    before = cpu_seconds(running.pid)
    for _ in range(runs):
        one = Reader()
        caller = await Caller(one.take).open(running.url, running.token)
        one.last = head - events
        begun = time.perf_counter()
        answer = await caller.ask("session.events.subscribe", session_id="*", from_event_id=head - events)
        taken.append(time.perf_counter() - begun)
        expect("events replayed", (answer["replayed"], one.last, one.gaps), (events, head, 0))
        await hang_up(caller.wire)
    return sorted(seconds * 1000 for seconds in taken), (cpu_seconds(running.pid) - before) / runs * 1000


def replay(events: int, runs: int) -> tuple[list[float], float]:
    """Milliseconds from a subscription to its answer, which comes behind the last replayed event, the quickest first;
    and those that the daemon computed for one, its connection included."""
    with daemon() as running:
        running.call("system.pause")
        return asyncio.run(_replays(running, events, runs))
