"""One WebSocket to the daemon: requests go out, answers and notifications come in."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from goclaw.client.target import Target, refused
from goclaw.errors import RpcError, Unreachable

REQUEST_BYTES = 4 * 1024 * 1024
ANSWER_BYTES = 64 * 1024 * 1024
"""The longest answer taken: a list of tasks carries payloads of up to 1 MiB each."""
OPEN_TIMEOUT_S = 5
CLOSE_TIMEOUT_S = 1


@dataclass(frozen=True, slots=True)
class Told:
    """A notification."""

    method: str
    params: Mapping[str, Any]


async def dial(target: Target, name: str) -> ClientConnection:
    """An open WebSocket, before the hello. Raises Unreachable, NotAuthorized."""
    if target.guessed and not target.token:
        raise _nobody(target, ConnectionRefusedError())
    try:
        return await connect(
            target.url.replace("http", "ws", 1) + "/ws",
            additional_headers={"Authorization": f"Bearer {target.token}"} if target.token else None,
            user_agent_header=name,
            compression=None,
            proxy=None,
            max_size=ANSWER_BYTES,
            open_timeout=OPEN_TIMEOUT_S,
            close_timeout=CLOSE_TIMEOUT_S,
        )
    except InvalidStatus as error:
        raise refused(target, error.response.status_code) from None
    except (OSError, WebSocketException, ValueError) as error:
        raise _nobody(target, error) from None


class Calls:
    """A connection on which many calls wait for their answers at once. Run `read` beside them."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.lost = False
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}

    async def ask(self, method: str, params: Mapping[str, Any]) -> Any:
        """The result. Raises RpcError, Unreachable."""
        number = next(self._ids)
        frame = _request(number, method, params)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            if self.lost:
                raise Unreachable("the connection to the daemon was lost")
            await self.connection.send(frame)
            return await answer
        except ConnectionClosed as error:
            raise Unreachable(closed(error)) from None
        finally:
            self._waiting.pop(number, None)

    async def read(self) -> None:
        """Hand every answer to its call, until the connection ends; then fail the rest. Never raises."""
        why = "the daemon closed the connection before it answered"
        try:
            async for frame in self.connection:
                self._take(_object(frame))
        except ConnectionClosed as error:
            why = closed(error)
        except Unreachable as error:
            why = error.message
            await self.connection.close()
        finally:
            self.lost = True
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(Unreachable(why))

    def _take(self, told: Mapping[str, Any]) -> None:
        number = told.get("id")
        if number is None and "error" in told:  # it could not read the id; requests are read in their order
            number = next(iter(self._waiting), None)
        answer = self._waiting.get(number) if isinstance(number, int) else None
        if answer is None or answer.done():
            return
        if "error" in told:
            answer.set_exception(_rpc_error(told["error"]))
        else:
            answer.set_result(told.get("result"))


class Line:
    """A connection with one request on it at a time, and notifications in between.

    Its methods raise RpcError, Unreachable and, when the connection ends, ConnectionClosed.
    """

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._ids = itertools.count(1)

    async def answer(self, method: str, params: Mapping[str, Any]) -> Any:
        """The result, where no notification matters."""
        async for item in self.streamed(method, params):
            if not isinstance(item, Told):
                return item
        return None

    async def streamed(self, method: str, params: Mapping[str, Any]) -> AsyncGenerator[Told | Any]:
        """The notifications that come before the answer, then the answer."""
        number = next(self._ids)
        await self._connection.send(_request(number, method, params))
        while True:
            told = await self._receive()
            if "method" in told:
                yield Told(str(told["method"]), told.get("params") or {})
            elif "error" in told and told.get("id") in (number, None):
                raise _rpc_error(told["error"])
            elif told.get("id") == number:
                yield told.get("result")
                return

    async def notifications(self) -> AsyncGenerator[Told]:
        """What comes without being asked, until the connection ends."""
        while True:
            told = await self._receive()
            if "method" in told:
                yield Told(str(told["method"]), told.get("params") or {})

    async def _receive(self) -> Mapping[str, Any]:
        return _object(await self._connection.recv())


def closed(error: ConnectionClosed) -> str:
    """Why a connection ended, in one sentence."""
    said = error.rcvd.reason if error.rcvd is not None else ""
    return "the connection to the daemon was lost" + (f" ({said})" if said else "")


def _nobody(target: Target, error: Exception) -> Unreachable:
    refused = isinstance(error, ConnectionRefusedError)
    if refused and target.guessed:
        return Unreachable("no goclaw daemon serves this home; start one with `goclaw daemon start`")
    why = "connection refused" if refused else str(error) or "no answer in time"
    return Unreachable(f"no goclaw daemon answers at {target.url} ({why})")


def _object(frame: str | bytes) -> Mapping[str, Any]:
    try:
        told = json.loads(frame)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise Unreachable("what answers there does not speak JSON-RPC")
    return told


def _request(number: int, method: str, params: Mapping[str, Any]) -> str:
    request = {"jsonrpc": "2.0", "id": number, "method": method, "params": dict(params)}
    frame = json.dumps(request, separators=(",", ":"))
    if len(frame) > REQUEST_BYTES:  # the daemon would close the connection, and fail what else waits there
        data = {"code": "TOO_LARGE", "retryable": False, "limit": REQUEST_BYTES}
        raise RpcError(4130, f"the request has {len(frame)} bytes; the limit is {REQUEST_BYTES}", data)
    return frame


def _rpc_error(wire: Mapping[str, Any]) -> RpcError:
    return RpcError(int(wire["code"]), str(wire["message"]), wire.get("data") or {})
