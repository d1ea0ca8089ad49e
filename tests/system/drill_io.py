"""A disk that fails, and one that is full: `python -m tests.system.drill_io --rounds 40 --seed 7`.

In turn: the Nth write, sync or truncation of the database fails with EIO or ENOSPC, once or from then on, or writes
half of what it should; and a disk that is really full (a small ext4 in a file, else tmpfs, else one that the layer
pretends; the table says which). A failed sync must end the daemon, because what is on the disk is then unknown. On a
full disk it must refuse new work in clear words, go on reading, cancelling and stopping, and take new work by itself
when there is room again.
"""

from __future__ import annotations

import argparse
import errno
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.system.drills.books import UNEXPECTED, Verdict
from tests.system.drills.command import Bounds, arguments, run
from tests.system.drills.layer import Action, Layer, Operation
from tests.system.drills.partition import Partition, partition
from tests.system.drills.work import NO_PROGRAMS, Piece, Site
from tests.system.running import DaemonDied, RpcFailed, RunningDaemon

LIVED_ON = "lived on after a failed sync"
STUCK = "did not go on when the fault was over"
UNCLEAR = "full disk: new work not refused in clear words"
DEAF = "full disk: reading, cancelling or stopping failed"
FULL = "STORE_FULL"
GONE = frozenset({FULL, "STORE_FAILED", "STORE_CLOSED", "STORE_DAMAGED", "SHUTTING_DOWN"})
"""What a client may be told while the disk fails under the daemon."""

PATIENCE_S = 20.0
FOR_EVER = 10**9
LIFE_S = 0.7
LATEST = {Operation.WRITE: 250, Operation.SYNC: 50, Operation.TRUNCATE: 2, Operation.NAME: 2}
EARLIEST = {Operation.WRITE: 40, Operation.SYNC: 6, Operation.TRUNCATE: 2, Operation.NAME: 2}
"""How many operations to wait at most under load, and at a start."""
BALLAST = "x" * 20_000


@dataclass(frozen=True)
class Trouble:
    """What befalls which operation."""

    operation: Operation
    action: Action
    error: int = 0
    times: int = 1

    def __str__(self) -> str:
        how = "SHORT" if self.action is Action.SHORT else errno.errorcode[self.error]
        return f"{self.operation.name} {how}{'' if self.times == 1 else ' for good'}"


TROUBLES = (
    Trouble(Operation.SYNC, Action.FAIL, errno.EIO),
    Trouble(Operation.SYNC, Action.FAIL, errno.ENOSPC),
    Trouble(Operation.WRITE, Action.FAIL, errno.ENOSPC),
    Trouble(Operation.WRITE, Action.FAIL, errno.ENOSPC, 40),
    Trouble(Operation.WRITE, Action.FAIL, errno.EIO),
    Trouble(Operation.WRITE, Action.FAIL, errno.EIO, FOR_EVER),
    Trouble(Operation.WRITE, Action.SHORT, times=FOR_EVER),
    Trouble(Operation.TRUNCATE, Action.FAIL, errno.EIO),
    Trouble(Operation.NAME, Action.FAIL, errno.EIO),
)


