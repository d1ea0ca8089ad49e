"""The throw-away home of the demo: real files to work on, a policy for just that, a skill, a ledger outside."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from goclaw.config.home import Home

SOURCES = 16
LEDGER_SCRIPT = "work.sh"
WORKERS = 4
_SCRIPT = """\
# work.sh LEDGER LABEL SECONDS KIND: a line when it begins and a line when it ends, in a file that only grows.
echo "begin $2 $$ $GOCLAW_EFFECT_KEY" >> "$1"
sleep "$3"
if [ "$4" = flaky ] && [ "$(grep -c "^begin $2 " "$1")" -lt 2 ]; then exit 7; fi
echo "end $2 $$ $GOCLAW_EFFECT_KEY" >> "$1"
"""
_POLICY = """\
allow_capabilities: [acp.read, acp.mutate, tools.read_file, tools.exec, wasm.invoke, wasm.log]
allow_paths: [workspace]
exec:
  allow:
    - {argv: "sha256sum {path}", effect: pure}
    - {argv: "sh work.sh * * * *", effect: pure}
"""
_CONFIG = f"worker_count: {WORKERS}\nprovider_chain: [offline]\n"


@dataclass(frozen=True, slots=True)
class DemoHome:
    """What the demo works in."""

    home: Home
    ledger: Path
    sources: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the ledger."""

    word: str
    label: str
    pid: int
    key: str


def furnish(folder: Path) -> DemoHome:
    """Fill an empty folder. Raises OSError."""
    home = Home(folder / "home")
    for path in (home.root, home.workspace, home.skills):
        path.mkdir(mode=0o700)
    home.config.write_text(_CONFIG)
    home.policy.write_text(_POLICY)
    (home.workspace / LEDGER_SCRIPT).write_text(_SCRIPT)
    with resources.as_file(resources.files("goclaw.cli") / "demo_data" / "sha256") as skill:
        shutil.copytree(skill, home.skills / "sha256")
    ledger = folder / "ledger"
    ledger.touch()
    return DemoHome(home, ledger, _sources(home.workspace / "sources"))


def quiet(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without what would reach out of the demo: other homes, keys, addresses of models."""
    ends = ("_API_KEY", "_BASE_URL", "_TOKEN", "_HOST")
    return {
        name: value for name, value in environ.items() if not name.startswith("GOCLAW_") and not name.endswith(ends)
    }


def read_ledger(ledger: Path) -> tuple[Line, ...]:
    """Every whole line so far."""
    lines = []
    for text in ledger.read_text("utf-8").splitlines():
        word, label, pid, key = text.split(" ")
        lines.append(Line(word, label, int(pid), key))
    return tuple(lines)


def _sources(folder: Path) -> tuple[Path, ...]:
    """Copies of goclaw's own sources: real files of real sizes."""
    folder.mkdir(mode=0o700)
    package = Path(str(resources.files("goclaw")))
    chosen = sorted(package.rglob("*.py"), key=lambda path: (-path.stat().st_size, str(path)))[:SOURCES]
    copies = []
    for path in chosen:
        copy = folder / "-".join(path.relative_to(package).parts)
        shutil.copyfile(path, copy)
        copies.append(copy)
    return tuple(copies)
