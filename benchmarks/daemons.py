"""A real daemon process on a scratch home."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Any

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Daemon:
    """A daemon that has said it is ready. `spawned` and `ready` are wall-clock seconds."""

    process: subprocess.Popen[str]
    url: str
    spawned: float
    ready: float
    traced: bool = False

    @property
    def pid(self) -> int:
        """Of the daemon; under strace, of strace's one child."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return int(children.read_text().split()[0]) if self.traced else self.process.pid

    def peak_mb(self) -> float:
        """Its resident memory at its highest so far, in MB; the present one where the system does not tell."""
        status = Path(f"/proc/{self.process.pid}/status")
        if status.exists():
            peak = next(line for line in status.read_text("ascii").splitlines() if line.startswith("VmHWM:"))
            return int(peak.split()[1]) / 1024
        words = ["ps", "-o", "rss=", "-p", str(self.process.pid)]
        return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout) / 1024

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.wait()


@contextmanager
def daemon(home: Path, traced_to: Path | None = None) -> Iterator[Daemon]:
    """Start `goclaw serve` and give it out when it is ready; killed at the end of the block.

    `traced_to`: run it under strace, its syncs with their instants in this file.
    """
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GOCLAW_")}
    words = [sys.executable, "-m", "goclaw", "serve", "--home", str(home), "--bind", "127.0.0.1:0"]
    if traced_to is not None:
        words = ["strace", "-f", "-ttt", "-o", str(traced_to), "-e", "trace=fsync,fdatasync", *words]
    spawned = time()
    process = subprocess.Popen(
        words,
        cwd=ROOT,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        url = _await_ready(process)
        served = Daemon(process, url, spawned, time(), traced_to is not None)
        yield served
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the group: strace would leave the daemon behind
        process.wait()


def _await_ready(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line.rstrip())
        try:
            entry: dict[str, Any] = json.loads(line)
        except ValueError:
            continue
        if entry.get("msg") == "ready":
            threading.Thread(target=process.stderr.read, daemon=True).start()  # a full pipe would hold it up
            return str(entry["url"])
    raise RuntimeError("the daemon ended before it was ready:\n" + "\n".join(said[-20:]))
