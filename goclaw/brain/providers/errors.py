"""From whatever an SDK or its HTTP client raises to our one `ProviderError` tree.

The text a person sees is the provider's own, shortened and without keys; the exception itself stays as the
cause. Nothing here imports an SDK: errors are told apart by status, body and class name, which both SDKs
share.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import Any

from goclaw.core.ports import Clock
from goclaw.errors import (
    ContextOverflow,
    ProviderAuth,
    ProviderError,
    ProviderRefused,
    ProviderUnavailable,
    RateLimited,
)

TEXT_LIMIT = 300
RETRY_AFTER_LIMIT_MS = 24 * 3_600_000
ELSEWHERE = frozenset({"model_not_found", "billing", "tls", "address", "redirect"})
"""Kinds of refusal that say nothing about the request: another provider may well accept it."""

_STATUS_OF_WORD = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "insufficient_quota": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "context_length_exceeded": 400,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "api_error": 500,
    "server_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""An error that arrives inside a stream has no HTTP status of its own; its type or code stands for one."""

_BILLING = (
    "insufficient_quota",
    "billing_hard_limit",
    "billing_error",
    "credit balance",
    "insufficient credits",
)
_OVERFLOW = (
    "context length",
    "context_length",
    "context window",
    "context size",
    "maximum context",
    "prompt is too long",
    "input is too long",
    "too many tokens",
)
_NO_MODEL = ("model_not_found", "not a valid model", "invalid model", "model not found", "no such model")
_MISSING_MODEL = re.compile(r"model\b.{0,120}\b(does not exist|not found|is not available)")
_SECRETS = re.compile(r"\b(?:sk|pk|rk|key|gsk|xai)[-_][\w*.\-]{4,}|(?i:bearer)\s+[^\s'\"]+|://[^/\s@]+@")


_SENSELESS = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""What reading an answer raises that is not what its protocol promises."""


@contextmanager
def translated(provider: str, key: str | None, clock: Clock, foreign: tuple[type[Exception], ...]) -> Iterator[None]:
    """Let only `ProviderError` out of the block, for the errors in `foreign` and for answers that make no
    sense.

    Cancellation and our own errors pass untouched.
    """
    expected: tuple[type[Exception], ...] = (*foreign, *_SENSELESS)
    try:
        yield
    except ProviderError:
        raise
    except expected as error:
        raise classify(error, provider=provider, key=key, now_ms=clock.wall()) from error


def classify(error: Exception, *, provider: str, key: str | None, now_ms: int) -> ProviderError:
    """The decision an error stands for. `now_ms` (wall time) is for a Retry-After that names a date."""
    status = _status(error)
    words = _words(error)
    if status is None:
        return _without_status(error, provider, redact(words, key))
    text = f"{provider}: {redact(_message(error), key)} (status {status})"
    known: dict[str, Any] = {"provider": provider, "status": status}
    wait = _retry_after_ms(error, now_ms)
    if wait is not None:
        known["retry_after_ms"] = wait
    return _by_status(status, words.lower(), text, known)


def redact(text: str, key: str | None) -> str:
    """One line of at most 300 characters, without the key and without what looks like one."""
    if key:
        text = text.replace(key, "[key]")
    line = " ".join(_SECRETS.sub("[key]", text).split())
    return line if len(line) <= TEXT_LIMIT else line[: TEXT_LIMIT - 1] + "…"


def _by_status(status: int, words: str, text: str, known: Mapping[str, Any]) -> ProviderError:
    if any(word in words for word in _BILLING) or status == 402:
        return ProviderRefused(text, **known, kind="billing")
    if status == 429:
        return RateLimited(text, **known)
    if status in {401, 403}:
        return ProviderAuth(text, **known)
    if status in {408, 409, 425, 499} or status >= 500:
        return ProviderUnavailable(text, **known)
    if status == 413 or (status in {400, 422} and any(word in words for word in _OVERFLOW)):
        return ContextOverflow(text, **known)
    return ProviderRefused(text, **known, kind=_refusal(status, words))


def _refusal(status: int, words: str) -> str:
    if status == 404 or any(word in words for word in _NO_MODEL) or _MISSING_MODEL.search(words):
        return "model_not_found"
    return "redirect" if 300 <= status < 400 else "bad_request"


def _without_status(error: Exception, provider: str, words: str) -> ProviderError:
    causes = list(_causes(error))
    names = {base.__name__ for cause in causes for base in type(cause).__mro__}
    known = {"provider": provider}
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        text = f"{provider}: its certificate cannot be verified ({redact(str(causes[-1]), None)})"
        return ProviderRefused(text, **known, kind="tls")
    if names & {"TimeoutError", "TimeoutException", "APITimeoutError"}:
        return ProviderUnavailable(f"{provider} did not answer in time", **known)
    if names & {"UnsupportedProtocol", "InvalidURL", "LocalProtocolError"}:
        text = f"{provider}: its address or key cannot be used ({_name(causes[-1])})"
        return ProviderRefused(text, **known, kind="address")
    if names & {"TransportError", "OSError", "APIConnectionError"}:
        text = f"{provider} cannot be reached, or the connection broke ({_name(causes[-1])})"
        return ProviderUnavailable(text, **known)
    if "APIError" in names:
        return ProviderUnavailable(f"{provider}: {words}", **known)
    return ProviderUnavailable(f"{provider} sent something that is not an answer ({_name(error)})", **known)


def _name(error: BaseException) -> str:
    text = redact(str(error), None)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it came from, outermost first; a chain is short, and a circle must not hang us."""
    seen: BaseException | None = error
    for _ in range(10):
        if seen is None:
            return
        yield seen
        seen = seen.__cause__ or seen.__context__


def _status(error: Exception) -> int | None:
    status = getattr(error, "status_code", None)
    if isinstance(status, int) and status >= 300:
        return status
    detail = _detail(error)
    for word in (detail.get("code"), detail.get("type")):
        if isinstance(word, int | str):
            text = str(word)
            code = int(text) if re.fullmatch("[3-5][0-9]{2}", text) else _STATUS_OF_WORD.get(text)
            if code is not None:
                return code
    return None


def _detail(error: Exception) -> Mapping[str, Any]:
    """The error object of the body: Anthropic's SDK keeps the whole body, OpenAI's the inner object."""
    body = getattr(error, "body", None)
    if not isinstance(body, dict):
        return {}
    inner = body.get("error")
    return inner if isinstance(inner, dict) else body


def _message(error: Exception) -> str:
    message = _detail(error).get("message")
    return message if isinstance(message, str) and message.strip() else str(error)


def _words(error: Exception) -> str:
    detail = _detail(error)
    labels = [str(detail[name]) for name in ("type", "code") if detail.get(name)]
    return " ".join([*labels, _message(error)])


def _retry_after_ms(error: Exception, now_ms: int) -> int | None:
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    try:
        if "retry-after-ms" in headers:
            return _bounded(float(headers["retry-after-ms"]))
        if "retry-after" in headers:
            return _bounded(float(headers["retry-after"]) * 1000)
    except (ValueError, OverflowError):
        return _until(str(headers.get("retry-after", "")), now_ms)
    return None


def _until(date: str, now_ms: int) -> int | None:
    try:
        return _bounded(parsedate_to_datetime(date).timestamp() * 1000 - now_ms)
    except (ValueError, TypeError, OverflowError):
        return None


def _bounded(ms: float) -> int:
    return int(min(max(ms, 0.0), RETRY_AFTER_LIMIT_MS))
