"""Every endpoint that speaks OpenAI's chat completions: OpenAI, OpenRouter, Ollama, vLLM, llama.cpp and
others.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from goclaw.brain.providers.client import LazyClient, usable_key
from goclaw.brain.providers.errors import translated
from goclaw.brain.providers.openai_wire import Assembly, parameters
from goclaw.brain.providers.reading import Deadline
from goclaw.brain.providers.settings import ProviderSettings
from goclaw.core.chat import ChatRequest, Chunk, TextChunk
from goclaw.core.ports import Clock
from goclaw.errors import ProviderRefused

if TYPE_CHECKING:
    from openai import AsyncOpenAI, AsyncStream
    from openai.types.chat import ChatCompletionChunk

BASE_URL = "https://api.openai.com/v1"


class OpenAIProvider:
    """Chat completions, always streamed, never retried in here: whoever calls decides about that.

    Without a configured model it uses the first one the endpoint lists, asked once. A key is optional: local
    servers need none. Redirects are refused: the key must not travel to another host.
    """

    def __init__(self, settings: ProviderSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._client: LazyClient[AsyncOpenAI] = LazyClient(lambda: _connect(settings))
        self._first_model: str | None = None
        self._unreasoning: set[str] = set()

    @property
    def name(self) -> str:
        """As configured."""
        return self._settings.name

    async def stream(self, request: ChatRequest) -> AsyncIterator[Chunk]:
        """See `Provider.stream`. Raises ProviderRefused when no model is configured and the endpoint lists
        none.
        """
        deadline = Deadline(self._clock, self._settings.timeout_ms)
        client = await self._client.get()
        model = request.model or self._settings.model or await self._listed_model(client, deadline)
        limit = answer_limit(self._settings, request.max_tokens or self._settings.max_tokens)
        wire = parameters(request, provider=self.name, model=model, limit=limit)
        assembly = Assembly(self.name, model)
        chunks = await self._open(client, wire, deadline)
        with self._translated():
            try:
                async for chunk in deadline.each(aiter(chunks)):
                    text = assembly.feed(chunk)
                    if text:
                        yield TextChunk(text)
            finally:
                await chunks.close()
            reply = assembly.reply()
        yield reply

    async def aclose(self) -> None:
        """See `ClosableProvider`."""
        await self._client.aclose()

    async def _open(
        self, client: AsyncOpenAI, wire: dict[str, Any], deadline: Deadline
    ) -> AsyncStream[ChatCompletionChunk]:
        """Send the request. OpenAI's newer models take tools here only when told not to reason; that is
        learnt from the refusal, once for each model, and repeated at once: nothing was generated yet."""
        known = wire["model"] in self._unreasoning
        try:
            return await self._send(client, wire | ({"reasoning_effort": "none"} if known else {}), deadline)
        except ProviderRefused as refusal:
            if known or "tools" not in wire or "reasoning_effort" not in refusal.message:
                raise
        stream = await self._send(client, wire | {"reasoning_effort": "none"}, deadline)
        self._unreasoning.add(wire["model"])
        return stream

    async def _send(
        self, client: AsyncOpenAI, wire: dict[str, Any], deadline: Deadline
    ) -> AsyncStream[ChatCompletionChunk]:
        with self._translated():
            return await deadline.wait(lambda: client.chat.completions.create(**wire, stream=True))

    async def _listed_model(self, client: AsyncOpenAI, deadline: Deadline) -> str:
        if self._first_model is None:
            with self._translated():
                page = await deadline.wait(lambda: client.models.list())
                names = [model.id for model in page.data or ()]
            if not names:
                raise ProviderRefused(f"{self.name} lists no model; install one there", kind="model_not_found")
            self._first_model = names[0]
        return self._first_model

    def _translated(self) -> AbstractContextManager[None]:
        return translated(self.name, self._settings.api_key, self._clock, _foreign())


def answer_limit(settings: ProviderSettings, tokens: int | None) -> tuple[str, int] | None:
    """The bound of an answer under the name this endpoint knows.

    OpenAI's reasoning models refuse the old name, and most imitators know only that.
    """
    host = urlsplit(settings.base_url or BASE_URL).hostname or ""
    official = host == "openai.com" or host.endswith(".openai.com")
    return ("max_completion_tokens" if official else "max_tokens", tokens) if tokens else None


def _connect(settings: ProviderSettings) -> AsyncOpenAI:
    """The import and the first touch of the client cost most of a second: called in a thread."""
    import httpx2
    import openai

    timeout = httpx2.Timeout(settings.idle_timeout_ms / 1000, connect=settings.connect_timeout_ms / 1000)
    client = openai.AsyncOpenAI(
        api_key=usable_key(settings),
        base_url=settings.base_url or BASE_URL,
        max_retries=0,
        http_client=openai.DefaultAsyncHttpxClient(timeout=timeout, follow_redirects=False),
    )
    _ = client.chat.completions, client.models
    return client


def _foreign() -> tuple[type[Exception], ...]:
    import httpx2
    import openai

    return (openai.OpenAIError, httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL)
