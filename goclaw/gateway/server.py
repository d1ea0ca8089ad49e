"""The server that carries the application: uvicorn without its own signals, wake-ups and log."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from goclaw.wire.frames import FRAME_BYTES

LAST_WORD = "goclaw.last_word"
"""A key in a message: write it although the reader takes nothing; after the close, what is not taken is dropped."""
LAST_WORD_S = 30.0


class LastWordProtocol(WebSocketsSansIOProtocol):
    """A reader that takes nothing can still be told why it is cut off: the frames wait behind the full buffer."""

    async def send(self, message: Any) -> None:
        """As uvicorn's; a last word does not wait for room."""
        if LAST_WORD in message:
            self.writable.set()
            if message["type"] == "websocket.close":
                self.loop.call_later(LAST_WORD_S, self.transport.abort)
        await super().send(message)


class Server(uvicorn.Server):
    """uvicorn on a socket that is already bound. The daemon owns the signals and says when to stop."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                ws=LastWordProtocol,
                ws_max_size=FRAME_BYTES,
                ws_ping_interval=None,
                ws_per_message_deflate=False,
                lifespan="off",
                log_config=None,
                access_log=False,
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
