"""What a task costs the disk: bytes written, not bytes kept, and how often it is synced."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from benchmarks.ours import Kernel, Watch, work

IO = Path("/proc/self/io")


def readable() -> bool:
    """Whether this system counts what a process writes."""
    return os.access(IO, os.R_OK)


@cache
def strace() -> str | None:
    """The program that counts syncs, where it is installed and may look at our own processes."""
    program = shutil.which("strace")
    if program is None:
        return None
    tried = subprocess.run([program, "-o", "/dev/null", "true"], capture_output=True, check=False)
    return None if tried.returncode else program


class _Counter(Watch):
    """What the process had written when the clock started."""

    def __init__(self) -> None:
        self.before = (0, 0)

    async def begin(self, made: Kernel) -> None:
        self.before = of_process("self")


class _Marker(Watch):
    """A system call that nothing else makes, for `syncs` to see where the work begins."""

    async def begin(self, made: Kernel) -> None:
        _mark()


async def tasks(path: Path, count: int, workers: int) -> tuple[float, float]:
    """Bytes given to write calls and bytes charged for the disk, per task; the last checkpoint included."""
    counter = _Counter()
    await work(path, count, workers, counter)
    passed, charged = of_process("self")
    return (passed - counter.before[0]) / count, (charged - counter.before[1]) / count


async def marked_work(path: Path, count: int, workers: int) -> None:
    """`work` between two marks, the last checkpoint included."""
    await work(path, count, workers, _Marker())
    _mark()


def syncs(folder: Path, words: Sequence[str]) -> int:
    """How many fsync and fdatasync calls `python words` makes between its marks. Needs strace."""
    program, log = strace(), folder / "strace"
    assert program is not None
    trace = [program, "-f", "-o", str(log), "-e", "trace=fsync,fdatasync,sched_get_priority_min"]
    subprocess.run([*trace, sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    lines = log.read_text().splitlines()
    marks = [number for number, line in enumerate(lines) if "sched_get_priority_min" in line]
    return sum(1 for line in lines[marks[0] : marks[-1]] if re.search(r"\b(fsync|fdatasync)\(", line))


def _mark() -> None:
    os.sched_get_priority_min(os.SCHED_OTHER)


def of_process(pid: int | str) -> tuple[int, int]:
    """What a process of ours has written so far: bytes given to write calls, bytes charged for the disk."""
    told = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text("ascii").splitlines())
    return int(told["wchar"]), int(told["write_bytes"])
