"""SIGKILL, again and again, then compare the books: `python -m tests.system.drill_kill --rounds 200 --seed 7`.

At random: clients feed a real daemon with work of every kind while it is killed, some time after it was ready or while
it starts. With --points: one small piece of work of every kind, done again and again, killed before, in the middle of
and after each write, sync, truncation and removal that the database makes, from the first start to the last close; and
then the same for the start that recovers from a kill.
"""

from __future__ import annotations

import argparse
import copy
import random
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tests.system.drills.books import Verdict
from tests.system.drills.command import Bounds, arguments, run
from tests.system.drills.layer import Action, Layer, Operation
from tests.system.drills.work import Piece, Site
from tests.system.running import DaemonDied, RunningDaemon

LIFE_S = (0.05, 1.0)
STARTING_S = 0.4
AT_WORK_S = 0.06
KINDS = ("noop", "failing", "pure", "unsafe", "chat", "canceled")
MOMENTS = {
    Operation.WRITE: (Action.KILL_BEFORE, Action.KILL_HALF, Action.KILL_AFTER),
    Operation.SYNC: (Action.KILL_BEFORE, Action.KILL_AFTER),
    Operation.TRUNCATE: (Action.KILL_BEFORE, Action.KILL_AFTER),
    Operation.NAME: (Action.KILL_BEFORE, Action.KILL_AFTER),
}
ALL = 10**9
ROUNDS = 30


def at_random(folder: Path, bounds: Bounds) -> Verdict:
    """Kill a daemon under load at moments drawn from the seed."""
    verdict = Verdict()
    site = Site(folder, bounds.seed, verdict)
    for number in bounds.each():
        verdict.count("rounds (SIGKILL)")
        site.where = f"round {number}"
        _killed_life(site)
        site.inspect()
    site.where = "at the end"
    site.finish()
    return verdict


def _killed_life(site: Site) -> None:
    early = site.random.random() < 0.2
    life_s = site.random.uniform(0, STARTING_S) if early else site.random.uniform(*LIFE_S)
    with suppress(DaemonDied), site.life(kill_after_s=life_s if early else None) as daemon, site.clients(daemon):
        time.sleep(LIFE_S[1] if early else life_s)
        daemon.kill()


@dataclass(frozen=True)
class Point:
    """Where to kill: at the `number`th operation of its kind, in a life from scratch or one that recovers."""

    recovering: bool
    operation: Operation
    moment: Action
    number: int

    def __str__(self) -> str:
        life = "recovery" if self.recovering else "first life"
        return f"{life}, {self.moment.name} {self.operation.name} {self.number}"


class Walk:
    """A small piece of work of every kind, killed at one point after another."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.verdict = Verdict()
        self._place, self._seed = folder / "place", seed
        self._random = random.Random(seed)  # noqa: S311 (a drill must be repeatable)
        self._fresh, self._killed = folder / "fresh", folder / "killed"
        site = Site(self._place, seed, self.verdict)
        self._pieces: dict[bool, list[Piece]] = {False: [], True: []}
        shutil.copytree(self._place, self._fresh)
        with site.life() as daemon:
            for kind in KINDS:
                site.send(daemon, site.piece_of(kind, f"c1-{kind}", 1, site.random))
            time.sleep(AT_WORK_S)
        shutil.copytree(self._place, self._killed)
        self._pieces[True] = site.pieces

    def points(self, stride: int) -> Sequence[Point]:
        """Every point of both lives, or one in `stride` of each kind, in an order drawn from the seed."""
        found: list[Point] = []
        for recovering in (False, True):
            site, layer = self._restore(recovering), self._layer()
            layer.strike(Action.NOTHING, 1, Operation(0))
            with site.life(layer.env()) as daemon:
                self._work(site, daemon)
            for operation, count in layer.seen.items():
                self.verdict.top(f"points: {operation.name}, {'recovery' if recovering else 'first life'}", count)
                for moment in MOMENTS[operation]:
                    numbers = self._random.sample(range(1, count + 1), -(-count // stride))
                    found += [Point(recovering, operation, moment, number) for number in numbers]
        self._random.shuffle(found)
        return found

    def kill_at(self, point: Point) -> None:
        """One life that is killed at the point, one that recovers, and the comparison."""
        site, layer = self._restore(point.recovering), self._layer()
        site.where = str(point)
        layer.strike(point.moment, point.number, point.operation)
        self.verdict.count("lives")
        with suppress(DaemonDied, OSError), site.life(layer.env()) as daemon:
            self._work(site, daemon)
        self.verdict.count("killed at their point", layer.hits)
        site.inspect()
        site.finish()

    def _work(self, site: Site, daemon: RunningDaemon) -> None:
        """One piece after another, each to its end; then the clean stop, which ends with the removal of the WAL."""
        for kind in KINDS:
            name = f"c0-{kind}"
            known = next((piece for piece in site.pieces if piece.name == name), None)
            piece = known or site.piece_of(kind, name, 0, site.random)
            if piece.task_id is None:
                site.send(daemon, piece)
            assert piece.task_id is not None
            daemon.wait(piece.task_id)
        daemon.stop()

    def _layer(self) -> Layer:
        return Layer(self._place.parent, self._place / "home")

    def _restore(self, recovering: bool) -> Site:
        shutil.rmtree(self._place)
        shutil.copytree(self._killed if recovering else self._fresh, self._place)
        site = Site(self._place, self._seed, self.verdict)
        site.pieces = copy.deepcopy(self._pieces[recovering])
        return site


def at_points(folder: Path, bounds: Bounds, stride: int) -> Verdict:
    """Kill at every point, or each `stride`th."""
    walk = Walk(folder, bounds.seed)
    points = walk.points(stride)
    walk.verdict.count("points to visit", len(points))
    for _, point in zip(bounds.each(), points, strict=False):
        walk.kill_at(point)
    return walk.verdict


def _drill(folder: Path, bounds: Bounds, options: argparse.Namespace) -> Verdict:
    if options.points is None:
        return at_random(folder, bounds)
    return at_points(folder, replace(bounds, rounds=options.rounds or ALL), options.points)


def main() -> int:
    """The drill as a command."""
    parser = arguments("kill -9, at random moments or at every point, and compare the books", rounds=ROUNDS)
    parser.add_argument(
        "--points",
        type=int,
        nargs="?",
        const=1,
        metavar="STRIDE",
        help="kill at every write, sync, truncation and removal of the database, or at each STRIDEth of them",
    )
    return run(parser, _drill)


if __name__ == "__main__":
    sys.exit(main())
