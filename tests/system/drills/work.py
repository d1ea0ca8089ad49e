"""The work of a drill: a home with programs that leave traces outside of it, clients that feed it, and the comparison.

A `Site` is one home with its books. Its daemon may be killed at any moment, its disk rolled back, its clocks moved; at
the end it runs undisturbed until nothing is left to do, and what it says is compared with the books.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goclaw.store.chains import first_break
from tests.system.drills import books
from tests.system.drills.books import Ledger, Verdict
from tests.system.running import DaemonDied, RpcFailed, RunningDaemon, leftovers, wait_until

CLIENTS = 4
PAUSE_S = 0.01
END_S = 180
TURNS = 200
"""A client begins a new session after so many pieces; about one in nine is a turn."""
READY = "start to ready"
POLICY = """
allow_capabilities: [acp.read, acp.mutate, tools.read_file, tools.exec, tools.cron]
allow_paths: [workspace]
exec:
  allow:
    - {argv: "SCRIPT pure *", effect: pure}
    - {argv: "SCRIPT unsafe *"}
    - {argv: "SCRIPT unsafe * *"}
"""
SCRIPT = """#!/bin/sh
# EFFECT NAME [SECONDS]: write it down (after SECONDS), work a little; whoever outlives its daemon stays until killed.
# Some say so much that it becomes an artifact.
sleep "${3:-0}"
case $1-$2 in pure-*[05] | pure-*[05]/pure) printf '%s ' "$2"; head -c 70000 /dev/zero | tr '\\0' x ;; esac
printf '%s %s\\n' "$2" "$GOCLAW_EFFECT_KEY" | dd of=LEDGER oflag=append conv=notrunc,fsync status=none
sleep 0.0$(($$ % 10))
kill -0 $PPID 2>/dev/null || exec sleep 300
"""
CONFIG = """
crash_loop_delay_seconds: 0
"""
"""A drill is a crash loop; what waits for one to be over would only make it longer."""
_SHA256 = re.compile(r"\b[0-9a-f]{64}\b")
WEIGHTS: Mapping[str, int] = {
    "noop": 4,
    "delayed": 1,
    "failing": 1,
    "retrying": 1,
    "canceled": 1,
    "pure": 3,
    "unsafe": 4,
    "chat": 2,
}
NO_PROGRAMS: Mapping[str, int] = {name: WEIGHTS[name] for name in ("noop", "delayed", "failing", "canceled")}


@dataclass
class Piece:
    """One submission: what was sent, what came back, and how it must end."""

    name: str
    method: str
    params: dict[str, Any]
    kind: str
    sent: bool = False
    task_id: str | None = None
    """Set when it was acknowledged."""
    canceled: bool | None = None
    """What the daemon answered to a request to cancel it."""


class Site:
    """One home, its books, and what happens to it."""

    def __init__(self, folder: Path, seed: int, verdict: Verdict, *, home: Path | None = None) -> None:
        self.folder = folder
        self.home, self.effects, self.script = home or folder / "home", folder / "effects", folder / "effect.sh"
        (self.home / "workspace").mkdir(parents=True, exist_ok=True)
        self.home.chmod(0o700)
        self.script.write_text(SCRIPT.replace("LEDGER", str(self.effects)))
        self.script.chmod(0o755)
        (self.home / "policy.yaml").write_text(POLICY.replace("SCRIPT", str(self.script)))
        (self.home / "config.yaml").write_text(CONFIG)
        self.random = random.Random(seed)  # noqa: S311 (a drill must be repeatable)
        self.ledger = Ledger(folder / "ledger")
        self.pieces: list[Piece] = []
        self.verdict = verdict
        self.where = ""
        """What the drill is at, for findings."""

    # -- lives ------------------------------------------------------------------------------------------------------

    @contextmanager
    def life(
        self,
        env: Mapping[str, str] | None = None,
        launcher: Sequence[str] = ("-m", "goclaw"),
        kill_after_s: float | None = None,
        may_refuse: bool = False,
    ) -> Iterator[RunningDaemon]:
        """A daemon from its start to SIGKILL or its end; `kill_after_s` is counted from the start of the process.

        Raises DaemonDied when it does not become ready. That is a fault unless it was killed, or it `may_refuse` to
        start and says why. Where the block meets an OSError, because it is not answered, that is a fault unless the
        daemon was killed; then it is raised.
        """
        before, begun = leftovers(self.home), time.monotonic()
        daemon = RunningDaemon(self.home, env={"OLLAMA_HOST": "", **(env or {})}, launcher=launcher)
        if kill_after_s is not None:
            threading.Thread(target=_kill_after, args=(daemon, kill_after_s)).start()
        with ExitStack() as stack:
            try:
                stack.enter_context(daemon)
            except DaemonDied:
                why, told = _failure(daemon)
                if told and may_refuse:
                    self.verdict.count(f"starts refused with {why.partition(':')[0]}")
                elif why:
                    self.verdict.fault(books.NO_START, f"{self.where}: {why}")
                raise
            self.verdict.took(READY, time.monotonic() - begun)
            alive = set(before) & set(leftovers(self.home))
            for pid in sorted(alive):
                self.verdict.fault(books.LEFT_OVER, f"{self.where}: pid {pid}")
            try:
                yield daemon
            except OSError as error:
                if not self.blame(daemon, error):
                    raise

    def blame(self, daemon: RunningDaemon, error: OSError) -> bool:
        """A daemon did not answer. False when it was killed; else note the fault."""
        assert daemon.process is not None
        with suppress(subprocess.TimeoutExpired):
            daemon.process.wait(1)
        code = daemon.process.poll()
        words = [line.get("error") or line.get("msg") for line in daemon.lines[-3:]]
        if code == -signal.SIGKILL:
            return False
        if code is None:
            self.verdict.fault(books.UNEXPECTED, f"{self.where}: {error}; it lives, its last words: {words}")
        else:
            self.verdict.fault(books.ENDED, f"{self.where}: exit code {code}, its last words: {words}")
        return True

    @contextmanager
    def clients(
        self, daemon: RunningDaemon, weights: Mapping[str, int] = WEIGHTS, tolerated: frozenset[str] = frozenset()
    ) -> Iterator[threading.Event]:
        """Clients that feed the daemon until the block ends; the event tells them to stop earlier. An answer with a
        code in `tolerated` leaves its piece to be sent again."""
        stop = threading.Event()
        threads = [
            threading.Thread(target=self._feed, args=(daemon, number, stop, self.random.randrange(2**32), feed))
            for number in range(CLIENTS)
            for feed in [_Feed(weights, tolerated)]
        ]
        for thread in threads:
            thread.start()
        try:
            yield stop
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def _feed(self, daemon: RunningDaemon, client: int, stop: threading.Event, seed: int, feed: _Feed) -> None:
        """One client: first what was not acknowledged in the life before, then new work, one piece after another."""
        chance = random.Random(seed)  # noqa: S311 (as above)
        waiting = [piece for piece in self.pieces if piece.task_id is None and piece.name.startswith(f"c{client}-")]
        number = sum(1 for piece in self.pieces if piece.name.startswith(f"c{client}-"))
        with suppress(OSError):
            while waiting or not stop.is_set():
                if waiting:
                    piece = waiting.pop(0)
                else:
                    piece = self.piece(f"c{client}-{number}", client, chance, feed.weights)
                    number += 1
                if not self.try_to_send(daemon, piece, feed.tolerated):
                    waiting.insert(0, piece)
                    if stop.wait(0.1):
                        return
                stop.wait(chance.uniform(0, 2 * PAUSE_S))

    def try_to_send(self, daemon: RunningDaemon, piece: Piece, tolerated: frozenset[str] = frozenset()) -> bool:
        """As `send`, but False for a refusal, which is a fault unless its code is tolerated."""
        try:
            self.send(daemon, piece)
        except RpcFailed as error:
            code = str(error.error.get("data", {}).get("code"))
            if code in tolerated:
                self.verdict.count(f"refused with {code}")
            else:
                self.verdict.fault(books.UNEXPECTED, f"{self.where}: {piece.name} ({piece.kind}): {error} ({code})")
            return False
        return True

    def send(self, daemon: RunningDaemon, piece: Piece) -> None:
        """Send a piece, again if it was sent before. Raises RpcFailed, or OSError when nobody answers."""
        if not piece.sent:
            piece.sent = True
            self.pieces.append(piece)
        self.ledger.write("sent", name=piece.name, method=piece.method, params=piece.params)
        answer = daemon.call(piece.method, **piece.params)
        self.ledger.write("acknowledged", name=piece.name, task_id=answer["task_id"])
        piece.task_id = answer["task_id"]
        if answer["deduplicated"]:
            self.verdict.count("sent again and known")
        if piece.kind == "canceled":
            answer = daemon.call("task.cancel", task_id=piece.task_id, reason="drill")
            self.ledger.write("canceled", name=piece.name, canceled=answer["canceled"])
            # Asked for and not yet carried out (its end could not be stored): it is canceled at its next chance.
            open_still = not answer["canceled"] and answer["state"] in ("QUEUED", "CLAIMED", "RUNNING", "RETRY_WAIT")
            piece.canceled = None if open_still else answer["canceled"]

    def piece(self, name: str, client: int, chance: random.Random, weights: Mapping[str, int] = WEIGHTS) -> Piece:
        """A piece of some kind."""
        (kind,) = chance.choices(list(weights), list(weights.values()))
        return self.piece_of(kind, name, client, chance)

    def piece_of(self, kind: str, name: str, client: int, chance: random.Random) -> Piece:
        """A piece of this kind."""
        kinds: dict[str, Callable[[], dict[str, Any]]] = {
            "noop": lambda: {"kind": "noop", "payload": {"sleep_ms": chance.randrange(50)}},
            "delayed": lambda: {"kind": "noop", "payload": {}, "delay_ms": chance.randrange(1, 2_000)},
            "failing": lambda: {"kind": "noop", "payload": {"fail": "for good", "permanent": True}},
            "retrying": lambda: {"kind": "noop", "payload": {"fail": name}, "max_attempts": 2},
            "canceled": lambda: {"kind": "noop", "payload": {"sleep_ms": 2_000}},
            "pure": lambda: {"kind": "exec", "payload": {"argv": self.argv("pure", name), "effect": "pure"}},
            "unsafe": lambda: {"kind": "exec", "payload": {"argv": self.argv("unsafe", name)}},
            "chat": lambda: {"content": self._directives(name), "session_id": _session(client, name)},
        }
        params = {**kinds[kind](), "idempotency_key": name}
        if kind != "chat":
            params["priority"] = chance.randrange(-3, 4)
        return Piece(name, "agent.chat" if kind == "chat" else "task.submit", params, kind)

    def argv(self, effect: str, name: str, *more: str) -> list[str]:
        """The program that writes `name` into the ledger of effects."""
        return [str(self.script), effect, name, *more]

    def _directives(self, name: str) -> str:
        """A turn with two calls: one that may run again, one that may not."""
        pure = {"argv": self.argv("pure", f"{name}/pure"), "effect": "pure"}
        unsafe = {"argv": self.argv("unsafe", f"{name}/unsafe")}
        return f"/exec {json.dumps(pure)}\n/exec {json.dumps(unsafe)}"

    # -- looking at what a kill has left -----------------------------------------------------------------------------

    def inspect(self) -> None:
        """Verify the database as the last life has left it, on a copy: whole, and its chains unbroken."""
        with suppress(FileNotFoundError):
            self.verdict.top("largest WAL, KiB", self.home.joinpath("goclaw.db-wal").stat().st_size // 1024)
        with tempfile.TemporaryDirectory() as folder:
            for suffix in ("", "-wal", "-journal"):
                with suppress(FileNotFoundError):
                    shutil.copy(f"{self.home}/goclaw.db{suffix}", f"{folder}/copy.db{suffix}")
            if not Path(folder, "copy.db").is_file():
                return  # killed before there was a database
            with closing(sqlite3.connect(f"{folder}/copy.db")) as conn:
                try:
                    self._inspect(conn)
                except sqlite3.DatabaseError as error:
                    self.verdict.fault(books.DAMAGED, f"{self.where}: {error}")

    def _inspect(self, conn: sqlite3.Connection) -> None:
        conn.row_factory = sqlite3.Row
        (said,) = conn.execute("PRAGMA integrity_check(1)").fetchone()
        if said != "ok":
            self.verdict.fault(books.DAMAGED, f"{self.where}: {said}")
        if conn.execute("SELECT 1 FROM sqlite_schema WHERE name = 'event'").fetchone() is None:
            return
        if conn.execute("PRAGMA foreign_key_check").fetchone() is not None:
            self.verdict.fault(books.DAMAGED, f"{self.where}: a row refers to one that is not there")
        conn.execute("PRAGMA query_only = ON")
        if (broken := first_break(conn)) is not None:
            self.verdict.fault(books.CHAIN, f"{self.where}: {broken}")

    def kill_leftovers(self) -> None:
        """What a power cut does to the programs that the daemon had started."""
        for pid in leftovers(self.home):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    # -- the comparison ---------------------------------------------------------------------------------------------

    def finish(self, env: Mapping[str, str] | None = None) -> None:
        """A last life that nobody disturbs, then compare."""
        self.where = self.where or "at the end"
        try:
            self._last_life(env)
        except DaemonDied:
            self._count_work()
        for pid in leftovers(self.home):
            self.verdict.fault(books.LEFT_OVER, f"{self.where}: pid {pid}")
        self.kill_leftovers()
        self.inspect()

    def _last_life(self, env: Mapping[str, str] | None) -> None:
        with self.life(env) as daemon:
            try:
                self.settle(daemon)
            except RpcFailed as error:
                self.verdict.fault(books.UNEXPECTED, f"{self.where}: {error}")
            if daemon.stop() != 0:
                self.verdict.fault(books.WRONG_STATE, f"{self.where}: no stop with exit code 0")

    def settle(self, daemon: RunningDaemon) -> None:
        """Send again what was not acknowledged, end what would last, wait until nothing is left to do; compare."""
        self.end_long_work(daemon)
        for piece in self.pieces:
            if piece.task_id is None:
                self.try_to_send(daemon, piece)
        wait_until(lambda: _is_idle(daemon), "all work has ended", END_S)
        tasks = {task["idempotency_key"]: task for task in all_tasks(daemon) if "idempotency_key" in task}
        self._compare(daemon, tasks)
        for session in dict.fromkeys(piece.params["session_id"] for piece in self.pieces if piece.kind == "chat"):
            self._check_order(daemon, session)

    def end_long_work(self, daemon: RunningDaemon) -> None:
        """Cancel what would last, and would hold up the others once it has run at two unclean stops."""
        for piece in self.pieces:
            if piece.kind == "long" and piece.task_id is not None and not piece.canceled:
                piece.canceled = daemon.call("task.cancel", task_id=piece.task_id)["canceled"]

    def effects_of(self) -> dict[str, list[str]]:
        """The effects in the outside ledger: their names, and the effect key of each time."""
        text = self.effects.read_text() if self.effects.exists() else ""
        found: dict[str, list[str]] = {}
        for line in text.splitlines():
            name, _, key = line.partition(" ")
            found.setdefault(name, []).append(key)
        return found

    def _count_work(self) -> None:
        self.verdict.count("submitted", len(self.pieces))
        self.verdict.count("acknowledged", sum(1 for piece in self.pieces if piece.task_id is not None))
        self.verdict.count("effects in the outside ledger", sum(map(len, self.effects_of().values())))

    def _compare(self, daemon: RunningDaemon, tasks: dict[str, Any]) -> None:
        effects, verdict = self.effects_of(), self.verdict
        times = Counter({name: len(keys) for name, keys in effects.items()})
        self._count_work()
        for piece in self.pieces:
            task = tasks.get(piece.name)
            if task is None and piece.task_id is not None:
                verdict.fault(books.LOST, piece.name)
            elif task is not None and (piece.task_id or task["id"]) != task["id"]:
                verdict.fault(books.LOST, f"{piece.name} is another task")
            elif task is not None:
                self._judge(daemon, piece, task, times)
        for name, keys in effects.items():
            if len(set(keys)) > 1:
                verdict.fault(books.WRONG_STATE, f"{name} has {len(set(keys))} effect keys")

    def _judge(self, daemon: RunningDaemon, piece: Piece, task: dict[str, Any], times: Counter[str]) -> None:
        verdict, end = self.verdict, (task["state"], task.get("error_code"))
        if end == ("DEAD_LETTER", "POISON") and task["deaths"] == 3:
            verdict.count("dead letters by three deaths")
            if piece.kind == "unsafe" and times[piece.name] > 1:
                verdict.fault(books.DUPLICATED, f"{piece.name} {times[piece.name]} times")
            return
        if end not in _expected(piece):
            verdict.fault(books.WRONG_STATE, f"{piece.name} ({piece.kind}) ended as {end}")
        if piece.kind == "unsafe":
            self._judge_unsafe(piece.name, end[0] == "SUCCEEDED", times[piece.name])
        elif piece.kind == "pure":
            if not times[piece.name]:
                verdict.fault(books.MISSING, piece.name)
            self._check_artifacts(piece.name, task)
        elif piece.kind == "chat":
            steps = daemon.call("task.steps", task_id=task["id"])["steps"]
            done = {step["effect"]: step["state"] == "done" for step in steps if step["kind"] == "tool"}
            self._judge_unsafe(f"{piece.name}/unsafe", done.get("unsafe", False), times[f"{piece.name}/unsafe"])
            if done.get("pure") and not times[f"{piece.name}/pure"]:
                verdict.fault(books.MISSING, f"{piece.name}/pure")

    def _check_artifacts(self, name: str, task: dict[str, Any]) -> None:
        """What a result refers to is there, and is what it was."""
        for sha256 in set(_SHA256.findall(json.dumps(task.get("result")))):
            self.verdict.count("artifacts referred to")
            path = self.home / "artifacts" / sha256
            if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
                self.verdict.fault(books.MISSING, f"{name}: artifact {sha256}")

    def _judge_unsafe(self, name: str, done: bool, times: int) -> None:
        if not done:
            self.verdict.count("unsafe, cut off, told as unknown")
        if times > 1:
            self.verdict.fault(books.DUPLICATED, f"{name} {times} times")
        if done and not times:
            self.verdict.fault(books.MISSING, name)

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
                self.verdict.fault(books.OUT_OF_ORDER, f"{session}: {role} messages")


@dataclass(frozen=True)
class _Feed:
    weights: Mapping[str, int]
    tolerated: frozenset[str]


def _session(client: int, name: str) -> str:
    """A client's present session: a conversation has an end, or each turn would read more than the last."""
    number = name.rpartition("-")[2]
    return f"session-{client}-{int(number) // TURNS if number.isdecimal() else 0}"


