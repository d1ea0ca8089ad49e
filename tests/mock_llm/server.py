"""Starts and stops one mock server process."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import tempfile
import threading
import urllib.request
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.mock_llm.install import command, give_up

START_SECONDS = 20
Fixture = Mapping[str, Any]


def mock_llm(fixtures: Sequence[Fixture]) -> MockLLM:
    """A server that answers by `fixtures`, in their order, the first match wins. Enter it with `with` or
    `async with`.

    A fixture is {"match": {...}, "response": {...}}; match keys: userMessage (part of the last user message),
    hasToolResult, model, systemMessage...; response keys: content, toolCalls [{name, arguments}], reasoning,
    usage, error + status + retryAfter; beside them: truncateAfterChunks. A request that nothing matches gets
    503.
    """
    return MockLLM(fixtures)


def read_the_file(file_path: str, *, answer: str, said: str = "read the file") -> list[Fixture]:
    """A whole tool loop: whoever says `said` is asked to call read_file, and answered when its result is
    there.
    """
    return [
        {"match": {"userMessage": said, "hasToolResult": True}, "response": {"content": answer}},
        {
            "match": {"userMessage": said},
            "response": {"toolCalls": [{"name": "read_file", "arguments": {"file_path": file_path}}]},
        },
    ]


class MockLLM:
    """The running server; `url` is for ANTHROPIC_BASE_URL, `url + "/v1"` for OPENAI_BASE_URL."""

    def __init__(self, fixtures: Sequence[Fixture]) -> None:
        self._fixtures = list(fixtures)
        self._process: subprocess.Popen[str] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._reader: threading.Thread | None = None
        self._ready = threading.Event()
        self._output: deque[str] = deque(maxlen=200)
        self.url = ""

    def journal(self) -> list[dict[str, Any]]:
        """Every request so far: path, headers, body (as the server understood it), response status and
        fixture.
        """
        with urllib.request.urlopen(f"{self.url}/__aimock/journal", timeout=10) as answer:  # noqa: S310 - http
            entries: list[dict[str, Any]] = json.load(answer)
        return entries

    def __enter__(self) -> Self:
        argv = command()
        self._folder = tempfile.TemporaryDirectory(prefix="mock-llm-")
        (Path(self._folder.name) / "fixtures.json").write_text(json.dumps({"fixtures": self._fixtures}))
        options = [
            "-p",
            "0",
            "-h",
            "127.0.0.1",
            "-f",
            self._folder.name,
            "--strict",
            "--validate-on-load",
            "-c",
            "8",
        ]
        self._process = subprocess.Popen(
            [*argv, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        # Read for as long as it runs: a full pipe would stop the server.
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._ready.wait(START_SECONDS) or not self.url:
            self.__exit__(None, None, None)
            give_up("it did not start: " + "".join(self._output)[-500:])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._reader is not None and self._process.stdout is not None:
            self._process.kill()
            self._process.wait()
            self._reader.join()
            self._process.stdout.close()
        if self._folder is not None:
            self._folder.cleanup()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.__exit__, kind, error, trace)

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._output.append(line)
            found = re.search(r"listening on (http://127\.0\.0\.1:\d+)", line)
            if found:
                self.url = found[1]
                self._ready.set()
        self._ready.set()
