"""The server that carries the application: uvicorn without its own signals, wake-ups and log, and with a bound."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from goclaw.gateway.websocket import SocketProtocol
from goclaw.wire.frames import FRAME_BYTES, dump

FILES = 65_536
"""Descriptors asked of the system; more would slow down the children of tools that walk over theirs."""
RESERVED_FILES = 512
"""What connections leave to everything else: the database, tools, log files, providers."""
_SATURATED = {"code": "SATURATED", "message": "the daemon has no connection left; close some", "retryable": True}
_BODY = dump({"error": _SATURATED}).encode()
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nconnection: close\r\nretry-after: 1\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(_BODY), _BODY)
)


class BoundedProtocol(H11Protocol):
    """uvicorn's HTTP, where the first connection that is too many is told so instead of waiting to be accepted."""

    def connection_made(self, transport: Any) -> None:
        """As uvicorn's, up to the bound; then 503, and closed."""
        super().connection_made(transport)
        if self.limit_concurrency is not None and len(self.connections) > self.limit_concurrency:
            transport.write(_FULL)
            transport.close()


class Server(uvicorn.Server):
    """uvicorn on a socket that is already bound. The daemon owns the signals and says when to stop."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=BoundedProtocol,
                ws=SocketProtocol,
                ws_max_size=FRAME_BYTES,
                ws_ping_interval=None,
                ws_per_message_deflate=False,
                limit_concurrency=allow_connections(),
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                timeout_graceful_shutdown=2,
            )
        )
        self._stop = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """No signal handlers: the daemon has its own."""
        yield

    async def main_loop(self) -> None:
        """Wait for `stop`. The stock loop wakes ten times a second, also when nobody is connected."""
        await self._stop.wait()

    def stop(self) -> None:
        """Close the sockets and let `serve` return."""
        self.should_exit = True
        self._stop.set()


def allow_connections() -> int:
    """Ask the system for descriptors, up to its hard limit; the number of connections that leaves."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(hard, FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    have = FILES if soft == resource.RLIM_INFINITY else soft
    return max(have - RESERVED_FILES, have // 2)
