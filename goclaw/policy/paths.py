"""Which places on disk the rules cover, and the daemon's own files, which no rule covers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

STATE_FILES = frozenset({"auth.token", "policy.yaml", "config.yaml", ".env", "secrets", "run", "logs"})
"""Names directly inside the home that belong to the daemon; besides these what begins as below."""
STATE_PREFIX = "goclaw.db"


def resolve(path: str, base: str) -> str:
    """`path`, taken from `base` when relative, as an absolute path without symbolic links. Reads the disk."""
    return os.path.realpath(os.path.join(base, path))


def is_inside(path: str, folder: str) -> bool:
    """Whether `path` is `folder` or lies below it; both resolved."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def is_state(path: str, home: str) -> bool:
    """Whether `path` is the daemon's own state in `home` (database, token, rules, keys); both resolved."""
    if not is_inside(path, home) or path == home:
        return False
    first = PurePath(path[len(home.rstrip("/")) + 1 :]).parts[0].casefold()
    return first in STATE_FILES or first.startswith(STATE_PREFIX)


@dataclass(frozen=True, slots=True)
class Fence:
    """The folders of `allow_paths`. `entries` pairs each entry as written with what it resolved to at load.

    A folder that turns into a link later does not widen the fence: the path it leads to resolves elsewhere.
    """

    home: str
    entries: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, entries: Sequence[str], home: str) -> Fence:
        """Resolve the entries; `~` is the user's folder, relative ones start at the home. Reads the disk."""
        real = os.path.realpath(home)
        return cls(real, tuple((entry, resolve(os.path.expanduser(entry), real)) for entry in entries))

    def refusal(self, path: str) -> str | None:
        """Why the resolved `path` may not be touched, or None when an entry covers it."""
        if not os.path.isabs(path):
            return f"{path or 'an empty path'} is not a resolved path"
        if is_state(path, self.home):
            return f"{path} belongs to goclaw itself and is closed to every tool"
        if not self.entries:
            return f"{path} is not allowed: allow_paths is empty"
        if not any(is_inside(path, folder) for _, folder in self.entries):
            return f"{path} is outside allow_paths ({', '.join(entry for entry, _ in self.entries)})"
        return None
