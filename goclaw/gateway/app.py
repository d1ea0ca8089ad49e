"""The one ASGI application: every route, behind the door."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from goclaw.errors import TooLarge
from goclaw.gateway.auth import PROTOCOL, Door, DoorRules
from goclaw.gateway.bodies import CLIENT_LEFT, read_body
from goclaw.gateway.house import House
from goclaw.gateway.methods import all_methods
from goclaw.gateway.openai import openai_routes
from goclaw.gateway.ops import ops_routes
from goclaw.gateway.rpc import Dispatcher
from goclaw.gateway.stream import Connection
from goclaw.wire.frames import error_frame


def build_app(house: House, rules: DoorRules) -> ASGIApp:
    """Every route behind the door."""
    dispatcher = Dispatcher(house, all_methods(house.extra_methods))

    async def websocket(socket_: WebSocket) -> None:
        offered = socket_.scope.get("subprotocols", ())
        await socket_.accept(subprotocol=PROTOCOL if PROTOCOL in offered else None)
        await Connection(socket_, house, dispatcher).serve()

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
        WebSocketRoute("/ws", websocket),
        Route("/rpc", rpc, methods=["POST"]),
        *ops_routes(house),
        *openai_routes(house),
    ]
    return Door(Starlette(routes=routes, exception_handlers={404: _not_found}), rules)


async def _not_found(request: Request, _: Exception) -> Response:
    return PlainTextResponse(f"there is nothing at {request.url.path}\n", 404)
