"""SIGKILL at random moments, again and again, under load: `python -m tests.system.drill_kill --rounds 50 --seed 7`.

Clients feed a real daemon with work of every kind while it is killed: some time after it was ready, or while it starts.
What was acknowledged is written down outside of the daemon, and so is every effect that the work had. At the end the
daemon runs undisturbed until nothing is left to do, and the books are compared. Exit code 1 unless all of them agree.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from goclaw.store.events import verify_chain
from tests.system.running import DaemonDied, RpcFailed, RunningDaemon, leftovers, wait_until

CLIENTS = 4
PAUSE_S = 0.01
LIFE_S = (0.05, 1.0)
STARTING_S = 0.4
END_S = 180
TERMINAL = {"SUCCEEDED", "FAILED", "CANCELED", "DEAD_LETTER"}
POLICY = """
allow_capabilities: [acp.read, acp.mutate, tools.read_file, tools.exec]
allow_paths: [workspace]
exec:
  allow:
    - {argv: "SCRIPT pure *", effect: pure}
    - {argv: "SCRIPT unsafe *"}
"""
SCRIPT = """#!/bin/sh
# EFFECT NAME: write it down, work a little; whoever outlives its daemon stays until it is killed.
printf '%s %s\\n' "$2" "$GOCLAW_EFFECT_KEY" >> LEDGER
sleep 0.0$(($$ % 10))
kill -0 $PPID 2>/dev/null || exec sleep 300
"""


@dataclass
class Piece:
    """One submission: what was sent, what came back, and how it must end."""

    name: str
    method: str
    params: dict[str, Any]
    kind: str
    task_id: str | None = None
    """Set when it was acknowledged."""
    canceled: bool | None = None
    """What the daemon answered to a request to cancel it."""


@dataclass
class Verdict:
    """What the comparison of the books came to. All but the first lines must be 0."""

    rounds: int = 0
    submitted: int = 0
    acknowledged: int = 0
    known_again: int = 0
    effects: int = 0
    unknown: int = 0
    poisoned: int = 0
    slowest_ready_ms: int = 0
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    wrong_state: list[str] = field(default_factory=list)
    out_of_order: list[str] = field(default_factory=list)
    broken_chain: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)

    @property
    def faults(self) -> dict[str, list[str]]:
        """What must be empty, by its name in the table."""
        return {
            "acknowledged and lost": self.lost,
            "unsafe effects duplicated": self.duplicated,
            "effects reported and missing": self.missing,
            "wrong end state": self.wrong_state,
            "sessions out of order": self.out_of_order,
            "event chain broken": self.broken_chain,
            "processes of a dead daemon left over": self.left_over,
        }

    def table(self) -> str:
        """For a person."""
        facts = {
            "rounds (SIGKILL)": self.rounds,
            "submitted": self.submitted,
            "acknowledged": self.acknowledged,
            "sent again and known": self.known_again,
            "effects in the outside ledger": self.effects,
            "unsafe, cut off, told as unknown": self.unknown,
            "dead letters by three deaths": self.poisoned,
            "slowest start to ready, ms": self.slowest_ready_ms,
        }
        rows = [*facts.items(), *((name, len(found)) for name, found in self.faults.items())]
        lines = [f"{name:<40}{count:>8}" for name, count in rows]
        lines += [f"! {name}: {one}" for name, found in self.faults.items() for one in found[:5]]
        return "\n".join(lines)


class Drill:
    """One drill on one home."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.home, self.ledger, self.script = folder / "home", folder / "ledger", folder / "effect.sh"
        (self.home / "workspace").mkdir(parents=True)
        self.home.chmod(0o700)
        self.script.write_text(SCRIPT.replace("LEDGER", str(self.ledger)))
        self.script.chmod(0o755)
        (self.home / "policy.yaml").write_text(POLICY.replace("SCRIPT", str(self.script)))
        self.random = random.Random(seed)  # noqa: S311 (a drill must be repeatable)
        self.pieces: list[Piece] = []
        self.verdict = Verdict()
        self._count = 0

    # -- the rounds -------------------------------------------------------------------------------------------------

    def run(self, rounds: int, seconds: float) -> Verdict:
        """All rounds, or as many as begin within `seconds`, then the comparison."""
        until = time.monotonic() + seconds
        while self.verdict.rounds < rounds and time.monotonic() < until:
            self.verdict.rounds += 1
            self._round()
            self._check_chain()
        self._finish()
        return self.verdict

    def _round(self) -> None:
        before = leftovers(self.home)
        daemon = RunningDaemon(self.home, env={"OLLAMA_HOST": ""})
        early = self.random.random() < 0.2
        life = self.random.uniform(0, STARTING_S) if early else self.random.uniform(*LIFE_S)
        if early:
            threading.Thread(target=_kill_after, args=(daemon, life)).start()
        begun = time.monotonic()
        with suppress(DaemonDied), daemon:
            self._was_ready(begun, before)
            stop = threading.Event()
            clients = [
                threading.Thread(target=self._feed, args=(daemon, number, stop, self.random.randrange(2**32)))
                for number in range(CLIENTS)
            ]
            for client in clients:
                client.start()
            if not early:
                time.sleep(life)
            daemon.kill()
            stop.set()
            for client in clients:
                client.join()

    def _was_ready(self, begun: float, before: list[int]) -> None:
        self.verdict.slowest_ready_ms = max(self.verdict.slowest_ready_ms, round((time.monotonic() - begun) * 1000))
        alive = set(before) & set(leftovers(self.home))
        self.verdict.left_over += [f"round {self.verdict.rounds}: pid {pid}" for pid in sorted(alive)]

    def _feed(self, daemon: RunningDaemon, client: int, stop: threading.Event, seed: int) -> None:
        """One client: first what was not acknowledged in the life before, then new work, one piece after another."""
        chance = random.Random(seed)  # noqa: S311 (as above)
        open_pieces = [piece for piece in self.pieces if piece.task_id is None and piece.name.startswith(f"c{client}-")]
        number = sum(1 for piece in self.pieces if piece.name.startswith(f"c{client}-"))
        with suppress(OSError):
            for piece in open_pieces:
                self._send(daemon, piece)
            while not stop.is_set():
                piece = self._piece(f"c{client}-{number}", client, chance)
                number += 1
                self.pieces.append(piece)
                self._send(daemon, piece)
                if piece.kind == "canceled":
                    answer = daemon.call("task.cancel", task_id=piece.task_id, reason="drill")
                    piece.canceled = answer["canceled"]
                stop.wait(chance.uniform(0, 2 * PAUSE_S))

    def _send(self, daemon: RunningDaemon, piece: Piece) -> None:
        answer = daemon.call(piece.method, **piece.params)
        piece.task_id = answer["task_id"]
        self.verdict.known_again += answer["deduplicated"]

    def _piece(self, name: str, client: int, chance: random.Random) -> Piece:
        kinds: dict[str, tuple[int, Callable[[], dict[str, Any]]]] = {
            "noop": (4, lambda: {"kind": "noop", "payload": {"sleep_ms": chance.randrange(50)}}),
            "delayed": (1, lambda: {"kind": "noop", "payload": {}, "delay_ms": chance.randrange(1, 2_000)}),
            "failing": (1, lambda: {"kind": "noop", "payload": {"fail": "for good", "permanent": True}}),
            "retrying": (1, lambda: {"kind": "noop", "payload": {"fail": name}, "max_attempts": 2}),
            "canceled": (1, lambda: {"kind": "noop", "payload": {"sleep_ms": 2_000}}),
            "pure": (3, lambda: {"kind": "exec", "payload": {"argv": self._argv("pure", name), "effect": "pure"}}),
            "unsafe": (4, lambda: {"kind": "exec", "payload": {"argv": self._argv("unsafe", name)}}),
            "chat": (2, lambda: {"content": self._directives(name), "session_id": f"session-{client}"}),
        }
        (kind,) = chance.choices(list(kinds), [weight for weight, _ in kinds.values()])
        params = {**kinds[kind][1](), "idempotency_key": name}
        if kind != "chat":
            params["priority"] = chance.randrange(-3, 4)
        return Piece(name, "agent.chat" if kind == "chat" else "task.submit", params, kind)

    def _argv(self, effect: str, name: str) -> list[str]:
        return [str(self.script), effect, name]

    def _directives(self, name: str) -> str:
        """A turn with two calls: one that may run again, one that may not."""
        pure = {"argv": self._argv("pure", f"{name}/pure"), "effect": "pure"}
        unsafe = {"argv": self._argv("unsafe", f"{name}/unsafe")}
        return f"/exec {json.dumps(pure)}\n/exec {json.dumps(unsafe)}"

    def _check_chain(self) -> None:
        """Verify the event log as the kill has left it, on a copy."""
        with tempfile.TemporaryDirectory() as folder:
            for suffix in ("", "-wal"):
                with suppress(FileNotFoundError):
                    shutil.copy(f"{self.home}/goclaw.db{suffix}", f"{folder}/copy.db{suffix}")
            if not Path(folder, "copy.db").is_file():
                return  # killed before there was a database
            with closing(sqlite3.connect(f"{folder}/copy.db")) as conn:
                conn.row_factory = sqlite3.Row
                if conn.execute("SELECT 1 FROM sqlite_schema WHERE name = 'event'").fetchone() is None:
                    return
                conn.execute("PRAGMA query_only = ON")
                broken = verify_chain(conn)
        if broken is not None:
            self.verdict.broken_chain.append(f"round {self.verdict.rounds}: event {broken.event_id} {broken.what}")

    # -- the comparison ---------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        """A last life that nobody disturbs, then compare."""
        before, begun = leftovers(self.home), time.monotonic()
        with RunningDaemon(self.home, env={"OLLAMA_HOST": ""}) as daemon:
            self._was_ready(begun, before)
            wait_until(lambda: self._is_idle(daemon), "all work has ended", END_S)
            tasks = {task["idempotency_key"]: task for task in _all_tasks(daemon)}
            self._compare(daemon, tasks)
            for client in range(CLIENTS):
                self._check_order(daemon, f"session-{client}")
            if daemon.stop() != 0:
                self.verdict.wrong_state.append("the daemon did not stop with exit code 0")
        left = leftovers(self.home)
        self.verdict.left_over += [f"at the end: pid {pid}" for pid in left]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        self._check_chain()

    def _is_idle(self, daemon: RunningDaemon) -> bool:
        status = daemon.call("system.status")
        return not (status["queue_depth"] or status["running_tasks"] or status["retry_wait"])

    def _compare(self, daemon: RunningDaemon, tasks: dict[str, Any]) -> None:
        text = self.ledger.read_text() if self.ledger.exists() else ""
        lines = [line.split() for line in text.splitlines()]
        times = Counter(name for name, _ in lines)
        keys: dict[str, set[str]] = {}
        for name, key in lines:
            keys.setdefault(name, set()).add(key)
        verdict = self.verdict
        verdict.submitted, verdict.effects = len(self.pieces), len(lines)
        verdict.acknowledged = sum(1 for piece in self.pieces if piece.task_id is not None)
        for piece in self.pieces:
            task = tasks.get(piece.name)
            if task is None or (piece.task_id or task["id"]) != task["id"]:
                verdict.lost += [piece.name] if piece.task_id is not None or task else []
            else:
                self._judge(daemon, piece, task, times)
        verdict.wrong_state += [
            f"{name} has {len(found)} effect keys" for name, found in keys.items() if len(found) > 1
        ]

    def _judge(self, daemon: RunningDaemon, piece: Piece, task: dict[str, Any], times: Counter[str]) -> None:
        verdict, end = self.verdict, (task["state"], task.get("error_code"))
        if end == ("DEAD_LETTER", "POISON") and task["deaths"] == 3:
            verdict.poisoned += 1
            return
        if end not in _expected(piece):
            verdict.wrong_state.append(f"{piece.name} ({piece.kind}) ended as {end}")
        if piece.kind == "unsafe":
            self._judge_unsafe(piece.name, end[0] == "SUCCEEDED", times[piece.name])
        elif piece.kind == "pure" and not times[piece.name]:
            verdict.missing.append(piece.name)
        elif piece.kind == "chat":
            steps = daemon.call("task.steps", task_id=task["id"])["steps"]
            done = {step["effect"]: step["state"] == "done" for step in steps if step["kind"] == "tool"}
            self._judge_unsafe(f"{piece.name}/unsafe", done.get("unsafe", False), times[f"{piece.name}/unsafe"])
            if done.get("pure") and not times[f"{piece.name}/pure"]:
                verdict.missing.append(f"{piece.name}/pure")

    def _judge_unsafe(self, name: str, done: bool, times: int) -> None:
        self.verdict.unknown += not done
        if times > 1:
            self.verdict.duplicated.append(f"{name} {times} times")
        if done and not times:
            self.verdict.missing.append(name)

    def _check_order(self, daemon: RunningDaemon, session: str) -> None:
        """The turns of a session are answered in the order in which their client sent them."""
        sent = [piece.task_id for piece in self.pieces if piece.params.get("session_id") == session and piece.task_id]
        try:
            items = list(_history(daemon, session))
        except RpcFailed:
            return  # no turn of this client was ever stored
        for role in ("user", "assistant"):
            told = list(dict.fromkeys(item["task_id"] for item in items if item["role"] == role))
            known = [one for one in sent if one in told]
            if [one for one in told if one in known] != known:
                self.verdict.out_of_order.append(f"{session}: {role} messages")


