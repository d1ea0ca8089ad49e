"""What an idle WebSocket connection costs the daemon: resident memory, with thousands of them open."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from benchmarks.books import expect
from benchmarks.gateway_place import allow_many_files, cpu_seconds, daemon, echo, rss_bytes
from benchmarks.gateway_wire import Wire, connect, hang_up, request

AT_ONCE = 200
SETTLE_S = 1.0
SILENT_S = 3.0


@dataclass(frozen=True, slots=True)
class Idle:
    """Bytes a connection: of the whole process, and of what the connections added to it."""

    whole: float
    added: float
    base: int
    opened_per_second: float
    computed_while_idle: float


HELLO = request(0, "system.hello", {"version": "1.0"})
LIVE = request(1, "session.events.subscribe", {"session_id": "*", "from_event_id": "latest"})


@dataclass(frozen=True, slots=True)
class Place:
    """Where connections are opened, and what each of them says before it is silent."""

    url: str
    token: str
    pid: int
    words: tuple[bytes, ...]

    async def open(self) -> Wire:
        heard: asyncio.Queue[bytes] = asyncio.Queue()
        wire = await connect(self.url, self.token, heard.put_nowait)
        for word in self.words:
            wire.transport.write(word)
            await heard.get()
        wire.take = _nothing
        return wire


def _nothing(_: bytes) -> None:
    """What comes now is of no interest."""


async def _measure(place: Place, count: int) -> Idle:
    warm = [await place.open() for _ in range(20)]
    await hang_up(*warm)
    base = rss_bytes(place.pid)
    wires: list[Wire] = []
    loop = asyncio.get_running_loop()
    begun = loop.time()
    while len(wires) < count:
        wires += await asyncio.gather(*(place.open() for _ in range(min(AT_ONCE, count - len(wires)))))
    seconds = loop.time() - begun
    await asyncio.sleep(SETTLE_S)
    computed = cpu_seconds(place.pid)
    await asyncio.sleep(SILENT_S)
    computed = cpu_seconds(place.pid) - computed
    held = rss_bytes(place.pid)
    expect("connections that were closed", sum(wire.transport.is_closing() for wire in wires), 0)
    await hang_up(*wires)
    return Idle(held / count, (held - base) / count, base, count / seconds, computed)


def idle(count: int, *, subscribed: bool = False) -> Idle:
    """Connections to a daemon that said hello, or that also follow the event log, and then are silent."""
    allow_many_files()
    words = (HELLO, LIVE) if subscribed else (HELLO,)
    with daemon() as running:
        return asyncio.run(_measure(Place(running.url, running.token, running.pid, words), count))


def idle_echo(way: str, count: int) -> Idle:
    """The same against a bare echo."""
    allow_many_files()
    with echo(way) as place:
        return asyncio.run(_measure(Place(place.url, "", place.pid, (HELLO,)), count))
