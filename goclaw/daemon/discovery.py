"""A model server on this machine, found when nobody configured one."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import urlsplit

OLLAMA_URL = "http://127.0.0.1:11434"
PROBE_MS = 200
_PROBE_LIMIT = 1024 * 1024


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
