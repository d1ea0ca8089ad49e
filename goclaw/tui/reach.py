"""How the screen reaches the daemon."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from goclaw.client import Client
from goclaw.core.ports import Clock
from goclaw.tui.facts import Facts, facts_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """An open client, the clock, and whether nothing serves this home at the moment."""

    client: Client
    clock: Clock
    gone: Callable[[], bool]

    async def facts(self) -> Facts:
        """The daemon at this moment. Raises ClientError."""
        status = await self.client.call("system.status")
        return facts_of(status, await self.client.call("agent.list"), await self.client.call("tools.list"))
