"""Clocks that jump and machines that sleep: `python -m tests.system.drill_clock --rounds 20 --seed 7`.

A layer moves the clocks of a daemon under load, without its knowledge: the wall clock by 25 hours to and fro; the wall
clock alone while the process stands still, as when a laptop sleeps; both clocks while it stands still for longer than a
lease, as when a virtual machine is frozen; and between two lives. No lease may move for a wall clock, nothing may run
twice, every planned instant of a schedule must be accounted for once.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.system.drills.books import Verdict
from tests.system.drills.command import Bounds, arguments, run
from tests.system.drills.layer import Layer
from tests.system.drills.work import Piece, Site
from tests.system.running import RpcFailed, RunningDaemon, wait_until

MOVED = "leases moved by a wall clock"
KEPT = "leases that outlived their time"
ENDLESS = "tasks that do not end"
TWICE = "tasks that ran or ended twice"
SCHEDULES = "planned instants doubled or vanished"

JUMP_S = 25 * 3600.0
LEASE_S = 30.0
EVERY_MS = 1_000
NOTICED_S = 40.0
"""A wall clock that is set is noticed within 30 s."""
ONE_RUN = ["task.enqueued", "task.claimed", "task.running", "task.succeeded"]
KINDS = ("forward", "frozen", "back", "asleep", "back", "forward", "restarted back", "restarted forward")
MISSED = ("coalesce", "skip", "catch_up(3)")


def drill(folder: Path, bounds: Bounds) -> Verdict:
    """The whole drill. Raises DaemonDied when a start fails.

    Every fifth round waits for the daemon to notice the jump by itself; the others nudge it.
    """
    verdict = Verdict(MOVED, KEPT, ENDLESS, TWICE, SCHEDULES)
    site = Site(folder, bounds.seed, verdict)
    layer = Layer(folder, site.home)
    lives = Lives(site, layer)
    for number in bounds.each():
        kind = KINDS[(number - 1) % len(KINDS)]
        site.where = f"round {number} ({kind})"
        verdict.count(f"rounds: {kind}")
        try:
            Round(site, layer, lives, number).run(kind)
        except OSError as error:
            site.blame(lives.daemon, error)
            lives.end()
            site.end_long_work(lives.again())
    lives.end()
    site.where = "at the end"
    # Waits end by the wall clock: what was to come in the latest of all presents is due only behind it.
    layer.jump(wall_s=len(KINDS) * JUMP_S)
    site.finish(layer.env())
    return verdict


class Lives:
    """The daemon, one life after another; a life that ends for a round is followed by the next."""

    def __init__(self, site: Site, layer: Layer) -> None:
        self._site, self._layer = site, layer
        self._life = site.life(layer.env())
        self.daemon = self._life.__enter__()

    def end(self) -> None:
        """SIGKILL."""
        self._life.__exit__(None, None, None)
        self._site.inspect()

    def again(self) -> RunningDaemon:
        """The next life."""
        self._life = self._site.life(self._layer.env())
        self.daemon = self._life.__enter__()
        return self.daemon


class Round:
    """One jump, with work under way."""

    def __init__(self, site: Site, layer: Layer, lives: Lives, number: int) -> None:
        self._site, self._layer, self._lives, self._number = site, layer, lives, number

    @property
    def _daemon(self) -> RunningDaemon:
        return self._lives.daemon

    def run(self, kind: str) -> None:
        """Work, jump, work, look."""
        job = self._schedule("tick", every_ms=EVERY_MS, missed=self._site.random.choice(MISSED), overlap="allow")
        hourly = self._schedule("hourly", cron="0 * * * *")
        with self._site.clients(self._daemon) as stop:
            stop.wait(0.3)
            pieces = self._start_work(kind)
            before = self._wall_ms()
            self._jump(kind)
            if not kind.startswith("restarted"):
                stop.wait(0.5)
        if self._number % 5:
            self._nudge()
        begun = time.monotonic()
        if kind in ("forward", "frozen", "asleep", "restarted forward"):
            self._await_ticks(job)
            self._site.verdict.took("jump to the schedules' next run", time.monotonic() - begun)
        for piece in pieces:
            if piece.kind == "long":
                self._judge_long(piece)
            if self._ends(piece):
                self._judge(piece, kind)
        for one, step_ms in ((job, EVERY_MS), (hourly, 3_600_000)):
            self._judge_schedule(one, step_ms, before, kind)
            self._daemon.call("cron.remove", id=one)

    def _start_work(self, kind: str) -> list[Piece]:
        """Tasks that are under way when the clock jumps; one outlasts a freeze."""
        made = []
        for number in range(3):
            name = f"r{self._number}-noop{number}"
            params = {"kind": "noop", "payload": {"sleep_ms": 1_500}, "idempotency_key": name}
            made.append(Piece(name, "task.submit", params, "noop"))
        name = f"r{self._number}-unsafe"
        params = {"kind": "exec", "payload": {"argv": self._site.argv("unsafe", name, "1")}, "idempotency_key": name}
        made.append(Piece(name, "task.submit", params, "unsafe"))
        if kind == "frozen":
            name = f"r{self._number}-long"
            params = {"kind": "noop", "payload": {"sleep_ms": 10_000_000}, "idempotency_key": name}
            made.append(Piece(name, "task.submit", params, "long"))
        for piece in made:
            self._site.send(self._daemon, piece)
        wait_until(lambda: all(self._state(piece) != "QUEUED" for piece in made), "all are under way")
        return made

    def _jump(self, kind: str) -> None:
        long_s = self._site.random.uniform(1.5 * LEASE_S, 20 * LEASE_S)
        match kind:
            case "forward":
                self._layer.jump(wall_s=JUMP_S)
            case "back":
                self._layer.jump(wall_s=-JUMP_S)
            case "asleep" | "frozen":
                os.kill(self._daemon.pid, signal.SIGSTOP)
                time.sleep(1.3)
                self._layer.jump(wall_s=long_s, monotonic_s=long_s if kind == "frozen" else 0)
                os.kill(self._daemon.pid, signal.SIGCONT)
            case "restarted back" | "restarted forward":
                self._lives.end()
                self._layer.jump(wall_s=JUMP_S if kind == "restarted forward" else -JUMP_S)
                self._lives.again()

    def _nudge(self) -> None:
        """Something that makes timers and scheduler look at the clock now."""
        name = f"r{self._number}-nudge"
        params = {"kind": "noop", "payload": {}, "delay_ms": 50, "idempotency_key": name}
        self._site.send(self._daemon, Piece(name, "task.submit", params, "delayed"))
        self._daemon.call("cron.remove", id=self._schedule("nudge", cron="0 0 1 1 *"))

    def _await_ticks(self, job: str) -> None:
        """The schedule has dealt with what lies behind the clock."""

        def caught_up() -> bool:
            rows = self._history(job)
            return bool(rows) and rows[-1]["last"] >= self._wall_ms() - 3 * EVERY_MS

        try:
            wait_until(caught_up, "the schedule goes on", NOTICED_S)
        except TimeoutError:
            self._site.verdict.fault(SCHEDULES, f"{self._site.where}: {job} does not go on")

    def _judge_long(self, piece: Piece) -> None:
        """Its lease ran out in the freeze: it is interrupted and comes back. Then it is canceled."""
        try:
            wait_until(lambda: "task.lease_lost" in _types(self._told(piece)), "its lease is lost", LEASE_S)
        except TimeoutError:
            self._site.verdict.fault(KEPT, f"{self._site.where}: {piece.name}: {_types(self._told(piece))}")
        piece.canceled = self._daemon.call("task.cancel", task_id=piece.task_id, reason="drill")["canceled"]

    def _ends(self, piece: Piece) -> bool:
        try:
            self._daemon.wait(str(piece.task_id), 30_000)
        except RpcFailed:
            task = self._daemon.call("task.get", task_id=piece.task_id)
            self._site.verdict.fault(ENDLESS, f"{self._site.where}: {_types(self._told(piece))}: {task}")
            return False
        return True

    def _told(self, piece: Piece) -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = self._daemon.call("task.events", task_id=piece.task_id)["events"]
        return told

    def _judge(self, piece: Piece, kind: str) -> None:
        told = self._told(piece)
        types = _types(told)
        ends = sum(1 for event in told if event["state_to"] in ("SUCCEEDED", "FAILED", "CANCELED", "DEAD_LETTER"))
        if ends != 1:
            self._site.verdict.fault(TWICE, f"{self._site.where}: {piece.name} ended {ends} times: {types}")
        if kind in ("forward", "back", "asleep") and types != ONE_RUN:
            self._site.verdict.fault(MOVED, f"{self._site.where}: {piece.name}: {types}")
        if types.count("task.lease_lost"):
            self._site.verdict.count("leases lost in a freeze")

    def _judge_schedule(self, job: str, step_ms: int, before: int, kind: str) -> None:
        """Every planned instant from the first to the last is in one row, and each run has a task of its own."""
        rows = self._history(job)
        for row in rows:
            if row["count"] != (row["last"] - row["first"]) // step_ms + 1:
                self._site.verdict.fault(SCHEDULES, f"{self._site.where}: {job}: {row}")
        for one, following in pairwise(rows):
            if following["first"] != one["last"] + step_ms:
                self._site.verdict.fault(SCHEDULES, f"{self._site.where}: {job}: {one} and then {following}")
        tasks = [row["task_id"] for row in rows if row["outcome"] == "ran"]
        if len(set(tasks)) != len(tasks):
            self._site.verdict.fault(SCHEDULES, f"{self._site.where}: {job}: two instants, one task")
        self._site.verdict.count("planned instants", sum(row["count"] for row in rows))
        self._site.verdict.count("runs of schedules", len(tasks))
        if kind.endswith("back") and any(row["outcome"] == "ran" and row["last"] > before + 60_000 for row in rows):
            self._site.verdict.fault(SCHEDULES, f"{self._site.where}: {job} ran ahead of its time")

    def _schedule(self, name: str, **when: Any) -> str:
        job = f"{name}-{self._number}"
        self._daemon.call("cron.add", id=job, kind="noop", **when)
        return job

    def _history(self, job: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._daemon.call("cron.history", id=job, limit=500)["occurrences"]
        return sorted(rows, key=lambda row: row["first"])

    def _state(self, piece: Piece) -> str:
        return str(self._daemon.call("task.get", task_id=piece.task_id)["state"])

    def _wall_ms(self) -> int:
        return round((time.time() + self._layer.wall_s) * 1000)


def _types(told: list[dict[str, Any]]) -> list[str]:
    return [event["event_type"] for event in told if event["event_type"].startswith("task.")]


def _drill(folder: Path, bounds: Bounds, options: argparse.Namespace) -> Verdict:
    return drill(folder, bounds)


def main() -> int:
    """The drill as a command."""
    return run(arguments("clocks that jump and machines that sleep, under load", rounds=16), _drill)


if __name__ == "__main__":
    sys.exit(main())
