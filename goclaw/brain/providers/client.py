"""An SDK client that comes into being with its first use, in a thread, so that the event loop stays awake."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from goclaw.brain.providers.settings import ProviderSettings
from goclaw.errors import ProviderAuth


class _Closable(Protocol):
    async def close(self) -> None: ...


C = TypeVar("C", bound=_Closable)


class LazyClient(Generic[C]):
    """Made once, however many requests wait for it. `connect` imports, and must open no connection."""

    def __init__(self, connect: Callable[[], C]) -> None:
        self._connect = connect
        self._lock = asyncio.Lock()
        self._client: C | None = None

    async def get(self) -> C:
        """The client. Raises what `connect` raises; the next call tries again."""
        async with self._lock:
            if self._client is None:
                self._client = await asyncio.to_thread(self._made)
            return self._client

    async def aclose(self) -> None:
        """Close the client if there is one."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def _made(self) -> C:
        import anyio

        with _nothing_collected():
            client = self._connect()
            # Loads what the HTTP stack would else import on the event loop, in the first request.
            anyio.run(anyio.sleep, 0)
            return client


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """No garbage collection, and what exists at the end is left out of later ones.

    An SDK brings thousands of modules and no garbage. A full collection over them finds nothing and holds the
    whole process for 100 ms, the event loop included: during the import, and again and again afterwards.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


def usable_key(settings: ProviderSettings) -> str:
    """The key as a header can carry it. Raises ProviderAuth for one that no vendor issues."""
    key = settings.api_key or "none"
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ProviderAuth(f"the API key of {settings.name} contains characters that no key has")
    return key
