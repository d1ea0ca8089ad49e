"""The processes that the gateway bench talks to: a daemon on a home of its own, and a bare echo on the same server."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.system.running import RunningDaemon

PROFILE = "GATEWAY_BENCH_PROFILE"
"""A file: the daemon of the bench runs under cProfile and leaves its figures there. The product knows nothing of it."""
_ECHO = """
import asyncio, socket, sys
import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocketDisconnect
from goclaw.gateway.pipe import pipe_of, text_frame
from goclaw.gateway.server import Server

class Echo:
    def __init__(self, pipe):
        self.pipe, self.ended = pipe, asyncio.get_running_loop().create_future()
    def take(self, message):
        self.pipe.write(text_frame(message))
    def left(self):
        self.ended.done() or self.ended.set_result(None)

async def by_pipe(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept", "headers": []})
    one = Echo(pipe_of(scope))
    one.pipe.listen(one)
    await one.ended

async def echo(socket_):
    await socket_.accept()
    try:
        while True:
            await socket_.send_text(await socket_.receive_text())
    except WebSocketDisconnect:
        return

app = Starlette(routes=[WebSocketRoute("/ws", echo)])
ours = {"pipe": by_pipe, "starlette": app}
if sys.argv[1] in ours:
    server = Server(ours[sys.argv[1]])
else:
    stock = {"lifespan": "off", "access_log": False, "log_config": None, "ws": sys.argv[1]}
    stock |= {"ws_ping_interval": None, "ws_per_message_deflate": False}
    server = uvicorn.Server(uvicorn.Config(app, **stock))
listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
listener.setblocking(False)
print(listener.getsockname()[1], flush=True)
asyncio.run(server.serve(sockets=[listener]))
"""
ECHOES = {
    "goclaw's pipe": "pipe",
    "starlette on goclaw's server": "starlette",
    "starlette on uvicorn, websockets-sansio": "websockets-sansio",
    "starlette on uvicorn, wsproto": "wsproto",
}
"""Ways to carry a WebSocket, by name; wsproto only where it is installed."""


def allow_many_files() -> None:
    """As many descriptors as the system lets this user have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextmanager
def daemon(**settings: str) -> Iterator[RunningDaemon]:
    """A real daemon process; `settings` are environment variables."""
    launcher = ("-m", "goclaw")
    if os.environ.get(PROFILE):
        launcher = ("-m", "benchmarks.gateway_profiled")
        settings = {**settings, PROFILE: os.environ[PROFILE]}
    with (
        tempfile.TemporaryDirectory(prefix="gateway-bench-") as folder,
        RunningDaemon(Path(folder) / "home", env=settings, launcher=launcher) as running,
    ):
        yield running
        if os.environ.get(PROFILE) and running.process is not None and running.process.poll() is None:
            running.stop()


@dataclass(frozen=True, slots=True)
class Echo:
    """A server that answers each frame with itself."""

    url: str
    pid: int


@contextmanager
def echo(way: str = "starlette on goclaw's server") -> Iterator[Echo]:
    """A bare echo in a process of its own: what a way to carry a WebSocket can do when nothing else is done."""
    with subprocess.Popen([sys.executable, "-c", _ECHO, ECHOES[way]], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Echo(f"http://127.0.0.1:{process.stdout.readline().strip()}", process.pid)
        finally:
            process.send_signal(signal.SIGKILL)


def rss_bytes(pid: int) -> int:
    """What a process holds in memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(pid)


def cpu_seconds(pid: int) -> float:
    """What a process has computed so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def missing(home: Path, task_ids: Sequence[str]) -> int:
    """How many acknowledged tasks are not in the database."""
    with closing(sqlite3.connect(home / "goclaw.db")) as conn:
        stored = {row[0] for row in conn.execute("SELECT id FROM tasks")}
    return len(set(task_ids) - stored) + len(task_ids) - len(set(task_ids))
