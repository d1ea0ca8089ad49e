"""What leaves a tool: secrets taken out, length bounded, the whole kept as an artifact."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from goclaw.core.ports import Artifacts
from goclaw.core.tool import ToolOutput

MAX_CHARS = 30_000
MAX_DATA_CHARS = 30_000
_LARGE = 65_536

Redact = Callable[[str], str]
"""Replaces every known secret in a text."""


class Outputs:
    """Turns raw outputs into what the journal, the model and the user may see."""

    def __init__(self, artifacts: Artifacts, redact: Redact) -> None:
        self._artifacts = artifacts
        self._redact = redact
        self._one_at_a_time = asyncio.Lock()

    async def finish(self, output: ToolOutput) -> ToolOutput:
        """Redacted, and at most 30,000 characters from head and tail.

        A longer text becomes an artifact, unless the tool has made one already, and what is left names it.
        Texts inside `data` are redacted and cut as well.
        """
        text = _spoken(await self._redacted(output.text))
        data = {key: self._clean(value) for key, value in output.data.items()}
        artifact = output.artifact
        if len(text) > MAX_CHARS:
            artifact = artifact or await self._artifacts.put(text.encode("utf-8", "surrogatepass"))
            text = _cut(text, artifact)
        return replace(output, text=text, data=data, artifact=artifact)

    async def keep(self, body: bytes) -> str:
        """Store a large output, redacted, as an artifact; its SHA-256. One at a time: it may have 50 MB."""
        async with self._one_at_a_time:
            text = await self._redacted(body.decode("utf-8", "surrogateescape"))
            return await self._artifacts.put(text.encode("utf-8", "surrogateescape"))

    async def _redacted(self, text: str) -> str:
        if len(text) < _LARGE:
            return self._redact(text)
        return await asyncio.to_thread(self._redact, text)

    def _clean(self, value: Any) -> Any:
        if isinstance(value, str):
            return _spoken(self._redact(value)[:MAX_DATA_CHARS])
        if isinstance(value, dict):
            return {_spoken(self._redact(str(key))): self._clean(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._clean(item) for item in value]
        return value


def _spoken(text: str) -> str:
    """As text that can be stored and sent: names of files may hold bytes that are none (`\\udcff`)."""
    return text.encode("utf-8", "backslashreplace").decode()


def _cut(text: str, artifact: str) -> str:
    half = MAX_CHARS // 2
    gone = len(text) - 2 * half
    gap = f"[... {gone} characters left out; the whole is artifact {artifact} ...]"
    return f"{text[:half]}\n{gap}\n{text[-half:]}"
