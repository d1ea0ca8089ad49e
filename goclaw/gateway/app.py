"""The one ASGI application: routes, and the server that carries it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from goclaw.errors import BindFailed
from goclaw.gateway.auth import PROTOCOL, Door, DoorRules
from goclaw.gateway.house import House
from goclaw.gateway.methods import all_methods
from goclaw.gateway.openai import openai_routes
from goclaw.gateway.ops import ops_routes
from goclaw.gateway.rpc import Dispatcher
from goclaw.gateway.stream import Connection
from goclaw.wire.frames import FRAME_BYTES


def build_app(house: House, rules: DoorRules) -> ASGIApp:
    """Every route behind the door."""
    dispatcher = Dispatcher(house, all_methods(house.extra_methods))

    async def websocket(socket_: WebSocket) -> None:
        offered = socket_.scope.get("subprotocols", ())
        await socket_.accept(subprotocol=PROTOCOL if PROTOCOL in offered else None)
        await Connection(socket_, house, dispatcher).serve()

    async def rpc(request: Request) -> Response:
        body = await _body(request)
        if body is None:
            return JSONResponse({"error": {"code": "TOO_LARGE", "message": "a request has at most 4 MiB"}}, 413)
        answer, _ = await dispatcher.answer(body)
        return Response(answer, 200, media_type="application/json") if answer else Response(status_code=204)

    routes: list[BaseRoute] = [
        WebSocketRoute("/ws", websocket),
        Route("/rpc", rpc, methods=["POST"]),
        *ops_routes(house),
        *openai_routes(house),
    ]
    return Door(Starlette(routes=routes, exception_handlers={404: _not_found}), rules)


async def _body(request: Request) -> bytes | None:
    """The body, or None when it is larger than a frame may be; no more than that is read."""
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > FRAME_BYTES:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


async def _not_found(request: Request, _: Exception) -> Response:
    return PlainTextResponse(f"there is nothing at {request.url.path}\n", 404)


class Server(uvicorn.Server):
    """uvicorn on a socket that is already bound. The daemon owns the signals and says when to stop."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                ws="websockets-sansio",
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


def bind(address: str) -> socket.socket:
    """A listening socket at HOST:PORT; port 0 takes any. Raises BindFailed naming a free port when it is taken."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if not port.isdecimal() or int(port) > 65_535 or not host:
        raise BindFailed(f"bind address {address!r} is not HOST:PORT")
    try:
        family = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, int(port)))
            listener.listen(2_048)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        free = _free_port(host)
        hint = f"; port {free} is free" if free else ""
        raise BindFailed(f"cannot bind {address}: {error.strerror or error}{hint}", address=address) from None
    listener.setblocking(False)
    return listener


def _free_port(host: str) -> int | None:
    try:
        with socket.socket() as probe:
            probe.bind((host, 0))
            return int(probe.getsockname()[1])
    except OSError:
        return None


__all__ = ["Server", "bind", "build_app"]
