"""A provider made of providers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from goclaw.brain.providers.errors import ELSEWHERE
from goclaw.core.chat import ChatRequest, Chunk, Reply, TextChunk
from goclaw.core.ports import Provider
from goclaw.errors import ProviderAuth, ProviderError, ProviderRefused, ProviderUnavailable, RateLimited

Report = Callable[[str, Mapping[str, Any]], None]
"""Takes an event type (`provider.failed`, `provider.failover`) and its payload."""


class Failover:
    """Tries its candidates in order until one answers.

    The next one is asked when the one before is unavailable, rate-limited, does not accept its key, or lacks
    the model; never when the request itself is at fault (it would be at fault there too) and never when the
    user chose the model (a silent substitute is not what they asked for). A candidate that failed after its
    text was shown is taken back with an empty chunk that says `reset`; the next one starts the same request
    over. There is no back-off in here.
    """

    def __init__(self, candidates: Sequence[Provider], report: Report) -> None:
        if not candidates:
            raise ValueError("a failover needs at least one candidate")
        self._candidates = tuple(candidates)
        self._report = report

    @property
    def name(self) -> str:
        """The candidates' names; a reply names the one that answered."""
        return "+".join(candidate.name for candidate in self._candidates)

    async def stream(self, request: ChatRequest) -> AsyncIterator[Chunk]:
        """See `Provider.stream`. When all have failed: the error of the only one, or one that carries all
        causes.
        """
        candidates = self._candidates[:1] if request.model is not None else self._candidates
        failures: list[ProviderError] = []
        shown = False
        for number, candidate in enumerate(candidates):
            if number:
                self._tell_switch(candidates[number - 1], candidate, failures[-1])
                if shown:
                    yield TextChunk("", reset=True)
                    shown = False
            reply: Reply | None = None
            try:
                async with _closing(candidate.stream(request)) as chunks:
                    async for chunk in chunks:
                        if isinstance(chunk, Reply):
                            reply = chunk
                            break
                        shown = shown or bool(chunk.text)
                        yield chunk
                if reply is None:
                    raise ProviderUnavailable(f"{candidate.name} ended without an answer", provider=candidate.name)
            except ProviderError as error:
                failures.append(error)
                self._tell_failure(candidate, error, shown)
                if not _may_work_elsewhere(error):
                    raise
            if reply is not None:
                yield reply  # with nothing left open behind it, since nobody may come back for more
                return
        raise _combined([candidate.name for candidate in candidates], failures)

    def _tell_failure(self, candidate: Provider, error: ProviderError, shown: bool) -> None:
        payload = {
            "provider": candidate.name,
            "error_code": error.code,
            "error": error.message,
            "retryable": error.retryable,
            "mid_answer": shown,
        }
        self._report("provider.failed", payload)

    def _tell_switch(self, old: Provider, new: Provider, error: ProviderError) -> None:
        self._report("provider.failover", {"from": old.name, "to": new.name, "error_code": error.code})


class OnModel:
    """A provider with a model of its own, used where the request leaves the choice open.

    For an agent's configured model: unlike `ChatRequest.model` it does not forbid the other candidates.
    """

    def __init__(self, provider: Provider, model: str) -> None:
        self._provider = provider
        self._model = model

    @property
    def name(self) -> str:
        """The name of the provider."""
        return self._provider.name

    def stream(self, request: ChatRequest) -> AsyncIterator[Chunk]:
        """See `Provider.stream`."""
        return self._provider.stream(request if request.model is not None else replace(request, model=self._model))


def _may_work_elsewhere(error: ProviderError) -> bool:
    if error.retryable or isinstance(error, ProviderAuth):
        return True
    return isinstance(error, ProviderRefused) and error.data.get("kind") in ELSEWHERE


def _combined(names: Sequence[str], failures: Sequence[ProviderError]) -> ProviderError:
    """One error for all. Where none of the failures can pass by waiting, it is the first one: trying again as
    a whole would only repeat them, and the first candidate is the one the user wanted."""
    if len(failures) == 1 or not any(failure.retryable for failure in failures):
        return failures[0]
    causes = [
        {"provider": name, "error_code": failure.code, "error": failure.message}
        for name, failure in zip(names, failures, strict=True)
    ]
    text = "no provider could answer: " + "; ".join(failure.message for failure in failures)
    waits = [failure.data["retry_after_ms"] for failure in failures if "retry_after_ms" in failure.data]
    known: dict[str, Any] = {"causes": causes} | ({"retry_after_ms": min(waits)} if waits else {})
    limited = all(isinstance(failure, RateLimited) for failure in failures)
    return RateLimited(text, **known) if limited else ProviderUnavailable(text, **known)


@asynccontextmanager
async def _closing(chunks: AsyncIterator[Chunk]) -> AsyncIterator[AsyncIterator[Chunk]]:
    """Close a stream as soon as it is left; one that is only dropped would hold its connection until
    collected.
    """
    try:
        yield chunks
    finally:
        aclose = getattr(chunks, "aclose", None)
        if aclose is not None:
            await aclose()
