"""An SDK is loaded late, once, and beside the event loop."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from goclaw.brain.providers.client import LazyClient


class Client:
    made = 0

    def __init__(self) -> None:
        type(self).made += 1
        self.thread = threading.get_ident()
        self.closed = False

    async def close(self) -> None:
        self.closed = True


@pytest.mark.spec("GC-BRN-150")
async def test_many_first_requests_make_one_client_in_another_thread() -> None:
    Client.made = 0
    lazy = LazyClient(Client)
    clients = await asyncio.gather(*(lazy.get() for _ in range(5)))
    assert Client.made == 1
    assert len(set(map(id, clients))) == 1
    assert clients[0].thread != threading.get_ident()


@pytest.mark.spec("GC-BRN-150")
async def test_no_garbage_is_collected_while_an_sdk_is_loaded_and_it_is_afterwards() -> None:
    states = []

    def connect() -> Client:
        states.append(gc.isenabled())
        return Client()

    await LazyClient(connect).get()
    assert states == [False]
    assert gc.isenabled()


async def test_closing_closes_what_was_made_and_may_be_repeated() -> None:
    lazy = LazyClient(Client)
    await lazy.aclose()
    client = await lazy.get()
    await lazy.aclose()
    await lazy.aclose()
    assert client.closed


async def test_after_a_failure_the_next_request_tries_again() -> None:
    attempts: Iterator[OSError | Client] = iter([OSError("no"), Client()])

    def connect() -> Client:
        made = next(attempts)
        if isinstance(made, Exception):
            raise made
        return made

    lazy = LazyClient(connect)
    with pytest.raises(OSError, match="no"):
        await lazy.get()
    assert isinstance(await lazy.get(), Client)


@pytest.mark.spec("GC-BRN-150")
def test_building_every_provider_loads_no_sdk_and_no_http_client() -> None:
    program = """
import sys
from goclaw.brain.providers import ProviderSettings, build_providers
from goclaw.clock import SystemClock
kinds = ("anthropic", "openai", "offline")
settings = {kind: ProviderSettings(name=kind, kind=kind, api_key="k", model="m") for kind in kinds}
build_providers(settings, clock=SystemClock())
heavy = {"anthropic", "openai", "httpx2", "pydantic", "jsonschema"} & set(sys.modules)
sys.exit(f"loaded: {sorted(heavy)}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
