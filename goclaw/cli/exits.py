"""Exit codes, and what becomes one: an answer of the daemon, a task that ended, any error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from goclaw.errors import (
    BadRequest,
    Denied,
    GoclawError,
    NotAuthorized,
    NotFound,
    ProviderError,
    RpcError,
    Unreachable,
    WaitTimeout,
)

OK = 0
FAILURE = 1
USAGE = 2
UNREACHABLE = 3
NOT_AUTHORIZED = 4
DENIED = 5
NOT_FOUND = 6
TIMEOUT = 7
PROVIDER = 8
INTERRUPTED = 130

_BY_RPC = {
    -32602: USAGE,
    401: NOT_AUTHORIZED,
    4030: DENIED,
    4040: NOT_FOUND,
    5030: PROVIDER,
    5040: TIMEOUT,
}
_BY_WORD = {
    "UNAUTHORIZED": NOT_AUTHORIZED,
    "POLICY_DENIED": DENIED,
    "TIMEOUT": TIMEOUT,
    "DEADLINE": TIMEOUT,
    "RATE_LIMITED": PROVIDER,
    "NO_PROVIDER": PROVIDER,
    "CONTEXT_OVERFLOW": PROVIDER,
}
_BY_CLASS: tuple[tuple[type[GoclawError], int], ...] = (
    (Unreachable, UNREACHABLE),
    (NotAuthorized, NOT_AUTHORIZED),
    (Denied, DENIED),
    (NotFound, NOT_FOUND),
    (WaitTimeout, TIMEOUT),
    (ProviderError, PROVIDER),
    (BadRequest, USAGE),
)


def of_error(error: GoclawError) -> int:
    """The exit code of a command that ended with `error`."""
    if isinstance(error, RpcError):
        return NOT_AUTHORIZED if error.word == "UNAUTHORIZED" else _BY_RPC.get(error.rpc_code, FAILURE)
    return next((code for kind, code in _BY_CLASS if isinstance(error, kind)), FAILURE)


def of_task(task: Mapping[str, Any]) -> int:
    """The exit code of a command that waited for `task`, which is terminal."""
    if task.get("state") == "SUCCEEDED":
        return OK
    word = str(task.get("error_code") or "")
    return PROVIDER if word.startswith("PROVIDER_") else _BY_WORD.get(word, FAILURE)
