"""A daemon in the background: started, waited for, stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from goclaw.client import serving
from goclaw.config.home import GatewayInfo, Home, lock_holder
from goclaw.core.ports import Clock
from goclaw.errors import StartupError, Unreachable, WaitTimeout

READY_MS = 10_000
STOP_MS = 30_000
NOW_MS = 1_000
POLL_MS = 20
OUTPUT = "daemon.out"
"""What a background daemon prints, in logs/ of its home; written anew at every start."""


def daemon_pid(home: Home) -> int | None:
    """The process that serves `home` now, or None. The kernel's lock table knows best; elsewhere its file."""
    if Path("/proc/locks").exists():
        return lock_holder(home) or None
    info = serving(home)
    return info.pid if info is not None else None


async def start(
    home: Home, environ: Mapping[str, str], clock: Clock, bind: str | None = None
) -> tuple[GatewayInfo, bool]:
    """The daemon of `home`, ready, and whether this call started it.

    Raises StartupError with the reason it gave, WaitTimeout when it is not ready within ten seconds (it goes on
    starting then).
    """
    if daemon_pid(home) is not None:
        return await wait_ready(home, clock, None), False
    process = spawn(home, environ, bind)
    return await wait_ready(home, clock, process), True


def spawn(home: Home, environ: Mapping[str, str], bind: str | None = None) -> subprocess.Popen[bytes]:
    """A daemon that outlives this process and its terminal. Raises StartupError."""
    words = [sys.executable, "-m", "goclaw", "serve", "--home", str(home.root)]
    words += ["--bind", bind] if bind else []
    try:
        home.root.mkdir(mode=0o700, exist_ok=True)
        home.logs.mkdir(mode=0o700, exist_ok=True)
        out = os.open(home.logs / OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StartupError(f"{error.filename}: {error.strerror}; GOCLAW_HOME must be writable") from None
    try:
        return subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=dict(environ), start_new_session=True
        )
    finally:
        os.close(out)


async def stop(home: Home, clock: Clock, now: bool = False) -> int | None:
    """End the daemon of `home` and wait for its end; its pid, or None when there was none.

    SIGTERM lets running work finish within the drain time. `now` does not wait for that: SIGKILL after one
    second, which loses nothing either. Raises WaitTimeout, StartupError where it belongs to somebody else.
    """
    pid = daemon_pid(home)
    if pid is None:
        return None
    _signal(pid, signal.SIGTERM)
    if await _gone(home, pid, clock, NOW_MS if now else STOP_MS):
        return pid
    if not now:
        raise WaitTimeout(f"the daemon (pid {pid}) is still stopping; `goclaw daemon stop --now` kills it")
    _signal(pid, signal.SIGKILL)
    if not await _gone(home, pid, clock, STOP_MS):
        raise WaitTimeout(f"the daemon (pid {pid}) does not end")
    return pid


async def wait_ready(home: Home, clock: Clock, process: subprocess.Popen[bytes] | None) -> GatewayInfo:
    """The daemon of `home` once it is ready; with `process`, that very one. Raises StartupError, WaitTimeout."""
    until, why = clock.monotonic() + READY_MS, None
    while clock.monotonic() < until:
        if process is not None and process.poll() is not None:
            raise StartupError(startup_failure(home, process.returncode))
        info = serving(home)
        if info is not None and (process is None or info.pid == process.pid):
            why = unreadiness(info.url)
            if why is None:
                return info
        await clock.sleep(POLL_MS)
    told = "" if why is None else f" ({why})"
    raise WaitTimeout(f"the daemon was not ready within {READY_MS // 1000} s{told}; see {home.logs / OUTPUT}")


def readiness(url: str) -> Mapping[str, Any] | None:
    """What GET /readyz says when it says ready; None otherwise."""
    told = _asked(url)
    return told if told is not None and told.get("ready") else None


def unreadiness(url: str) -> str | None:
    """Why it is not ready, in its own words; None when it is ready."""
    told = _asked(url)
    if told is None:
        return "it does not answer"
    return None if told.get("ready") else "; ".join(map(str, told.get("reasons") or ["it does not say why"]))


def _asked(url: str) -> Mapping[str, Any] | None:
    """The answer of GET /readyz, whatever its status; None without one."""
    from urllib.error import HTTPError, URLError
    from urllib.request import ProxyHandler, build_opener

    try:
        try:
            answer = build_opener(ProxyHandler({})).open(f"{url.rstrip('/')}/readyz", timeout=2)
        except HTTPError as error:
            answer = error
        with answer:
            told = json.loads(answer.read(65_536))
            return told if isinstance(told, dict) else None
    except (URLError, OSError, ValueError):
        return None


def startup_failure(home: Home, code: int) -> str:
    """Why the last start failed, in the daemon's own words."""
    try:
        lines = (home.logs / OUTPUT).read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    for line in reversed(lines):
        try:
            told = json.loads(line)
        except ValueError:
            continue
        if isinstance(told, dict) and told.get("msg") == "startup failure":
            why = told.get("error") or told.get("reason") or told.get("detail") or "see the log"
            return f"the daemon did not start: {why} ({told.get('reason_code', 'E_STARTUP')})"
    last = lines[-1] if lines else "it said nothing"
    return f"the daemon did not start (exit code {code}): {last}"


async def _gone(home: Home, pid: int, clock: Clock, within_ms: int) -> bool:
    until = clock.monotonic() + within_ms
    while daemon_pid(home) == pid:
        if clock.monotonic() >= until:
            return False
        await clock.sleep(POLL_MS)
    return True


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
    except PermissionError:
        raise Unreachable(f"the daemon (pid {pid}) belongs to another user") from None
