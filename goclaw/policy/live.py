"""policy.yaml kept in force: read at start and at every change, everything denied when it cannot be read."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from goclaw.config.files import write_new
from goclaw.core.access import Access, Decision, Verdict
from goclaw.core.ports import Emit
from goclaw.errors import PolicyInvalid
from goclaw.policy.document import MAX_BYTES
from goclaw.policy.engine import PolicyEngine
from goclaw.policy.rules import Rules, deny_all, parse
from goclaw.watch import watch

Record = Callable[[Rules], None]
"""Keeps a version that came into force, for people who ask later what it said."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was found at start. `alert` says in words why everything is denied, when it is."""

    rules: Rules
    alert: str | None = None


def write_starter(path: Path) -> bool:
    """Write the starter policy, durably, readable by the owner alone. False when there is a file already.

    Only for a home that has no database yet, and before it gets one: in any other a missing policy is a deleted one.
    """
    text = resources.files("goclaw.policy").joinpath("starter.yaml").read_text("utf-8")
    return write_new(path, text)


def load(path: Path, home: Path) -> Loaded:
    """Read the policy at start. Raises PolicyInvalid for a mistake in it. A file that is missing or cannot be
    read denies everything; `LivePolicy.announce` tells of it."""
    try:
        return Loaded(_read(path, home))
    except OSError as error:
        return Loaded(deny_all(str(home)), _unreadable(path, error))


class LivePolicy:
    """Keeps an engine at what policy.yaml says. Run it as a task; `reload` may be called besides.

    A change is in force within 200 ms of the save. There is no moment in between: one immutable object
    replaces the other. Tells policy.reloaded, or policy.reload_failed and an audit row.
    """

    def __init__(self, path: Path, home: Path, *, engine: PolicyEngine, emit: Emit, record: Record) -> None:
        self._path = path
        self._home = home
        self._engine = engine
        self._emit = emit
        self._record = record
        self._one_at_a_time = asyncio.Lock()
        self._alert: str | None = None

    def announce(self, loaded: Loaded) -> None:
        """Tell what the start found: the version in force, and the alert when everything is denied."""
        self._record(loaded.rules)
        if loaded.alert is not None:
            self._tell_failure(loaded.alert)

    async def run(self) -> None:
        """Follow the file until canceled. Raises OSError when its folder cannot be watched."""
        await watch([self._path], lambda _: self.reload())

    async def reload(self) -> None:
        """Read the file again and put it in force. Never raises: on failure the engine is left at the last
        good rules, or at none, and that is told once for each reason."""
        async with self._one_at_a_time:
            try:
                rules = await asyncio.to_thread(_read, self._path, self._home)
            except OSError as error:
                self._fail(deny_all(str(self._home)), _unreadable(self._path, error))
            except PolicyInvalid as error:
                self._fail(self._after_mistake(), error.message)
            except Exception as error:
                self._fail(self._after_mistake(), f"policy.yaml cannot be read: {type(error).__name__}: {error}")
            else:
                self._succeed(rules)

    def _after_mistake(self) -> Rules:
        current = self._engine.rules
        return deny_all(str(self._home)) if current.denies_on_invalid else current

    def _succeed(self, rules: Rules) -> None:
        recovered, self._alert = self._alert is not None, None
        if rules.version == self._engine.version and not recovered:
            return
        self._engine.adopt(rules)
        self._record(rules)
        self._emit("policy.reloaded", {"version": rules.version})

    def _fail(self, rules: Rules, reason: str) -> None:
        if rules.version != self._engine.version:
            self._engine.adopt(rules)
            self._record(rules)
        if reason != self._alert:
            self._tell_failure(reason)

    def _tell_failure(self, reason: str) -> None:
        self._alert = reason
        version = self._engine.version
        denies = version == deny_all(str(self._home)).version
        self._emit("policy.reload_failed", {"reason": reason, "version": version, "denies_all": denies})
        access = Access("goclaw", "policy.change", str(self._path))
        self._engine.record(access, Decision(Verdict.DENY, reason, version), None)


def _read(path: Path, home: Path) -> Rules:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe in its place must not hold us up
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        data = file.read(MAX_BYTES + 1)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise PolicyInvalid("policy.yaml is not UTF-8 text") from None
    return parse(text, str(home))


def _unreadable(path: Path, error: OSError) -> str:
    why = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
    return f"{path.name} {why}: everything is denied"
