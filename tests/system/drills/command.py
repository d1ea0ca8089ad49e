"""What all drills share as commands: their options, their table, their exit code."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.system.drills.books import Verdict
from tests.system.drills.layer import NoCompiler


@dataclass(frozen=True)
class Bounds:
    """How long a drill goes on: so many rounds, none begun after so many seconds; `seed` repeats it."""

    rounds: int
    seconds: float
    seed: int

    def each(self) -> Iterator[int]:
        """The rounds, from 1."""
        until = time.monotonic() + self.seconds
        number = 0
        while number < self.rounds and time.monotonic() < until:
            number += 1
            yield number


Drill = Callable[[Path, Bounds, argparse.Namespace], Verdict]


def arguments(what: str, *, rounds: int, minutes: float = 10.0) -> argparse.ArgumentParser:
    """The options of every drill; it may add its own."""
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--rounds", type=int, help=f"how many rounds ({rounds})")
    parser.set_defaults(usual_rounds=rounds)
    parser.add_argument("--minutes", type=float, default=minutes, help=f"begin no round after this ({minutes:g})")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="repeat a drill")  # noqa: S311
    parser.add_argument("--keep", type=Path, help="leave home and ledgers in this new folder")
    return parser


def run(parser: argparse.ArgumentParser, drill: Drill) -> int:
    """Run a drill and print its verdict; the exit code: 0, 1 for any fault, 2 when it cannot run here."""
    options = parser.parse_args()
    bounds = Bounds(options.rounds or options.usual_rounds, options.minutes * 60, options.seed)
    begun = time.monotonic()
    try:
        with _folder(options.keep) as folder:
            verdict = drill(folder, bounds, options)
    except NoCompiler as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{verdict.table()}\nseed {options.seed}, {time.monotonic() - begun:.0f} s\n")
    return 1 if verdict.found else 0


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir()
        yield keep.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="goclaw-drill-") as folder:
        yield Path(folder).resolve()
