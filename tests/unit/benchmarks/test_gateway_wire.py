"""The thin client of the gateway bench reads frames however they are cut, and a reader of it sees every gap."""

from __future__ import annotations

import asyncio
import json
import random

import pytest
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from benchmarks.gateway_fanout import Reader
from benchmarks.gateway_wire import Wire, masked
from goclaw.gateway.pipe import text_frame

UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n"
SIZES = (0, 1, 125, 126, 65_535, 65_536, 70_000)


@pytest.mark.spec("GC-PERF-201")
@pytest.mark.parametrize("seed", range(5))
async def test_frames_are_read_however_the_network_cuts_them(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 (a test wants the same dice again)
    texts = ["x" * size for size in SIZES]
    close = Frame(Opcode.CLOSE, (1008).to_bytes(2, "big") + b"why").serialize(mask=False)
    stream = UPGRADED + b"".join(map(text_frame, texts)) + close
    heard: list[bytes] = []
    wire = Wire(heard.append)
    while stream:
        cut = chance.choice((1, 3, 100, 40_000))
        wire.data_received(stream[:cut])
        stream = stream[cut:]
    await wire.upgraded
    assert heard == [text.encode() for text in texts]
    assert wire.closed == 1008


@pytest.mark.spec("GC-PERF-201")
def test_what_it_sends_is_a_clients_frame() -> None:
    server = ServerProtocol(state=State.OPEN, max_size=None)
    for size in SIZES:
        server.receive_data(masked(b"y" * size))
    assert server.parser_exc is None
    assert [len(frame.data) for frame in server.events_received() if isinstance(frame, Frame)] == list(SIZES)


@pytest.mark.spec("GC-PERF-203")
@pytest.mark.parametrize(("ids", "gaps"), [([5, 6, 7], 0), ([5, 7], 1), ([5, 5], 1), ([6, 5], 2)])
async def test_a_reader_counts_every_gap_and_every_repeat(ids: list[int], gaps: int) -> None:
    reader = Reader()
    reader.last = 4
    for number in ids:
        event = {"jsonrpc": "2.0", "method": "session.event", "params": {"event_id": number, "task_id": None}}
        reader.take(json.dumps(event, separators=(",", ":")).encode())
    reader.take(b'{"jsonrpc":"2.0","method":"agent.delta","params":{}}')
    assert reader.gaps == gaps
    async with asyncio.timeout(5):
        await reader.until(ids[-1])
