"""Who may talk to the port: Host, then Origin, then the bearer token, all before a handshake or a body.

The Host check defeats DNS rebinding, the Origin check a web page that talks to localhost. The token is compared in
constant time over its hash and is never read from a query parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from goclaw.wire.frames import dump

PROTOCOL = "goclaw.v1"
_BEARER_PROTOCOL = "goclaw.bearer."
OPEN_PATHS = frozenset({"/healthz", "/readyz"})


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a connection is turned away."""

    status: int
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorRules:
    """The lists in force, read at each request so that a reload counts at once."""

    matches: Callable[[str], bool]
    """Whether a word is the token, in constant time."""
    hosts: Callable[[], Sequence[str]]
    origins: Callable[[], Sequence[str]]


class Door:
    """ASGI middleware around everything. What it refuses never reaches a route."""

    def __init__(self, app: ASGIApp, rules: DoorRules) -> None:
        self._app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a permitted connection on; answer any other with 401 or 403."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        refusal = self._check(scope, Headers(scope=scope))
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            await _refuse(scope, receive, send, refusal)

    def _check(self, scope: Scope, headers: Headers) -> Refusal | None:
        host = headers.get("host", "")
        if not _host_allowed(host, self._rules.hosts()):
            return Refusal(403, "HOST_REFUSED", "this Host is neither loopback nor listed in allowed_hosts")
        origin = headers.get("origin")
        if origin is not None and not _origin_allowed(origin, host, self._rules.origins()):
            return Refusal(
                403, "ORIGIN_REFUSED", "this Origin is neither the daemon's own nor listed in allowed_origins"
            )
        if scope["path"] in OPEN_PATHS:
            return None
        if not self._rules.matches(_token_of(headers, scope)):
            return Refusal(401, "UNAUTHORIZED", "send the bearer token of auth.token in the Authorization header")
        return None


def _host_allowed(host: str, listed: Sequence[str]) -> bool:
    name = _host_name(host)
    return name == "localhost" or _is_loopback(name) or name in listed or host in listed


def _origin_allowed(origin: str, host: str, listed: Sequence[str]) -> bool:
    if origin in listed:
        return True
    parts = urlsplit(origin)
    return parts.scheme in ("http", "https") and bool(host) and parts.netloc.lower() == host.lower()


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_loopback(name: str) -> bool:
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _token_of(headers: Headers, scope: Scope) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token:
        return token.strip()
    if scope["type"] == "websocket":
        for offered in scope.get("subprotocols", ()):
            if offered.startswith(_BEARER_PROTOCOL):
                return str(offered[len(_BEARER_PROTOCOL) :])
    elif scope["path"].startswith("/v1/"):
        # Where clients of the Anthropic dialect put the key.
        return headers.get("x-api-key", "")
    return ""


async def _refuse(scope: Scope, receive: Receive, send: Send, refusal: Refusal) -> None:
    if scope["path"].startswith("/v1/"):
        code = "invalid_api_key" if refusal.status == 401 else refusal.code.lower()
        error: dict[str, object] = {
            "message": refusal.message,
            "type": "invalid_request_error",
            "param": None,
            "code": code,
        }
    else:
        error = {"code": refusal.code, "message": refusal.message, "retryable": False}
    body = dump({"error": error}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if refusal.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    prefix = "http"
    if scope["type"] == "websocket":
        # A denial response needs the handshake to have been received (ASGI websocket.http.response extension).
        await receive()
        prefix = "websocket.http"
    start: Message = {"type": f"{prefix}.response.start", "status": refusal.status, "headers": headers}
    await send(start)
    await send({"type": f"{prefix}.response.body", "body": body})
