"""Claude through Anthropic's own SDK."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from goclaw.brain.providers.anthropic_wire import Assembly, parameters
from goclaw.brain.providers.client import LazyClient, usable_key
from goclaw.brain.providers.errors import translated
from goclaw.brain.providers.reading import Deadline
from goclaw.brain.providers.settings import ProviderSettings
from goclaw.core.chat import ChatRequest, Chunk, TextChunk
from goclaw.core.ports import Clock
from goclaw.errors import ProviderAuth, ProviderRefused

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

BASE_URL = "https://api.anthropic.com"
MAX_TOKENS = 16_384
"""Of an answer, where nobody says otherwise; the present models think within it."""


class AnthropicProvider:
    """The Messages API, always streamed, never retried in here: whoever calls decides about that.

    Thinking is kept as Opaque blocks and given back only to the same provider and model. Redirects are
    refused: the key must not travel to another host.
    """

    def __init__(self, settings: ProviderSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._client: LazyClient[AsyncAnthropic] = LazyClient(lambda: _connect(settings))

    @property
    def name(self) -> str:
        """As configured."""
        return self._settings.name

    async def stream(self, request: ChatRequest) -> AsyncIterator[Chunk]:
        """See `Provider.stream`. Raises ProviderAuth without a key, ProviderRefused without a model."""
        settings = self._settings
        if not settings.api_key:
            raise ProviderAuth(f"{self.name} has no API key; set ANTHROPIC_API_KEY or its api_key in config.yaml")
        model = request.model or settings.model
        if model is None:
            raise ProviderRefused(f"{self.name} has no model; set its model in config.yaml", kind="model_not_found")
        wire = parameters(request, provider=self.name, model=model, max_tokens=settings.max_tokens or MAX_TOKENS)
        deadline = Deadline(self._clock, settings.timeout_ms)
        client = await self._client.get()
        assembly = Assembly(self.name, model)
        with translated(self.name, settings.api_key, self._clock, _foreign()):
            events = await deadline.wait(lambda: client.messages.create(**wire, stream=True))
            try:
                async for event in deadline.each(aiter(events)):
                    text = assembly.feed(event)
                    if text:
                        yield TextChunk(text)
            finally:
                await events.close()
            reply = assembly.reply()
        yield reply

    async def aclose(self) -> None:
        """See `ClosableProvider`."""
        await self._client.aclose()


def _connect(settings: ProviderSettings) -> AsyncAnthropic:
    """The import and the first touch of the client cost most of a second: called in a thread."""
    import anthropic
    import httpx2

    timeout = httpx2.Timeout(settings.idle_timeout_ms / 1000, connect=settings.connect_timeout_ms / 1000)
    base_url = (settings.base_url or BASE_URL).rstrip("/").removesuffix("/v1")
    client = anthropic.AsyncAnthropic(
        api_key=usable_key(settings),
        base_url=base_url,
        max_retries=0,
        open_telemetry=False,
        http_client=anthropic.DefaultAsyncHttpxClient(timeout=timeout, follow_redirects=False),
    )
    _ = client.messages
    return client


def _foreign() -> tuple[type[Exception], ...]:
    import anthropic
    import httpx2

    return (anthropic.AnthropicError, httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL)
