"""What a chat turn costs the disk: through a real daemon, offline, with one tool call in it.

Such a turn is a submission, two answers of a model (one that calls read_file, one that tells of it), the intent and the
outcome of the call, its audit row, and every event of these.
"""

from __future__ import annotations

import json
import re
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import books, written
from benchmarks.daemons import Daemon, daemon

CONFIG = "provider_chain: [offline]\n"
POLICY = "allow_capabilities: [acp.read, acp.mutate, tools.read_file]\nallow_paths: [workspace]\n"
NOTE = "what the turn reads\n"
SETTLE_S = 1.5
"""Longer than the writer waits before it checkpoints an idle database."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Of one turn: bytes given to write calls, bytes charged for the disk, syncs (None without strace)."""

    passed: float
    charged: float
    syncs: float | None


def measure(folder: Path, count: int) -> Turn:
    """`count` turns, one after the other, each in a session of its own; the checkpoint after the last is included."""
    passed, charged = _run(folder / "plain", count, None)[:2]
    log = folder / "strace"
    traced = None if written.strace() is None else _run(folder / "traced", count, log)[2] / count
    return Turn(passed / count, charged / count, traced)


def _run(home: Path, count: int, log: Path | None) -> tuple[int, int, int]:
    _furnish(home)
    with daemon(home, traced_to=log) as served:
        prompt = f"/read_file file_path={home / 'workspace' / 'note.txt'}"
        _turn(served, home, prompt)  # the first one loads what all of them use
        time.sleep(SETTLE_S)
        begun, before = time.time(), written.of_process(served.pid)
        for _ in range(count):
            _turn(served, home, prompt)
        time.sleep(SETTLE_S)
        after = written.of_process(served.pid)
    syncs = 0 if log is None else _syncs_since(log, begun)
    return after[0] - before[0], after[1] - before[1], syncs


def _furnish(home: Path) -> None:
    workspace = home / "workspace"
    workspace.mkdir(mode=0o700, parents=True)
    (home / "config.yaml").write_text(CONFIG)
    (home / "policy.yaml").write_text(POLICY)
    (workspace / "note.txt").write_text(NOTE)


def _turn(served: Daemon, home: Path, prompt: str) -> None:
    task_id = _call(served, home, "agent.chat", content=prompt)["task_id"]
    task = _call(served, home, "task.wait", task_id=task_id, timeout_ms=30_000)
    books.expect("state of the turn", task["state"], "SUCCEEDED")
    books.expect("what it read", NOTE.strip() in json.dumps(task["result"]), True)


def _call(served: Daemon, home: Path, method: str, **params: Any) -> Any:
    request = urllib.request.Request(  # noqa: S310 (the daemon's own address, on loopback)
        f"{served.url}/rpc",
        data=json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode(),
        headers={"Authorization": f"Bearer {(home / 'auth.token').read_text().strip()}"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 (as above)
        told = json.loads(answer.read())
    books.expect(f"error of {method}", told.get("error"), None)
    return told["result"]


def _syncs_since(log: Path, begun: float) -> int:
    called = re.compile(r"^\d+ +(\d+\.\d+) (?:fsync|fdatasync)\(")
    told = (called.match(line) for line in log.read_text().splitlines())
    return sum(1 for one in told if one and float(one.group(1)) >= begun)
