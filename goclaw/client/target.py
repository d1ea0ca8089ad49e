"""Where the daemon is, and what opens it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from goclaw.config.home import GatewayInfo, Home, read_gateway
from goclaw.errors import NotAuthorized, Unreachable

DEFAULT_BIND = "127.0.0.1:18789"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a daemon is and what opens it.

    `guessed` says that nothing named this address or its token: whoever serves there may serve another home.
    """

    url: str
    token: str | None
    guessed: bool = False


Find = Callable[[], Target]
"""Looks the daemon up anew; asked before every connection, because a restart may move it."""


def find_daemon(home: Home, environ: Mapping[str, str], bind: str | None = None) -> Target:
    """The daemon meant by `bind`, else by GOCLAW_BIND_ADDR, else the one that serves `home`, else the default
    address. Port 0 names no address. The token is GOCLAW_AUTH_TOKEN, else the home's."""
    given = environ.get("GOCLAW_AUTH_TOKEN", "").strip()
    token = given or _token(home)
    for named in (bind, environ.get("GOCLAW_BIND_ADDR")):
        if named and not named.endswith(":0"):
            return Target(url_of(named), token)
    if (info := serving(home)) is not None:
        return Target(info.url.rstrip("/"), token)
    return Target(url_of(DEFAULT_BIND), token, guessed=not given)


def serving(home: Home) -> GatewayInfo | None:
    """What the daemon of `home` says of itself, when its process is alive. Not promised: that it answers."""
    info = read_gateway(home)
    if info is None or info.pid <= 0:
        return None
    try:
        os.kill(info.pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return info


def url_of(bind: str) -> str:
    """The http address behind HOST:PORT; an address that means "every interface" is asked on this machine."""
    host, _, port = bind.rpartition(":")
    host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]", "": "127.0.0.1"}.get(host, host)  # noqa: S104
    return f"http://{host}:{port}"


def refused(target: Target, status: int) -> Unreachable | NotAuthorized:
    """What an HTTP status instead of a WebSocket means."""
    if status not in (401, 403):
        return Unreachable(f"{target.url} answers, but not as a goclaw daemon (HTTP {status})")
    if target.guessed:
        return Unreachable(f"no goclaw daemon serves this home, and {target.url} does not accept its token")
    if not target.token:
        return NotAuthorized(f"the daemon at {target.url} asks for a token; set GOCLAW_AUTH_TOKEN")
    return NotAuthorized(f"the daemon at {target.url} does not accept the token of GOCLAW_AUTH_TOKEN or auth.token")


def _token(home: Home) -> str | None:
    try:
        return home.token.read_text("utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None
