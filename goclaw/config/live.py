"""Settings that may change while the daemon runs."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from goclaw.config.kinds import keys_of
from goclaw.config.load import Problem, refusal
from goclaw.config.settings import Settings
from goclaw.core.agent import Agent
from goclaw.errors import GoclawError


@dataclass(frozen=True, slots=True, kw_only=True)
class Reloaded:
    """A reload that changed something. `settings` are now in force; the keys in `restart` changed on disk
    only.
    """

    settings: Settings
    live: tuple[str, ...]
    restart: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The payload of the event that tells of it."""
        return {
            "ok": True,
            "changed": list(self.live),
            "needs_restart": list(self.restart),
            "config_hash": self.settings.config_hash,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadFailed:
    """A reload that was refused. `settings` are the last good ones and stay in force."""

    settings: Settings
    message: str

    def as_json(self) -> dict[str, Any]:
        """The payload of the event that tells of it."""
        return {"ok": False, "error": self.message, "config_hash": self.settings.config_hash}


Outcome = Reloaded | ReloadFailed | None
Check = Callable[[Settings], Sequence[Problem]]


class LiveConfig:
    """The settings in force.

    `load` reads them anew, `check` may refuse them for reasons this package cannot know. A reload is all or
    nothing: a source that is not valid changes nothing. Keys that need a restart keep the value the daemon
    started with, so that what `current` says is what is really in force.
    """

    def __init__(self, settings: Settings, load: Callable[[], Settings], check: Check) -> None:
        self._current = settings
        self._load = load
        self._check = check
        self._agents: tuple[Settings, Mapping[str, Agent]] = (settings, settings.agents())
        self._pending: tuple[str, ...] = ()
        self._lock = threading.Lock()

    @property
    def current(self) -> Settings:
        """The settings in force; the value is frozen, so hold it for as long as one decision takes."""
        return self._current

    def agents(self) -> Mapping[str, Agent]:
        """The agents of `current`, worked out once."""
        settings, agents = self._agents
        if settings is not self._current:
            agents = self._current.agents()
            self._agents = (self._current, agents)
        return agents

    def reload(self) -> Outcome:
        """Read everything again; None when nothing changed since the last look. Does file I/O: call it in a
        thread.

        Never raises: the daemon must outlive any file.
        """
        with self._lock:
            try:
                fresh = self._load()
                problems = tuple(self._check(fresh))
                if problems:
                    raise refusal(problems)
            except Exception as error:
                message = error.message if isinstance(error, GoclawError) else f"{type(error).__name__}: {error}"
                return ReloadFailed(settings=self._current, message=message)
            return self._swap(fresh)

    def _swap(self, fresh: Settings) -> Outcome:
        live, restart = changed_keys(self._current, fresh)
        held = {one.name: getattr(self._current, one.name) for one, about in _keys().values() if not about.live}
        before, merged = self._current, dataclasses.replace(fresh, **held)
        told_already = restart == self._pending
        self._current, self._pending = merged, restart
        if merged == before and told_already:
            return None
        return Reloaded(settings=merged, live=live, restart=restart)


def changed_keys(old: Settings, new: Settings) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The keys that differ: those that take effect at once, and those that need a restart.

    Souls and conventions count as `SOUL.md` and `AGENTS.md`, whichever file they stand in.
    """
    differing = {
        name: about for name, (one, about) in _keys().items() if getattr(old, one.name) != getattr(new, one.name)
    }
    live = [name for name, about in differing.items() if about.live]
    if old.souls != new.souls:
        live.append("SOUL.md")
    if old.conventions != new.conventions:
        live.append("AGENTS.md")
    return tuple(live), tuple(name for name, about in differing.items() if not about.live)


def _keys() -> Mapping[str, tuple[dataclasses.Field[Any], Any]]:
    return keys_of(Settings)
