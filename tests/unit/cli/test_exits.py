"""Every ending has its exit code."""

from __future__ import annotations

import pytest

from goclaw.cli import exits
from goclaw.errors import (
    BadRequest,
    ConfigInvalid,
    Denied,
    GoclawError,
    HomeLocked,
    NotAuthorized,
    NotFound,
    ProviderUnavailable,
    RpcError,
    Unreachable,
    WaitTimeout,
)


@pytest.mark.spec("GC-RUN-102")
@pytest.mark.parametrize(
    ("rpc_code", "code"),
    [(4030, 5), (4040, 6), (5040, 7), (5030, 8), (-32602, 2), (401, 4), (-32603, 1), (4090, 1), (4290, 1)],
)
def test_an_error_of_the_daemon_has_its_code(rpc_code: int, code: int) -> None:
    assert exits.of_error(RpcError(rpc_code, "no", {"code": "SOMETHING"})) == code


@pytest.mark.spec("GC-RUN-102")
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Unreachable(), 3),
        (NotAuthorized(), 4),
        (Denied(), 5),
        (NotFound(), 6),
        (WaitTimeout(), 7),
        (ProviderUnavailable(), 8),
        (BadRequest(), 2),
        (HomeLocked(), 1),
        (ConfigInvalid(), 1),
    ],
)
def test_an_error_of_our_own_has_its_code(error: GoclawError, code: int) -> None:
    assert exits.of_error(error) == code


@pytest.mark.spec("GC-RUN-103")
@pytest.mark.parametrize(
    ("state", "word", "code"),
    [
        ("SUCCEEDED", None, 0),
        ("FAILED", "NOOP_FAILED", 1),
        ("DEAD_LETTER", "POISON", 1),
        ("CANCELED", "CANCELED", 1),
        ("FAILED", "OUTCOME_UNKNOWN", 1),
        ("FAILED", "POLICY_DENIED", 5),
        ("FAILED", "TIMEOUT", 7),
        ("CANCELED", "DEADLINE", 7),
        ("FAILED", "NO_PROVIDER", 8),
        ("FAILED", "PROVIDER_UNAVAILABLE", 8),
        ("DEAD_LETTER", "PROVIDER_AUTH", 8),
        ("DEAD_LETTER", "RATE_LIMITED", 8),
        ("FAILED", "CONTEXT_OVERFLOW", 8),
    ],
)
def test_a_task_that_ended_has_its_code(state: str, word: str | None, code: int) -> None:
    assert exits.of_task({"state": state, "error_code": word}) == code
