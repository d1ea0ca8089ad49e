"""Models behind one port: Anthropic, everything that speaks OpenAI's chat completions, no model at all, and
several of these behind one another.

Every provider keeps the promises of `core.ports.Provider`: text chunks, then exactly one whole reply, or a
`ProviderError` that says whether trying again may help. The SDKs are imported in a thread when the first
request needs them, and only in this package.
"""

from __future__ import annotations

from collections.abc import Mapping

from goclaw.brain.providers.anthropic import AnthropicProvider
from goclaw.brain.providers.failover import Failover, OnModel
from goclaw.brain.providers.offline import OfflineProvider
from goclaw.brain.providers.openai import OpenAIProvider
from goclaw.brain.providers.settings import ClosableProvider, ProviderSettings
from goclaw.core.ports import Clock

__all__ = [
    "AnthropicProvider",
    "ClosableProvider",
    "Failover",
    "OfflineProvider",
    "OnModel",
    "OpenAIProvider",
    "ProviderSettings",
    "build_providers",
]


def build_providers(settings: Mapping[str, ProviderSettings], *, clock: Clock) -> dict[str, ClosableProvider]:
    """One provider for each entry, under the same name. Nothing is imported, connected or checked yet.

    Close each with `aclose` when the daemon stops.
    """
    return {name: _build(entry, clock) for name, entry in settings.items()}


def _build(settings: ProviderSettings, clock: Clock) -> ClosableProvider:
    match settings.kind:
        case "anthropic":
            return AnthropicProvider(settings, clock)
        case "openai":
            return OpenAIProvider(settings, clock)
        case "offline":
            return OfflineProvider(settings.name)