def _failure(daemon: RunningDaemon) -> tuple[str, bool]:
    """Why a daemon did not become ready ("" when it was killed), and whether it told so in due form."""
    assert daemon.process is not None
    for line in daemon.lines:
        if line.get("msg") == "startup failure":
            return f"{line.get('reason_code')}: {line.get('error')}", True
    if any("Traceback" in str(line.get("msg")) for line in daemon.lines):
        return str(daemon.lines[-1].get("msg")), False
    code = daemon.process.returncode
    return "" if code == -signal.SIGKILL else f"exit code {code}", False


def _kill_after(daemon: RunningDaemon, seconds: float) -> None:
    while daemon.process is None:
        time.sleep(0.001)
    time.sleep(seconds)
    daemon.process.kill()


def _expected(piece: Piece) -> set[tuple[str, str | None]]:
    done: tuple[str, str | None] = ("SUCCEEDED", None)
    match piece.kind:
        case "failing":
            return {("FAILED", "NOOP_FAILED")}
        case "retrying":
            return {("DEAD_LETTER", "NOOP_FAILED")}
        case "unsafe":
            return {done, ("FAILED", "OUTCOME_UNKNOWN")}
        case "canceled" | "long":
            canceled: tuple[str, str | None] = ("CANCELED", "CANCELED")
            return {done, canceled} if piece.canceled is None else {canceled if piece.canceled else done}
        case _:
            return {done}


def _is_idle(daemon: RunningDaemon) -> bool:
    status = daemon.call("system.status")
    return not (status["queue_depth"] or status["running_tasks"] or status["retry_wait"])


def all_tasks(daemon: RunningDaemon) -> Iterator[dict[str, Any]]:
    """Every task of a home."""
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
