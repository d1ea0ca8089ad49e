"""Kill what was started, and know that it is dead.

Every process goclaw starts carries `GOCLAW_MARK=<the home's mark>` in its environment, and so does whatever
it starts in turn, in whatever session and under whatever parent it ends up. The sweep looks for the mark in
/proc. A parent-death signal was weighed and left out: it reaches the direct child only, depends on the thread
that forked, and needs code between fork and exec, where threads make it unsafe; the sweep before recovery
covers all of them.

Not promised: a process that threw its environment away (`env -i`) and left its session is found while its
parents live and lost afterwards; one that gained another user's rights cannot be read or killed. Without
/proc (macOS) only process groups are killed. The Linux namespaces of a later sandbox close these gaps.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass

from goclaw.core.ports import Clock
from goclaw.errors import RecoveryFailed

MARK = "GOCLAW_MARK"
EFFECT_KEY = "GOCLAW_EFFECT_KEY"
_PAUSE_MS = 5


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    parent: int
    group: int
    session: int
    environ: bytes


async def kill_marked(home_mark: str, clock: Clock, timeout_ms: int = 5_000) -> list[int]:
    """Kill every process that carries the mark, except this one; the killed pids, all seen dead.

    Raises RecoveryFailed, naming the pids, when some are still alive after `timeout_ms`.
    """
    wanted = (_entry(MARK, home_mark),)
    return await _sweep(lambda: _carrying(wanted), clock, timeout_ms, quiet_scans=2)


async def kill_run(home_mark: str, effect_key: str, root: int | None, clock: Clock, *, sure: bool) -> list[int]:
    """Kill the rest of one run: what carries its marks, is in the session of `root`, or descends from these.

    `sure` looks twice, because a process in the middle of exec shows no environment for an instant. Raises
    RecoveryFailed as `kill_marked` does.
    """
    wanted = (_entry(MARK, home_mark), _entry(EFFECT_KEY, effect_key))
    return await _sweep(lambda: _family(wanted, root), clock, 5_000, quiet_scans=2 if sure else 1)


async def _sweep(scan: Callable[[], set[int]], clock: Clock, timeout_ms: int, *, quiet_scans: int) -> list[int]:
    deadline = clock.monotonic() + timeout_ms
    killed: set[int] = set()
    quiet = 0
    while True:
        alive = await asyncio.to_thread(scan)
        killed |= alive
        _kill(alive)
        quiet = 0 if alive else quiet + 1
        if quiet >= (2 if killed else quiet_scans):
            return sorted(killed)
        if alive and clock.monotonic() >= deadline:
            pids = ", ".join(map(str, sorted(alive)))
            raise RecoveryFailed(f"these processes were killed and still live: {pids}", pids=sorted(alive))
        await clock.sleep(_PAUSE_MS)


def _kill(pids: set[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _entry(name: str, value: str) -> bytes:
    return b"\0" + os.fsencode(f"{name}={value}") + b"\0"


def _carries(process: _Process, wanted: tuple[bytes, ...]) -> bool:
    return all(entry in process.environ for entry in wanted)


def _carrying(wanted: tuple[bytes, ...]) -> set[int]:
    return {process.pid for process in _processes() if _carries(process, wanted)}


def _family(wanted: tuple[bytes, ...], root: int | None) -> set[int]:
    processes = _processes()
    found = {process.pid for process in processes if _carries(process, wanted)}
    if root is not None:
        found |= {process.pid for process in processes if root in {process.session, process.group}}
    while more := {process.pid for process in processes if process.parent in found} - found:
        found |= more
    return found


def _processes() -> list[_Process]:
    """All living processes but this one; a zombie is dead."""
    try:
        names = os.listdir("/proc")
    except FileNotFoundError:
        return []
    found = (_process(int(name)) for name in names if name.isdecimal() and int(name) != os.getpid())
    return [process for process in found if process is not None]


def _process(pid: int) -> _Process | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except OSError:
        return None
    # The name in brackets may hold blanks and brackets itself.
    state, parent, group, session = stat[stat.rindex(b")") + 2 :].split()[:4]
    if state in {b"Z", b"X"}:
        return None
    environ = b""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
        environ = b"\0" + file.read() + b"\0"
    return _Process(pid, int(parent), int(group), int(session), environ)
