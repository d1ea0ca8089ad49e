"""The books of a drill: a ledger outside of the daemon, and the verdict that compares it with what the daemon says."""

from __future__ import annotations

import json
import os
import statistics
import threading
from collections import defaultdict
from pathlib import Path
from typing import Any

SHOWN = 5
"""How many findings of one fault the table names."""

FAULTS = (
    "acknowledged and lost",
    "unsafe effects duplicated",
    "effects reported and missing",
    "wrong end state",
    "sessions out of order",
    "event or audit chain broken",
    "database damaged",
    "processes of a dead daemon left over",
    "answers that nobody expects",
    "starts that failed",
    "ends that nobody ordered",
)
LOST, DUPLICATED, MISSING, WRONG_STATE, OUT_OF_ORDER, CHAIN, DAMAGED, LEFT_OVER, UNEXPECTED, NO_START, ENDED = FAULTS


class Ledger:
    """An append-only file of JSON lines, each on the disk before `write` returns. Any thread may write."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._lock = threading.Lock()

    def write(self, what: str, **fields: Any) -> None:
        """Note that something happened."""
        line = json.dumps({"what": what, **fields}) + "\n"
        with self._lock:
            os.write(self._fd, line.encode())
        os.fdatasync(self._fd)

    def close(self) -> None:
        """No more."""
        os.close(self._fd)


class Verdict:
    """What a drill came to: facts, durations, and faults, of which there must be none. Any thread may add."""

    def __init__(self, *promises: str) -> None:
        """`promises` are faults that this drill looks for besides those of all drills."""
        self.facts: dict[str, int] = defaultdict(int)
        self.faults: dict[str, list[str]] = {name: [] for name in (*FAULTS, *promises)}
        self.durations: dict[str, list[float]] = defaultdict(list)
        self.notes: list[str] = []
        self._lock = threading.Lock()

    def count(self, fact: str, by: int = 1) -> None:
        """Add to a fact."""
        with self._lock:
            self.facts[fact] += by

    def top(self, fact: str, value: int) -> None:
        """Keep the largest value of a fact."""
        with self._lock:
            self.facts[fact] = max(self.facts[fact], value)

    def took(self, what: str, seconds: float) -> None:
        """Note how long something took."""
        with self._lock:
            self.durations[what].append(seconds * 1000)

    def fault(self, name: str, finding: str) -> None:
        """Note a fault. Its name is one of those given at the start."""
        with self._lock:
            self.faults[name].append(finding)

    @property
    def found(self) -> dict[str, list[str]]:
        """The faults there are."""
        return {name: found for name, found in self.faults.items() if found}

    def table(self) -> str:
        """For a person."""
        rows: list[tuple[str, str]] = [(name, str(count)) for name, count in self.facts.items()]
        for name, times in self.durations.items():
            rows.append((f"{name}, ms: p50", f"{statistics.median(times):.0f}"))
            rows.append((f"{name}, ms: max", f"{max(times):.0f}"))
        rows += [(name, str(len(found))) for name, found in self.faults.items()]
        lines = [f"{name:<48}{value:>9}" for name, value in rows]
        lines += [f"! {name}: {one}" for name, found in self.found.items() for one in found[:SHOWN]]
        lines += self.notes
        lines.append("verdict: " + ("FAULTS FOUND" if self.found else "no fault found"))
        return "\n".join(lines)
