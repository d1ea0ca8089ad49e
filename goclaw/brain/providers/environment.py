"""Which providers the environment offers, and which one answers when nobody configured any (CONTRACT, section
1).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from urllib.parse import urlsplit

from goclaw.brain.providers.settings import ProviderKind, ProviderSettings

ANTHROPIC_MODEL = "claude-sonnet-5-5"
OPENAI_MODEL = "gpt-5.4-mini"
"""The newest of OpenAI's that takes tools over chat completions without further ado."""
OPENROUTER_MODEL = "openrouter/auto"
DEFAULT_MODELS = {"anthropic": ANTHROPIC_MODEL, "openai": OPENAI_MODEL, "openrouter": OPENROUTER_MODEL}
"""What a vendor is asked for when nobody chose a model."""
OPENROUTER_URL = "https://openrouter.ai/api/v1"
OLLAMA_URL = "http://127.0.0.1:11434"
PROBE_MS = 200

_PROBE_LIMIT = 1024 * 1024


def default_settings(env: Mapping[str, str]) -> dict[str, ProviderSettings]:
    """Every provider that `env` gives a key or an address for, by name, in the order of preference; offline
    is last.

    Pure. A variable that is empty or blank counts as absent.
    """
    offered = (
        _keyed(env, "anthropic", ANTHROPIC_MODEL),
        _keyed(env, "openai", OPENAI_MODEL),
        _keyed(env, "openrouter", OPENROUTER_MODEL, OPENROUTER_URL),
        ollama_settings(env) if _value(env, "OLLAMA_HOST") else None,
        ProviderSettings(name="offline", kind="offline"),
    )
    return {settings.name: settings for settings in offered if settings is not None}


async def default_chain(env: Mapping[str, str], *, probe_url: str = OLLAMA_URL) -> tuple[ProviderSettings, ...]:
    """The provider when none is configured: the first with a key, else Ollama, else offline.

    Ollama counts when OLLAMA_HOST names it, or when it answers on this machine within 200 ms and has a model.
    """
    settings = next(iter(default_settings(env).values()))
    if settings.kind == "offline" and await ollama_models(probe_url):
        settings = ollama_settings({"OLLAMA_HOST": probe_url})
    return (settings,)


def ollama_settings(env: Mapping[str, str]) -> ProviderSettings:
    """Ollama where OLLAMA_HOST says, in any of the forms Ollama itself takes; the first model it lists
    answers.
    """
    host = _value(env, "OLLAMA_HOST") or OLLAMA_URL
    parts = urlsplit(host if "://" in host else f"http://{host}")
    name = parts.hostname or "127.0.0.1"
    if name in {"0.0.0.0", "::"}:  # noqa: S104 - what a server binds; a client asks its own machine
        name = "127.0.0.1"
    name = f"[{name}]" if ":" in name else name
    port = parts.port or (443 if parts.scheme == "https" else 11434)
    path = parts.path.rstrip("/").removesuffix("/v1")
    return ProviderSettings(name="ollama", kind="openai", base_url=f"{parts.scheme}://{name}:{port}{path}/v1")


async def ollama_models(url: str = OLLAMA_URL, *, within_ms: int = PROBE_MS) -> tuple[str, ...]:
    """The models an Ollama at `url` (plain HTTP) has; none where nothing answers in time or something else
    does.
    """
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(within_ms / 1000):
            body = await _get(parts.hostname or "127.0.0.1", parts.port or 11434, "/api/tags")
        return tuple(str(model["name"]) for model in json.loads(body)["models"])
    except (OSError, ValueError, LookupError, TypeError, asyncio.IncompleteReadError):
        return ()


async def _get(host: str, port: int, path: str) -> bytes:
    """One HTTP/1.0 request by hand: a start must not pay for an HTTP client (150 ms) to learn that nobody is
    there.
    """
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(f"GET {path} HTTP/1.0\r\nHost: {host}:{port}\r\nAccept: application/json\r\n\r\n".encode())
        await writer.drain()
        answer = await reader.read(_PROBE_LIMIT)
        while more := await reader.read(_PROBE_LIMIT):
            answer += more
            if len(answer) > _PROBE_LIMIT:
                return b""
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return body if head.split(b" ", 2)[1:2] == [b"200"] else b""


def _keyed(env: Mapping[str, str], name: str, model: str, url: str | None = None) -> ProviderSettings | None:
    key = _value(env, f"{name.upper()}_API_KEY")
    if key is None:
        return None
    base_url = _value(env, f"{name.upper()}_BASE_URL") or url
    kind: ProviderKind = "anthropic" if name == "anthropic" else "openai"
    return ProviderSettings(name=name, kind=kind, base_url=base_url, api_key=key, model=model)


def _value(env: Mapping[str, str], name: str) -> str | None:
    return env.get(name, "").strip() or None