def _expected(piece: Piece) -> set[tuple[str, str | None]]:
    done: tuple[str, str | None] = ("SUCCEEDED", None)
    match piece.kind:
        case "failing":
            return {("FAILED", "NOOP_FAILED")}
        case "retrying":
            return {("DEAD_LETTER", "NOOP_FAILED")}
        case "unsafe":
            return {done, ("FAILED", "OUTCOME_UNKNOWN")}
        case "canceled":
            canceled: tuple[str, str | None] = ("CANCELED", "CANCELED")
            return {done, canceled} if piece.canceled is None else {canceled if piece.canceled else done}
        case _:
            return {done}


def _all_tasks(daemon: RunningDaemon) -> Iterator[dict[str, Any]]:
    page: dict[str, Any] = {"limit": 500}
    while True:
        answer = daemon.call("task.list", **page)
        yield from answer["tasks"]
        if "next_cursor" not in answer:
            return
        page["cursor"] = answer["next_cursor"]


def _history(daemon: RunningDaemon, session: str) -> Iterator[dict[str, Any]]:
    """All messages, oldest first."""
    pages: list[list[dict[str, Any]]] = []
    before: dict[str, Any] = {}
    while items := daemon.call("session.history", session_id=session, limit=500, **before)["items"]:
        pages.append(items)
        before = {"before": items[0]["id"]}
    for items in reversed(pages):
        yield from items


def _kill_after(daemon: RunningDaemon, seconds: float) -> None:
    while daemon.process is None:
        time.sleep(0.001)
    time.sleep(seconds)
    daemon.process.kill()


def main() -> int:
    """The drill as a command."""
    parser = argparse.ArgumentParser(description="kill -9 under load, at random moments, and compare the books")
    parser.add_argument("--rounds", type=int, default=30, help="how often to kill (30)")
    parser.add_argument("--seconds", type=float, default=600.0, help="begin no round after this time (600)")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="repeat a drill")  # noqa: S311
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="goclaw-drill-") as folder:
        begun = time.monotonic()
        verdict = Drill(Path(folder), options.seed).run(options.rounds, options.seconds)
        sys.stdout.write(f"{verdict.table()}\nseed {options.seed}, {time.monotonic() - begun:.0f} s\n")
    return 1 if any(verdict.faults.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
