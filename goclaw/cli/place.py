"""Which home and which daemon a command is about, and how it asks."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from goclaw.client import Client, Target, find_daemon
from goclaw.clock import SystemClock
from goclaw.config.home import Home, locate_home
from goclaw.core.ports import Clock

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The home, the address that was named, if one was, and the environment of the command."""

    home: Home
    bind: str | None
    environ: Mapping[str, str]
    clock: Clock

    def find(self) -> Target:
        """Where the daemon is now."""
        return find_daemon(self.home, self.environ, self.bind)

    def client(self) -> Client:
        """A client of that daemon, to be entered."""
        return Client(self.find, self.clock)

    def run(self, work: Callable[[Client], Awaitable[T]]) -> T:
        """Do `work` with a client. Raises Unreachable, NotAuthorized, RpcError."""

        async def inside() -> T:
            async with self.client() as client:
                return await work(client)

        return asyncio.run(inside())

    def call(self, method: str, params: Mapping[str, Any] | None = None) -> Any:
        """One question, one answer; the same errors."""
        return self.run(lambda client: client.call(method, params))


def here(home: str | None = None, bind: str | None = None) -> Place:
    """The place meant by the flags, else by the environment."""
    return Place(home=locate_home(os.environ, home), bind=bind, environ=dict(os.environ), clock=SystemClock())
