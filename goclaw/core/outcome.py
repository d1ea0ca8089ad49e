"""How an attempt ends, as its handler or its worker says it; `core.settle` judges what follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from goclaw.core.chat import NewMessage
from goclaw.core.step import JournalEntry
from goclaw.errors import GoclawError


@dataclass(frozen=True, slots=True)
class Closing:
    """What an attempt writes in the commit that settles it: the end of its journal, and messages."""

    entries: tuple[JournalEntry, ...] = ()
    messages: tuple[NewMessage, ...] = ()


NOTHING_MORE = Closing()


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The work is done; `result` is JSON."""

    result: Any = None
    usage: Mapping[str, Any] | None = None
    closing: Closing = NOTHING_MORE


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt failed. `permanent` failures are not tried again; `retry_after_ms` is a minimum wait."""

    code: str
    message: str
    permanent: bool = False
    retry_after_ms: int = 0
    result: Any = None
    usage: Mapping[str, Any] | None = None
    closing: Closing = NOTHING_MORE


def failure(error: GoclawError, usage: Mapping[str, Any] | None = None, closing: Closing | None = None) -> Failed:
    """The outcome an error stands for: what can never succeed is permanent, a known waiting time is kept."""
    return Failed(
        error.code,
        error.message,
        permanent=not error.retryable,
        retry_after_ms=int(error.data.get("retry_after_ms") or 0),
        usage=usage,
        closing=closing or Closing(),
    )


@dataclass(frozen=True, slots=True)
class Unknown:
    """An effect that must not be repeated had begun and its end is not known."""

    message: str
    closing: Closing = NOTHING_MORE


@dataclass(frozen=True, slots=True)
class Canceled:
    """The attempt ended because it was asked to."""

    code: str = "CANCELED"
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class HandedBack:
    """The attempt was interrupted through no fault of its own (drain); its charge is given back."""


@dataclass(frozen=True, slots=True)
class Snoozed:
    """The handler wants to be called again after `delay_ms`; its charge is given back. What it journaled stays."""

    delay_ms: int
    closing: Closing = NOTHING_MORE


@dataclass(frozen=True, slots=True)
class Died:
    """The lease was found without a living holder after an unclean stop, or ran out in this boot."""

    lease_lost: bool = False


Outcome = Succeeded | Failed | Unknown | Canceled | HandedBack | Snoozed | Died
