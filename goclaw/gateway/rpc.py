"""Methods: a name, a parameter type, one capability and a function. Frame in, frame out.

Each request runs as a task of its own, started in the order of the frames. A mutation queues its write before its first
await, and the writer is first in, first out, so the mutations of a connection take effect in the order of its frames
while a slow one (waiting for a handler to end) holds up nobody.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Protocol

from goclaw.core.access import Access
from goclaw.errors import Denied, GoclawError, HelloRequired, MethodNotFound
from goclaw.gateway.house import House
from goclaw.gateway.pipe import Gone
from goclaw.wire.frames import Request, error_frame, parse_frame, result_frame, validate


@dataclass(slots=True, weakref_slot=True, eq=False)
class Subscribed:
    """One subscription on its way to go live: `replay` begins it, `join` or `leave` ends it.

    `cursor` is the position it has reached. `left` says that it was unsubscribed meanwhile; a later subscription to the
    same session is another one.
    """

    session_id: str
    cursor: int
    left: bool = False


class Peer(Protocol):
    """The other end of a connection that lasts; `Connection` says what each part promises."""

    greeted: bool

    def waiting(self) -> AbstractAsyncContextManager[None]:
        """For a block that may last: it holds up no other request, and is cut short when the client leaves."""
        ...

    async def replay(self, session_id: str, cursor: int) -> tuple[Subscribed, int]:
        """Send what lies behind the cursor; the subscription that begins with it, and how many were sent."""
        ...

    async def join(self, subscribed: Subscribed) -> None:
        """Go live from where its replay ended."""
        ...

    def leave(self, session_id: str) -> bool:
        """End a subscription."""
        ...

    def stream_deltas(self, task_id: str) -> None:
        """Pass on the deltas of a task."""
        ...

    async def end_deltas(self, task_id: str) -> None:
        """Send what is left of them."""
        ...


@dataclass(frozen=True, slots=True)
class Call:
    """One request on its way through a method. `peer` is None over `POST /rpc`."""

    house: House
    peer: Peer | None = None

    @property
    def connection(self) -> Peer:
        """The connection, for a method that needs one. Raises MethodNotFound."""
        if self.peer is None:
            raise MethodNotFound("this method needs a connection: use /ws")
        return self.peer

    def waiting(self) -> AbstractAsyncContextManager[None]:
        """For a block that may last. Raises Saturated when too many of this connection do."""
        return nullcontext() if self.peer is None else self.peer.waiting()


Function = Callable[[Call, Any], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Method:
    """One entry of a namespace's table. A method without a capability cannot be written down."""

    name: str
    params: type[Any]
    capability: str
    function: Function
    needs_socket: bool = False


@dataclass(frozen=True, slots=True)
class Later:
    """A result, and what is to happen after it was sent."""

    result: Any
    then: Callable[[], Awaitable[None]]


class Dispatcher:
    """All methods of the daemon."""

    def __init__(self, house: House, methods: Mapping[str, Method]) -> None:
        self._house = house
        self._methods = methods

    @property
    def names(self) -> tuple[str, ...]:
        """Every method, sorted."""
        return tuple(sorted(self._methods))

    async def answer(
        self, text: str | bytes, peer: Peer | None = None
    ) -> tuple[str | None, Callable[[], Awaitable[None]] | None]:
        """The answer to one frame (None to a notification), and what to do after it was sent. Never raises but for
        cancellation: the one place of the RPC door that turns any exception into a frame."""
        request: Request | None = None
        try:
            request = parse_frame(text)
            result = await self._call(request, peer)
        except GoclawError as error:
            request_id = request.id if request else error.data.get("id")
            wanted = request is None or request.answered
            return (error_frame(request_id, error) if wanted else None), None
        except Gone:
            return None, None
        except Exception as error:
            self._house.report(f"rpc {request.method if request else '?'}", error)
            internal = GoclawError("an internal error; see the log")
            wanted = request is None or request.answered
            return (error_frame(request.id if request else None, internal) if wanted else None), None
        then = None
        if isinstance(result, Later):
            result, then = result.result, result.then
        return (result_frame(request.id, result) if request.answered else None), then

    async def _call(self, request: Request, peer: Peer | None) -> Any:
        method = self._methods.get(request.method)
        if method is None:
            raise MethodNotFound(self._unknown(request.method))
        if method.needs_socket and peer is None:
            raise MethodNotFound(f"{method.name} needs a connection: use /ws")
        params = validate(method.params, request.params)
        if peer is not None and not peer.greeted and method.capability != "acp.read" and method.name != "system.hello":
            raise HelloRequired
        if method.name != "system.hello":
            decision = self._house.authorize(Access("client", method.capability, method.name))
            if not decision.allowed:
                raise Denied(f"policy denies {method.capability}: {decision.reason}", capability=method.capability)
        return await method.function(Call(self._house, peer), params)

    def _unknown(self, name: str) -> str:
        near = get_close_matches(name, self._methods, n=1)
        return f"unknown method {name!r}" + (f"; did you mean {near[0]}?" if near else "")
