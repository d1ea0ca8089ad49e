"""What the gateway holds out: as many connections as there are descriptors for, and clients that ask for too much."""

from __future__ import annotations

import asyncio
import json
import resource
import socket
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from goclaw.gateway.server import FILES
from tests.system.running import RunningDaemon
from tests.system.speaking import Speaker, speak

LIMITED = """
import resource, runpy
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
runpy.run_module("goclaw", run_name="__main__")
"""


def limited(home: Path, soft: int, hard: int) -> RunningDaemon:
    """A daemon that may open so many files."""
    return RunningDaemon(home, launcher=("-c", LIMITED.format(soft=soft, hard=hard)))


def soft_limit(pid: int) -> int:
    (line,) = [one for one in Path(f"/proc/{pid}/limits").read_text().splitlines() if one.startswith("Max open files")]
    return int(line.split()[3])


@pytest.mark.spec("GC-PERF-209")
async def test_a_connection_too_many_is_told_so_and_nobody_else_notices(tmp_path: Path) -> None:
    with limited(tmp_path / "home", 128, 128) as daemon:
        async with AsyncExitStack() as stack:
            clients: list[Speaker] = []

            async def open_many() -> None:
                for _ in range(128):
                    clients.append(await stack.enter_async_context(speak(daemon)))

            with pytest.raises(InvalidStatus) as caught:
                await open_many()
            assert caught.value.response.status_code == 503
            told = json.loads(caught.value.response.body)
            assert (told["error"]["code"], told["error"]["retryable"]) == ("SATURATED", True)
            assert len(clients) == 64, "half of so few descriptors; the others are for the database, tools, logs"
            for client in clients:
                assert (await client.ask("task.submit", kind="noop", payload={}))["state"] == "QUEUED"
            await clients[0].connection.close()
            again = await stack.enter_async_context(speak(daemon))
            assert (await again.ask("system.ping"))["pong"]
            assert not [line for line in daemon.lines if line.get("level") == "ERROR"]


@pytest.mark.spec("GC-PERF-209")
def test_the_daemon_takes_the_descriptors_that_the_system_allows(tmp_path: Path) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with limited(tmp_path / "home", 256, hard) as daemon:
        assert soft_limit(daemon.pid) == (FILES if hard == resource.RLIM_INFINITY else min(hard, FILES))


@pytest.mark.spec("GC-ACP-311")
async def test_a_client_that_sends_and_never_reads_is_not_read_without_end(tmp_path: Path) -> None:
    with RunningDaemon(tmp_path / "home") as daemon:
        host, _, port = daemon.url.removeprefix("http://").rpartition(":")
        narrow = socket.socket()
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        narrow.connect((host, int(port)))
        narrow.setblocking(False)
        async with speak(daemon, sock=narrow, max_queue=1, ping_interval=None) as rude, speak(daemon) as other:
            rude.connection.transport.pause_reading()
            frame = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "x" * 20_000, "params": {}})
            sent = 0

            async def send_until_nobody_takes_it() -> None:
                nonlocal sent
                while True:
                    async with asyncio.timeout(2):
                        await rude.connection.send(frame)
                    sent += 1

            with pytest.raises(TimeoutError):
                await send_until_nobody_takes_it()
            assert sent < 2_000, "at most 256 requests are worked on, and what the buffers between hold"
            assert (await other.ask("system.ping"))["pong"]
            rude.connection.transport.resume_reading()
            answered = 0
            while answered < sent:
                assert (await rude.hear())["error"]["code"] == -32601
                answered += 1
