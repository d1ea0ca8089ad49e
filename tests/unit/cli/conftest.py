"""`goclaw ...` within the test's own process, against a daemon made of a script."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from goclaw.cli.app import run
from tests.unit.client.conftest import TOKEN, FakeDaemon


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str


Goclaw = Callable[..., Awaitable[Result]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home; nothing else of the environment is goclaw's."""
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    for name in (
        "GOCLAW_BIND_ADDR",
        "GOCLAW_AUTH_TOKEN",
        "GOCLAW_NO_TUI",
        "ANTHROPIC_API_KEY",
        "OPENAI_API_KEY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GOCLAW_HOME", str(folder))
    return folder


@pytest.fixture
def goclaw(home: Path, capfd: pytest.CaptureFixture[str]) -> Goclaw:
    """Runs one command line and says how it ended."""

    async def command(*words: str) -> Result:
        code = await asyncio.to_thread(run, words)
        out, err = capfd.readouterr()
        return Result(code, out, err)

    return command


@pytest.fixture
async def daemon(monkeypatch: pytest.MonkeyPatch, home: Path) -> AsyncIterator[FakeDaemon]:
    """A daemon that the environment names."""
    fake = FakeDaemon()
    async with fake.run():
        monkeypatch.setenv("GOCLAW_BIND_ADDR", fake.url.removeprefix("http://"))
        monkeypatch.setenv("GOCLAW_AUTH_TOKEN", TOKEN)
        yield fake
