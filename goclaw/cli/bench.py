"""`goclaw bench`: the budgets of this machine's user, measured: cold start, --version, idle memory."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer

from goclaw.cli import exits, screen
from goclaw.cli.app import JsonFlag, place, single
from goclaw.core.ports import Clock
from goclaw.errors import StartupError

COLD_START_MS = 500
VERSION_MS = 150
IDLE_MB = 60
SETTLE_MS = 1_000
app = single("Measure cold start, --version and idle memory against their budgets.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One figure: the median of its runs, its budget, and the same of a Python that does nothing."""

    name: str
    unit: str
    median: float
    runs: tuple[float, ...]
    budget: float
    bare_python: float
    holds: bool


@app.command()
def bench(
    ctx: typer.Context,
    runs: Annotated[int, typer.Option("--runs", min=1, max=100, help="How often each is measured.")] = 5,
    as_json: JsonFlag = False,
) -> int:
    """Measure cold start, --version and idle memory against their budgets, in throw-away homes.

    Exit code 1 when a budget does not hold.
    """
    here = place(ctx)
    environ = {name: value for name, value in here.environ.items() if not name.startswith("GOCLAW_")}
    found = measure(environ, here.clock, runs)
    held = all(one.holds for one in found)
    if as_json:
        screen.data({"holds": held, "measured": [asdict(one) for one in found]})
    else:
        screen.table(("figure", "median", "budget", "verdict", "bare Python", "ratio"), [_row(one) for one in found])
    return exits.OK if held else exits.FAILURE


def measure(environ: Mapping[str, str], clock: Clock, runs: int) -> tuple[Measured, ...]:
    """All three. Raises StartupError when a daemon does not start."""
    nothing = [_elapsed(["-c", "pass"], environ, clock) for _ in range(runs)]
    version = [_elapsed(["-m", "goclaw", "--version"], environ, clock) for _ in range(runs)]
    bare_mb = _bare_memory(environ, clock)
    starts, memory = [], []
    for _ in range(runs):
        with _daemon(environ) as wait_ready:
            begun = clock.monotonic()
            pid = wait_ready()
            starts.append(float(clock.monotonic() - begun))
            memory.append(_settled_memory(pid, clock))
    return (
        _measured("cold start to ready", "ms", starts, COLD_START_MS, median(nothing)),
        _measured("goclaw --version", "ms", version, VERSION_MS, median(nothing)),
        _measured("memory when idle", "MB", memory, IDLE_MB, bare_mb),
    )


def _measured(name: str, unit: str, runs: Sequence[float], budget: float, bare: float) -> Measured:
    middle = round(median(runs), 1)
    return Measured(
        name=name,
        unit=unit,
        median=middle,
        runs=tuple(round(one, 1) for one in runs),
        budget=budget,
        bare_python=round(bare, 1),
        holds=middle <= budget,
    )


def _elapsed(words: Sequence[str], environ: Mapping[str, str], clock: Clock) -> float:
    begun = clock.monotonic()
    subprocess.run([sys.executable, *words], env=dict(environ), stdout=subprocess.DEVNULL, check=True)
    return float(clock.monotonic() - begun)


@contextmanager
def _daemon(environ: Mapping[str, str]) -> Iterator[Callable[[], int]]:
    """A function that starts a daemon in a fresh home and returns its pid when it logs that it is ready."""
    started: list[subprocess.Popen[bytes]] = []

    def ready() -> int:
        words = [sys.executable, "-m", "goclaw", "serve", "--home", folder, "--bind", "127.0.0.1:0"]
        process = subprocess.Popen(
            words,
            env=dict(environ),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        )
        started.append(process)
        assert process.stderr is not None  # noqa: S101  (it is a pipe)
        for line in process.stderr:
            told = _json(line)
            if told.get("msg") == "ready":
                return process.pid
            if told.get("msg") == "startup failure":
                raise StartupError(str(told.get("error")))
        raise StartupError("the daemon ended before it was ready")

    with tempfile.TemporaryDirectory(prefix="goclaw-bench-", ignore_cleanup_errors=True) as folder:
        try:
            yield ready
        finally:
            for process in started:
                process.terminate()
                process.communicate()


def _settled_memory(pid: int, clock: Clock) -> float:
    """Resident memory after the start has settled, in MB."""
    asyncio.run(_settle(clock))
    return _memory(pid)


async def _settle(clock: Clock) -> None:
    await clock.sleep(SETTLE_MS)


def _bare_memory(environ: Mapping[str, str], clock: Clock) -> float:
    words = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    process = subprocess.Popen(words, env=dict(environ), stdin=subprocess.PIPE)
    try:
        return _settled_memory(process.pid, clock)
    finally:
        process.communicate(b"")


def _memory(pid: int) -> float:
    status = Path(f"/proc/{pid}/status")
    if status.exists():
        for line in status.read_text("ascii").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    told = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True)
    return int(told.stdout) / 1024


def _json(line: bytes) -> Mapping[str, Any]:
    try:
        told = json.loads(line)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _row(one: Measured) -> tuple[str, ...]:
    verdict = "holds" if one.holds else "DOES NOT HOLD"
    ratio = f"{one.median / one.bare_python:.1f}x" if one.bare_python else ""
    budget = f"<= {one.budget:g} {one.unit}"
    return one.name, f"{one.median:g} {one.unit}", budget, verdict, f"{one.bare_python:g} {one.unit}", ratio
