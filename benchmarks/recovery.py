"""How soon is a daemon back that was killed with very many tasks unfinished?

Tasks that sleep for an hour are queued, a daemon claims as many as it has workers, SIGKILL, and the second start is
what is measured: until it logs that it is ready, until it has claimed a task, and its peak memory by then.
"""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks import books
from benchmarks.daemons import Daemon, daemon
from benchmarks.depth import prefill

PATIENCE_S = 30
SLEEPER = '{"sleep_ms":3600000}'


@dataclass(frozen=True, slots=True)
class Recovered:
    """Milliseconds from the start of the process, and megabytes."""

    ready_ms: float
    first_claim_ms: float
    peak_mb: float


def recover(folder: Path, count: int) -> Recovered:
    """Kill one daemon, time the next. Raises WrongBooks when a task is lost, or claimed beyond the workers."""
    home = folder / "home"
    home.mkdir(mode=0o700)
    database = home / "goclaw.db"
    with daemon(home):
        pass  # it writes its starter files; the database is migrated
    prefill(database, count, SLEEPER)
    with daemon(home) as first:
        held = _settled_claims(database)
        first.kill()
    head = _head(database)
    with daemon(home) as second:
        claimed_at = _first_claim(database, head)
        again = _settled_claims(database)
        found = _measured(second, claimed_at)
        second.kill()
    books.audit(database, queued=count - again, running=again, attempts=held + again)
    return found


def _measured(second: Daemon, claimed_at: float) -> Recovered:
    ready = (second.ready - second.spawned) * 1000
    return Recovered(ready, (claimed_at - second.spawned) * 1000, second.peak_mb())


def _first_claim(database: Path, head: int) -> float:
    """When the first claim after event `head` was written, in seconds of the wall clock."""
    text = "SELECT min(created_at) FROM task_events WHERE event_id > ? AND event_type = 'task.claimed'"
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        claimed = _ask(database, text, head)
        if claimed is not None:
            return claimed / 1000
        time.sleep(0.005)
    raise books.WrongBooks("nothing was claimed after the restart")


def _settled_claims(database: Path) -> int:
    """How many tasks are held once that number does not change any more."""
    seen, held = -1, 0
    until = time.monotonic() + PATIENCE_S
    while (held == 0 or held != seen) and time.monotonic() < until:
        seen = held
        time.sleep(0.2)
        held = _ask(database, "SELECT count(*) FROM tasks WHERE state = 'RUNNING'") or 0
    return held


def _head(database: Path) -> int:
    return _ask(database, "SELECT max(event_id) FROM task_events") or 0


def _ask(database: Path, text: str, *given: object) -> int | None:
    conn = sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=10)
    try:
        found: int | None = conn.execute(text, given).fetchone()[0]
        return found
    finally:
        conn.close()
