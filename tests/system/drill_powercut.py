"""The power goes, again and again: `python -m tests.system.drill_powercut --rounds 100 --seed 7`.

A layer records what a daemon under load does to its files. It is killed, every program it has started with it, and the
disk is made again as it may be after a power cut: what was synced is there; what was not is dropped, or in part there,
in any order and torn. Then the next daemon starts on it. At the end the books are compared.

With --weaken normal the daemon runs at synchronous=NORMAL, with --weaken lying the disk says that it has synced and has
not: then the drill must find losses. It exits with 1 in that case as for any fault.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from tests.system.drills.books import Verdict
from tests.system.drills.command import Bounds, arguments, run
from tests.system.drills.disk import MODES, Disk
from tests.system.drills.layer import Action, Files, Layer, Operation
from tests.system.drills.work import Site
from tests.system.running import DaemonDied

UNSEEN = "changes of files that the layer did not see"
LIFE_S = (0.1, 1.2)
LONGEST_AIM = 400
FIRST_EVERY = 4
FIRST_POINTS = {Operation.WRITE: 60, Operation.SYNC: 14, Operation.NAME: 20}
EVERY_FILE = Files.STORE | Files.OTHER
WEAK: Mapping[str, tuple[str, ...]] = {"normal": ("-m", "tests.system.drills.weak")}


def first_starts(folder: Path, bounds: Bounds) -> Verdict:
    """Every cut meets the first start of a home."""
    verdict = Verdict(UNSEEN)
    for number in bounds.each():
        verdict.count("power cuts")
        _first_start(folder / f"first-{number}", bounds.seed + number, verdict, number)
    return verdict


def drill(folder: Path, bounds: Bounds, weaken: str | None = None) -> Verdict:
    """The whole drill. Every fourth cut meets the first start of a home of its own."""
    verdict = Verdict(UNSEEN)
    site = Site(folder, bounds.seed, verdict)
    layer = Layer(folder, site.home)
    for number in bounds.each():
        verdict.count("power cuts")
        if number % FIRST_EVERY == 0 and weaken is None:
            _first_start(folder / f"first-{number}", bounds.seed + number, verdict, number)
        else:
            site.where = f"cut {number}"
            _cut(site, layer, lambda: _life(site, layer, weaken))
    site.where = "at the end"
    site.finish()
    return verdict


def _cut(site: Site, layer: Layer, life: Callable[[], None]) -> None:
    """One life, and what the disk holds after it."""
    mode = site.random.choice(MODES)
    site.where += f" ({mode})"
    disk = Disk(site.home)
    life()
    site.kill_leftovers()
    disk.replay(layer.record, lenient=site.random.random() < 0.5)
    for path in disk.unseen():
        site.verdict.fault(UNSEEN, f"{site.where}: {Path(path).relative_to(site.home)}")
    disk.cut(site.random, mode)
    site.verdict.count("unsynced bytes dropped", disk.forgotten)
    site.inspect()


def _first_start(folder: Path, seed: int, verdict: Verdict, number: int) -> None:
    """The power goes while a home is made; the next start must succeed."""
    folder.mkdir()
    site = Site(folder, seed, verdict)
    layer = Layer(folder, site.home)
    for starter in ("config.yaml", "policy.yaml"):
        (site.home / starter).unlink()
    kind = site.random.choice([Operation.WRITE, Operation.SYNC, Operation.NAME])
    at = site.random.randint(1, FIRST_POINTS[kind])
    site.where = f"cut {number} (first start, {kind.name} {at})"
    layer.strike(site.random.choice([Action.KILL_BEFORE, Action.KILL_AFTER]), at, kind, files=EVERY_FILE)

    def life() -> None:
        with suppress(DaemonDied), site.life(layer.env(recording=True)):
            pass

    _cut(site, layer, life)
    site.finish()
    shutil.rmtree(folder)


def _life(site: Site, layer: Layer, weaken: str | None) -> None:
    """Feed a daemon until the power goes: after some time, or in the middle of some operation of the database."""
    layer.rest()
    if weaken == "lying":
        layer.ignore_syncs(Files.STORE)
    if site.random.random() < 0.5:
        kind = site.random.choice([Operation.WRITE, Operation.SYNC])
        moment = site.random.choice([Action.KILL_BEFORE, Action.KILL_AFTER])
        layer.strike(moment, site.random.randint(1, LONGEST_AIM), kind)
    life_s = site.random.uniform(*LIFE_S)
    launcher = WEAK.get(weaken or "", ("-m", "goclaw"))
    with suppress(DaemonDied), site.life(layer.env(recording=True), launcher) as daemon, site.clients(daemon) as stop:
        stop.wait(life_s)
        daemon.kill()


def _drill(folder: Path, bounds: Bounds, options: argparse.Namespace) -> Verdict:
    return first_starts(folder, bounds) if options.first else drill(folder, bounds, options.weaken)


def main() -> int:
    """The drill as a command."""
    parser = arguments("power cuts under load, on a disk that forgets what was not synced", rounds=60)
    parser.add_argument("--weaken", choices=("normal", "lying"), help="show that the drill can fail")
    parser.add_argument("--first", action="store_true", help="all cuts meet the first start of a home")
    return run(parser, _drill)


if __name__ == "__main__":
    sys.exit(main())
