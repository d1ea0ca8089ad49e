"""A real daemon process on a home of its own, for system tests and drills."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from goclaw.config.home import locate_home
from goclaw.sandbox.sweep import MARK

REPOSITORY = Path(__file__).parents[2]
START_SECONDS = 30
_PASSED_ON = ("PATH", "HOME", "LANG", "PYTHONPATH", "VIRTUAL_ENV")


class RpcFailed(Exception):
    """The daemon answered with an error."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(f"{error['code']} {error['message']}")
        self.error = error


class DaemonDied(Exception):
    """The daemon process ended before it was ready."""


class RunningDaemon:
    """`goclaw serve` as a subprocess. Leaving the context kills it if it still runs.

    `launcher` replaces `python -m goclaw` (a crash drill has its own); `env` is added to a small clean environment.
    """

    def __init__(
        self, home: Path, *, env: Mapping[str, str] | None = None, launcher: Sequence[str] = ("-m", "goclaw")
    ) -> None:
        self.home = home
        self._env = dict(env or {})
        self._launcher = list(launcher)
        self.lines: list[dict[str, Any]] = []
        self.url = ""
        self._ready = threading.Event()
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        base = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        self.process = subprocess.Popen(
            [sys.executable, *self._launcher, "serve", "--bind", "127.0.0.1:0", "--home", str(self.home)],
            env={**base, "PYTHONWARNINGS": "default", **self._env},
            cwd=REPOSITORY,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._ready.wait(START_SECONDS) or not self.url:
            self.kill()
            raise DaemonDied("\n".join(map(str, self.lines[-20:])))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """The process."""
        assert self.process is not None
        return self.process.pid

    @property
    def token(self) -> str:
        """The bearer token of the home."""
        return (self.home / "auth.token").read_text().strip()

    def call(self, method: str, **params: Any) -> Any:
        """One call over `POST /rpc`. Raises RpcFailed."""
        frame = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = self.http("/rpc", frame)
        if "error" in answer:
            raise RpcFailed(answer["error"])
        return answer["result"]

    def http(self, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        """One authorized HTTP request; the JSON of its answer."""
        request = urllib.request.Request(  # noqa: S310 (the address is the daemon's own, on loopback)
            f"{self.url}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", **(headers or {})},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 (as above)
                return json.loads(answer.read())
        except HTTPException as error:  # killed in the middle of its answer
            raise ConnectionError(str(error)) from error

    def wait(self, task_id: str, timeout_ms: int = 30_000) -> Any:
        """The task once it is terminal."""
        return self.call("task.wait", task_id=task_id, timeout_ms=timeout_ms)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(30)
        self._reader.join(5)
        return code

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
        self.wait_for_exit()

    def wait_for_exit(self) -> int:
        """The exit code, once the process has ended by itself or otherwise."""
        assert self.process is not None
        code = self.process.wait(60)
        self._reader.join(5)
        if self.process.stderr is not None:
            self.process.stderr.close()
        return code

    def _read(self) -> None:
        assert self.process is not None
        assert self.process.stderr is not None
        try:
            for line in self.process.stderr:
                self._take(line)
        except ValueError:
            pass  # closed while reading
        self._ready.set()

    def _take(self, line: str) -> None:
        try:
            entry = json.loads(line)
        except ValueError:
            entry = {"msg": line.rstrip()}
        self.lines.append(entry)
        if entry.get("msg") == "ready":
            self.url = entry["url"]
            self._ready.set()


def leftovers(home: Path) -> list[int]:
    """The living processes that a daemon of this home has started."""
    mark = f"{MARK}={locate_home({}, str(home)).home_mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def wait_until(condition: Any, what: str, seconds: float = 30) -> Any:
    """Poll a condition of another process until it holds; what it returned. There is no event to await across
    processes here."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise TimeoutError(what)
