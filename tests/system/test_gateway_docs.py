"""The examples of docs/api.md do what the page says, against a real daemon."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from goclaw.gateway.methods import all_methods
from goclaw.wire.frames import CODES
from tests.system.running import REPOSITORY, RunningDaemon
from tests.system.scripted_llm import ScriptedLLM

PAGE = (REPOSITORY / "docs" / "api.md").read_text()


def examples(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    with ScriptedLLM([[("list_directory", {"path": "."})]], "Nothing much.") as llm:
        env = {"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": llm.url}
        with RunningDaemon(tmp_path_factory.mktemp("docs") / "home", env=env) as running:
            yield running


def run(daemon: RunningDaemon, argv: list[str]) -> str:
    env = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH", "VIRTUAL_ENV") if name in os.environ}
    ended = subprocess.run(
        argv, env={**env, "GOCLAW_HOME": str(daemon.home)}, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.spec("GC-ACP-212")
def test_the_curl_example_works(daemon: RunningDaemon) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    (script,) = examples("sh")
    out = run(daemon, ["sh", "-eu", "-c", script])
    assert '"healthy":true' in out
    assert "# HELP goclaw_" in out
    assert '"state":"QUEUED"' in out


@pytest.mark.spec("GC-ACP-212")
def test_the_python_examples_work(daemon: RunningDaemon, tmp_path: Path) -> None:
    printed = []
    for number, text in enumerate(examples("python")):
        script = tmp_path / f"example{number}.py"
        script.write_text(text)
        printed.append(run(daemon, [sys.executable, str(script)]))
    socket, sdk = printed
    assert [line.split()[1] for line in socket.splitlines()][-4:] == [
        "task.enqueued", "task.claimed", "task.running", "task.succeeded",
    ]  # fmt: skip
    assert "goclaw/raw" in sdk
    assert sdk.count("Nothing much.") == 2


@pytest.mark.spec("GC-ACP-212")
def test_the_page_names_every_method_and_every_error_number() -> None:
    for name in all_methods():
        namespace, _, rest = name.partition(".")
        row = next(line for line in PAGE.splitlines() if line.startswith("|") and f"`{namespace}`" in line)
        assert f"`{rest}`" in row, name
    for code, number in CODES.items():
        row = next((line for line in PAGE.splitlines() if line.startswith(f"| {number} |")), "")
        assert f"`{code}`" in row, code