def drill(folder: Path, bounds: Bounds, *, pretend: bool = False, only: str | None = None) -> Verdict:
    """The whole drill: half of the rounds with troubles, half on a full disk, or `only` one of the two."""
    verdict = Verdict(LIVED_ON, STUCK, UNCLEAR, DEAF)
    with partition(folder, pretend=pretend) as disk:
        verdict.notes.append(f"the disk that was filled: {disk.kind}")
        site = Site(folder, bounds.seed, verdict, home=disk.folder / "home")
        layer = Layer(folder, site.home)
        disk.pretend_by(layer)
        troubles = list(TROUBLES)
        site.random.shuffle(troubles)
        for number in bounds.each():
            if only == "calls" or (only is None and number % 2):
                _trouble(site, layer, troubles[(number if only else number // 2) % len(troubles)])
            else:
                _flood(site, layer, disk, number)
            layer.rest()
            disk.clear()
            site.inspect()
        site.where = "at the end"
        site.finish()
    return verdict


# -- the Nth call fails -----------------------------------------------------------------------------------------------


def _trouble(site: Site, layer: Layer, trouble: Trouble) -> None:
    """A life with one trouble: from the start of the process, or under load."""
    early = site.random.random() < 0.3
    at = site.random.randint(1, (EARLIEST if early else LATEST)[trouble.operation])
    site.where = f"{trouble}, {'from the start' if early else 'under load'}, at {at}"
    site.verdict.count("troubles")
    layer.rest()

    def strike() -> None:
        layer.strike(trouble.action, at, trouble.operation, times=trouble.times, error=trouble.error)

    if early:
        strike()
    with suppress(DaemonDied), site.life(layer.env(), may_refuse=early) as daemon:
        if not early:
            strike()
        with site.clients(daemon, tolerated=GONE) as stop:
            until = time.monotonic() + LIFE_S
            while time.monotonic() < until and _alive(daemon):
                stop.wait(0.05)
        _judge_trouble(site, layer, daemon, trouble)
    site.verdict.count(f"struck: {trouble}", layer.hits > 0)


def _judge_trouble(site: Site, layer: Layer, daemon: RunningDaemon, trouble: Trouble) -> None:
    if trouble.operation is Operation.SYNC and layer.hits:
        if not _ends(daemon):
            site.verdict.fault(LIVED_ON, site.where)
        elif daemon.wait_for_exit() == 0:
            site.verdict.fault(LIVED_ON, f"{site.where}: ended with exit code 0")
        return
    layer.rest()
    if _alive(daemon) and not _patiently(lambda: _accepted(site, daemon)) and not _ends(daemon):
        site.verdict.fault(STUCK, site.where)


# -- a full disk ------------------------------------------------------------------------------------------------------


def _flood(site: Site, layer: Layer, disk: Partition, number: int) -> None:
    try:
        Flood(site, layer, disk, number).run()
    except RpcFailed as error:
        site.verdict.fault(UNEXPECTED, f"{site.where}: {error}")


class Flood:
    """One life on a disk that becomes full, has room again, becomes full and is stopped on or killed on."""

    def __init__(self, site: Site, layer: Layer, disk: Partition, number: int) -> None:
        self._site, self._layer, self._disk = site, layer, disk
        self._name, self._gently = f"f{number}", site.random.random() < 0.5
        self._count = 0

    def run(self) -> None:
        """The whole life."""
        site = self._site
        site.where = f"round {self._name}"
        site.verdict.count("full disks")
        self._layer.rest()
        with suppress(DaemonDied), site.life(self._layer.env()) as daemon:
            with site.clients(daemon, NO_PROGRAMS, frozenset({FULL})) as stop:
                stop.wait(0.3)
                self._stuff(daemon)
                later, running = self._long(daemon, "later", delay_ms=600_000), self._long(daemon, "running")
                self._disk.fill()
                self._must_refuse(daemon)
            self._must_still(daemon, later, running)
            self._disk.clear()
            begun = time.monotonic()
            if _patiently(lambda: _accepted(site, daemon)):
                site.verdict.took("room to new work", time.monotonic() - begun)
            else:
                site.verdict.fault(STUCK, site.where)
            self._disk.fill()
            self._must_refuse(daemon)
            self._end(daemon)
        self._start_full()

    def _stuff(self, daemon: RunningDaemon) -> None:
        """In some rounds: large tasks without a pause, so that the disk becomes full when the WAL is full of news."""
        for number in range(self._site.random.choice((0, 0, 150, 300))):
            name = f"{self._name}-stuff{number}"
            params = {"kind": "noop", "payload": {"result": BALLAST}, "idempotency_key": name}
            self._site.try_to_send(daemon, Piece(name, "task.submit", params, "noop"), frozenset({FULL}))

    def _long(self, daemon: RunningDaemon, name: str, **more: Any) -> Piece:
        """A task that is there until it is canceled."""
        payload = {"sleep_ms": 600_000}
        params = {"kind": "noop", "payload": payload, "idempotency_key": f"{self._name}-{name}", **more}
        piece = Piece(f"{self._name}-{name}", "task.submit", params, "long")
        self._site.send(daemon, piece)
        return piece

    def _must_refuse(self, daemon: RunningDaemon) -> None:
        """Submit until it is refused: what still fits may still be taken."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            self._count += 1
            name = f"{self._name}-{self._count}"
            payload = {"kind": "noop", "payload": {"result": BALLAST}, "idempotency_key": name}
            try:
                self._site.send(daemon, Piece(name, "task.submit", payload, "noop"))
            except RpcFailed as error:
                about = error.error.get("data", {})
                if about.get("code") != FULL or not about.get("retryable"):
                    self._site.verdict.fault(UNCLEAR, f"{self._site.where}: {error} {about}")
                return
            except OSError as error:
                self._site.verdict.fault(UNCLEAR, f"{self._site.where}: {error}")
                return
        self._site.verdict.fault(UNCLEAR, f"{self._site.where}: {self._count} tasks taken and no end")

    def _must_still(self, daemon: RunningDaemon, later: Piece, running: Piece) -> None:
        asks: list[tuple[str, dict[str, Any]]] = [
            ("system.ping", {}),
            ("system.status", {}),
            ("task.list", {"limit": 10}),
            ("task.get", {"task_id": running.task_id}),
            ("task.events", {"task_id": running.task_id}),
        ]
        for method, params in asks:
            self._ask(daemon, method, params)
        for piece in (later, running):
            answer = self._ask(daemon, "task.cancel", {"task_id": piece.task_id, "reason": "drill"})
            if answer is not None:
                self._site.ledger.write("canceled", name=piece.name, canceled=answer["canceled"])
                piece.canceled = answer["canceled"]
                if not answer["canceled"]:
                    self._site.verdict.fault(DEAF, f"{self._site.where}: {piece.name} was not canceled: {answer}")

    def _ask(self, daemon: RunningDaemon, method: str, params: dict[str, Any]) -> Any:
        try:
            return daemon.call(method, **params)
        except (RpcFailed, OSError) as error:
            self._site.verdict.fault(DEAF, f"{self._site.where}: {method}: {error}")
            return None

    def _end(self, daemon: RunningDaemon) -> None:
        if not self._gently:
            daemon.kill()
            return
        begun = time.monotonic()
        with ExitStack() as stack:
            stack.callback(daemon.kill)
            try:
                code = daemon.stop()
            except TimeoutError:
                code = None
        if code != 0:
            self._site.verdict.fault(DEAF, f"{self._site.where}: stopped with exit code {code}")
        self._site.verdict.took("SIGTERM to the end on a full disk", time.monotonic() - begun)

    def _start_full(self) -> None:
        """On a full disk a daemon starts, or says why it does not."""
        self._site.where = f"round {self._name}, start on the full disk"
        with suppress(DaemonDied), self._site.life(self._layer.env(), may_refuse=True) as daemon:
            self._ask(daemon, "task.list", {"limit": 10})


# -- asking -----------------------------------------------------------------------------------------------------------


def _alive(daemon: RunningDaemon) -> bool:
    return daemon.process is not None and daemon.process.poll() is None


def _ends(daemon: RunningDaemon) -> bool:
    return _patiently(lambda: not _alive(daemon))


def _patiently(condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.05)
    return False


def _accepted(site: Site, daemon: RunningDaemon) -> bool:
    """Whether a new piece is taken."""
    piece = site.piece_of("noop", f"probe-{len(site.pieces)}", 0, site.random)
    with suppress(RpcFailed, OSError):
        site.send(daemon, piece)
    return piece.task_id is not None


def _drill(folder: Path, bounds: Bounds, options: argparse.Namespace) -> Verdict:
    return drill(folder, bounds, pretend=options.pretend, only=options.only)


def main() -> int:
    """The drill as a command."""
    parser = arguments("a disk that fails at its Nth call, and one that is full", rounds=20)
    parser.add_argument("--pretend", action="store_true", help="mount nothing: let the layer pretend a full disk")
    parser.add_argument("--only", choices=("calls", "full"), help="only calls that fail, or only a full disk")
    return run(parser, _drill)


if __name__ == "__main__":
    sys.exit(main())
