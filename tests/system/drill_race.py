"""Two of what there must be one of: `python -m tests.system.drill_race --rounds 20 --seed 7`.

In turn: a second daemon on a home that is served, which must be refused and leave every byte as it is; several daemons
started on one home at once, of which one must win; a daemon stopped by SIGSTOP for longer than its leases, while others
try to take its home, and then continued: what its workers bring back must not count twice; and a program stopped by
SIGSTOP whose daemon is killed: the next daemon must have killed it before it takes work, so that nothing it would do
after SIGCONT happens.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from tests.system.drills.books import Verdict
from tests.system.drills.command import Bounds, arguments, run
from tests.system.drills.layer import Layer
from tests.system.drills.work import Piece, Site
from tests.system.running import DaemonDied, RunningDaemon, leftovers, wait_until

SERVED_TWICE = "homes served by two daemons"
NOT_REFUSED = "second daemons not refused in clear words"
TOUCHED = "files changed by a refused daemon"
ZOMBIE = "zombies that counted or acted"

RIVALS = 4
LEASE_S = 30.0
KINDS = ("second", "zombie daemon", "at once", "zombie program")


def drill(folder: Path, bounds: Bounds) -> Verdict:
    """The whole drill."""
    verdict = Verdict(SERVED_TWICE, NOT_REFUSED, TOUCHED, ZOMBIE)
    site = Site(folder, bounds.seed, verdict)
    layer = Layer(folder, site.home)
    rounds = {
        "second": _second,
        "zombie daemon": _zombie_daemon,
        "at once": _at_once,
        "zombie program": _zombie_program,
    }
    for number in bounds.each():
        kind = KINDS[(number - 1) % len(KINDS)]
        site.where = f"round {number} ({kind})"
        verdict.count(f"rounds: {kind}")
        with suppress(DaemonDied):
            rounds[kind](site, layer)
        site.inspect()
    site.where = "at the end"
    site.finish()
    return verdict


def _second(site: Site, layer: Layer) -> None:
    """A second daemon, while the first is quiet: no byte of the home may change; then one while it works."""
    with site.life() as daemon:
        with site.clients(daemon) as stop:
            stop.wait(0.4)
        wait_until(lambda: daemon.call("system.status")["running_tasks"] == 0, "nothing runs")
        daemon.call("system.pause")
        before = _settled(site)
        _must_be_refused(site, daemon.pid)
        changed = [name for name, digest in _digests(site).items() if before.get(name) != digest]
        if changed:
            site.verdict.fault(TOUCHED, f"{site.where}: {changed}")
        daemon.call("system.resume")
        with site.clients(daemon):
            _must_be_refused(site, daemon.pid)


def _at_once(site: Site, layer: Layer) -> None:
    """Several daemons start at the same instant; one serves. It is killed, and again several start."""
    for _ in range(2):
        rivals = [RunningDaemon(site.home, env={"OLLAMA_HOST": ""}) for _ in range(RIVALS)]
        ready: list[RunningDaemon] = []
        together = threading.Barrier(RIVALS)

        def start(rival: RunningDaemon, ready: list[RunningDaemon], together: threading.Barrier) -> None:
            together.wait()
            with suppress(DaemonDied):
                rival.__enter__()
                ready.append(rival)

        threads = [threading.Thread(target=start, args=(rival, ready, together)) for rival in rivals]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        try:
            if len(ready) != 1:
                site.verdict.fault(SERVED_TWICE, f"{site.where}: {len(ready)} of {RIVALS} were ready")
            for rival in rivals:
                if rival not in ready and _reason(rival) != "E_HOME_LOCKED":
                    site.verdict.fault(NOT_REFUSED, f"{site.where}: {_reason(rival)}")
            for rival in ready:
                with site.clients(rival) as stop:
                    stop.wait(0.3)
        finally:
            for rival in rivals:
                rival.kill()


def _zombie_daemon(site: Site, layer: Layer) -> None:
    """Stopped for longer than its leases, its clock gone on; meanwhile others want its home."""
    with site.life(layer.env()) as daemon:
        pieces = _work(site, daemon, f"z{len(site.pieces)}")
        with site.clients(daemon) as stop:
            stop.wait(0.2)
            os.kill(daemon.pid, signal.SIGSTOP)
            _must_be_refused(site, daemon.pid)
            layer.jump(monotonic_s=2 * LEASE_S)
            os.kill(daemon.pid, signal.SIGCONT)
            stop.wait(0.3)
        for piece in pieces:
            daemon.wait(str(piece.task_id), 60_000)
            told = daemon.call("task.events", task_id=piece.task_id)["events"]
            ends = [event["state_to"] for event in told if event["state_to"] in ("SUCCEEDED", "FAILED", "CANCELED")]
            if len(ends) != 1:
                site.verdict.fault(ZOMBIE, f"{site.where}: {piece.name} ended as {ends}")


def _zombie_program(site: Site, layer: Layer) -> None:
    """Programs stopped before they act, their daemon killed; then the programs are told to continue."""
    name = f"s{len(site.pieces)}"
    with site.life() as daemon:
        _work(site, daemon, name)
        programs = wait_until(lambda: leftovers(site.home), "programs run")
        for pid in programs:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        daemon.kill()
    with site.life() as daemon:
        for pid in programs:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        survivors = set(programs) & set(leftovers(site.home))
        if survivors:
            site.verdict.fault(ZOMBIE, f"{site.where}: {sorted(survivors)} lived on")
        with site.clients(daemon) as stop:
            stop.wait(0.3)


def _work(site: Site, daemon: RunningDaemon, name: str) -> list[Piece]:
    """Programs that act only after a while, and a task that sleeps; returns when they are under way."""
    made = []
    for number in range(3):
        one = f"{name}-unsafe{number}"
        payload = {"argv": site.argv("unsafe", one, "0.7")}
        made.append(Piece(one, "task.submit", {"kind": "exec", "payload": payload, "idempotency_key": one}, "unsafe"))
    one = f"{name}-noop"
    params = {"kind": "noop", "payload": {"sleep_ms": 700}, "idempotency_key": one}
    made.append(Piece(one, "task.submit", params, "noop"))
    for piece in made:
        site.send(daemon, piece)
    return made


def _must_be_refused(site: Site, pid: int) -> None:
    """Start a second daemon on the home of `pid`."""
    rival = RunningDaemon(site.home, env={"OLLAMA_HOST": ""})
    begun = time.monotonic()
    try:
        with rival:
            site.verdict.fault(SERVED_TWICE, site.where)
    except DaemonDied:
        site.verdict.count("second daemons refused")
        site.verdict.took("refusal of a second daemon", time.monotonic() - begun)
        told = next((line for line in rival.lines if line.get("msg") == "startup failure"), {})
        if told.get("reason_code") != "E_HOME_LOCKED" or str(pid) not in str(told):
            site.verdict.fault(NOT_REFUSED, f"{site.where}: {told or rival.lines[-1:]}")


def _reason(daemon: RunningDaemon) -> str:
    told = [line.get("reason_code") for line in daemon.lines if line.get("msg") == "startup failure"]
    return str(told[0]) if told else str(daemon.lines[-1:])


def _digests(site: Site) -> dict[str, str]:
    """Every file of the home but the memory of the WAL's index and the log."""
    found = {}
    for path in site.home.rglob("*"):
        if path.is_file() and path.name != "goclaw.db-shm" and path.parent.name != "logs":
            found[str(path.relative_to(site.home))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _settled(site: Site) -> dict[str, str]:
    """The digests once they no longer change: checkpoints have been made."""
    last = _digests(site)
    while True:
        time.sleep(1.0)
        now = _digests(site)
        if now == last:
            return now
        last = now


def _drill(folder: Path, bounds: Bounds, options: argparse.Namespace) -> Verdict:
    return drill(folder, bounds)


def main() -> int:
    """The drill as a command."""
    return run(arguments("two daemons on one home, workers that come back from the dead", rounds=16), _drill)


if __name__ == "__main__":
    sys.exit(main())
