"""The providers in force, and the chain that answers for an agent."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from goclaw.brain.providers import ClosableProvider, Failover, OnModel, ProviderSettings, build_providers
from goclaw.core.agent import Agent
from goclaw.core.ports import Clock, Emit, Provider

OFFLINE = "offline"


class Models:
    """Builds providers from settings and replaces them on reload; a call in flight ends on the one it began with."""

    def __init__(self, settings: Mapping[str, ProviderSettings], clock: Clock, emit: Emit) -> None:
        self._clock = clock
        self._emit = emit
        self._settings: dict[str, ProviderSettings] = {}
        self._providers: dict[str, ClosableProvider] = {}
        self._retired: list[ClosableProvider] = []
        self.adopt(settings)

    def adopt(self, settings: Mapping[str, ProviderSettings]) -> None:
        """Put these settings in force; a provider whose entry did not change stays as it is."""
        wanted = {OFFLINE: ProviderSettings(name=OFFLINE, kind="offline"), **settings}
        changed = {name: entry for name, entry in wanted.items() if self._settings.get(name) != entry}
        gone = [name for name in self._providers if name in changed or name not in wanted]
        self._retired += [self._providers.pop(name) for name in gone]
        self._providers |= build_providers(changed, clock=self._clock)
        self._settings = wanted

    def provider_for(self, agent: Agent, task_id: str | None = None) -> Provider:
        """The agent's chain in order, its first one on the agent's model; offline when none of it is configured.

        What it reports is told as an event of the task.
        """
        names = [name for name in agent.providers if name in self._providers] or [OFFLINE]
        chain: list[Provider] = [self._providers[name] for name in names]
        if agent.model is not None and agent.providers[:1] == (names[0],):  # another one would not know that model
            chain[0] = OnModel(chain[0], agent.model)
        return Failover(chain, partial(self._emit, task_id=task_id))

    @property
    def names(self) -> tuple[str, ...]:
        """The configured providers, in their order."""
        return tuple(self._providers)

    async def aclose(self) -> None:
        """Give all connections back."""
        for provider in (*self._retired, *self._providers.values()):
            await provider.aclose()
