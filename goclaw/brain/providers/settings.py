"""What a provider is told before it starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from goclaw.core.ports import Provider

ProviderKind = Literal["anthropic", "openai", "offline"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSettings:
    """One provider as configured. `kind` is the protocol it speaks; `name` is what people call it.

    `base_url` None is the vendor's own address. `model` None asks an `openai` endpoint for the first model it
    lists (right for a local server that serves one) and is refused by `anthropic`. Times are milliseconds:
    the whole call, the silence between two pieces of the answer, and the connection.
    """

    name: str
    kind: ProviderKind
    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    model: str | None = None
    max_tokens: int | None = None
    timeout_ms: int = 600_000
    idle_timeout_ms: int = 300_000
    connect_timeout_ms: int = 10_000


class ClosableProvider(Provider, Protocol):
    """A provider that may hold connections."""

    async def aclose(self) -> None:
        """Give the connections back. Idempotent; a stream that is still open fails."""
        ...
