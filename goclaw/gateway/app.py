"""The one ASGI application: every route, behind the door."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from goclaw.errors import TooLarge
from goclaw.gateway.auth import PROTOCOL, Door, DoorRules
from goclaw.gateway.bodies import CLIENT_LEFT, read_body
from goclaw.gateway.house import House
from goclaw.gateway.methods import all_methods
from goclaw.gateway.openai import openai_routes
from goclaw.gateway.ops import ops_routes
from goclaw.gateway.pipe import pipe_of
from goclaw.gateway.rpc import Dispatcher
from goclaw.gateway.stream import Connection
from goclaw.wire.frames import error_frame


def build_app(house: House, rules: DoorRules) -> ASGIApp:
    """Every route behind the door."""
    dispatcher = Dispatcher(house, all_methods(house.extra_methods))

    async def websocket(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        chosen = PROTOCOL if PROTOCOL in scope.get("subprotocols", ()) else None
        await send({"type": "websocket.accept", "subprotocol": chosen, "headers": []})
        await Connection(pipe_of(scope), house, dispatcher).serve()

    async def rpc(request: Request) -> Response:
        try:
            body = await read_body(request)
        except TooLarge as error:
            return Response(error_frame(None, error), 413, media_type="application/json")
        except ClientDisconnect:
            return Response(status_code=CLIENT_LEFT)
        answer, _ = await dispatcher.answer(body)
        return Response(answer, 200, media_type="application/json") if answer else Response(status_code=204)

    routes: list[BaseRoute] = [
        Route("/rpc", rpc, methods=["POST"]),
        *ops_routes(house),
        *openai_routes(house),
    ]
    pages = Starlette(routes=routes, exception_handlers={404: _not_found})

    async def front(scope: Scope, receive: Receive, send: Send) -> None:
        # A WebSocket stays inside this call for as long as it lives: the fewer frames around it, the less it holds.
        if scope["type"] == "websocket" and scope["path"] == "/ws":
            await websocket(scope, receive, send)
        else:
            await pages(scope, receive, send)

    return Door(front, rules)


async def _not_found(request: Request, _: Exception) -> Response:
    return PlainTextResponse(f"there is nothing at {request.url.path}\n", 404)
