"""Artifacts and prompt parts that nothing refers to any more: found by reading what is kept, page by page."""

from __future__ import annotations

from collections.abc import Collection, Set
from typing import Protocol

from goclaw.db import Database
from goclaw.store import references
from goclaw.store.sessions import NEWEST


class Shelf(Protocol):
    """Where artifacts lie."""

    async def older(self, before: int) -> set[str]:
        """Names of those that were last stored before an instant (milliseconds since 1970 UTC)."""
        ...

    async def remove(self, names: Collection[str], before: int) -> int:
        """Take them away, but none that was stored again since `before`. How many went."""
        ...


async def unreferred(database: Database, names: Collection[str]) -> set[str]:
    """Those of `names` that nothing kept refers to. Looks at the newest texts first and stops when all are found."""
    left = set(names)
    for where in references.WHERE:
        below: int | None = NEWEST
        while left and below is not None:
            found, below = await database.read(references.referred, where, frozenset(left), below)
            left -= found
    return left


class Sweep:
    """Takes away what nothing refers to."""

    def __init__(self, database: Database, shelf: Shelf) -> None:
        self._database = database
        self._shelf = shelf

    async def artifacts(self, before: int) -> int:
        """Artifacts last stored before an instant; how many went."""
        left = await unreferred(self._database, await self._shelf.older(before))
        return await self._shelf.remove(left, before) if left else 0

    async def named(self, names: Set[str], now: int) -> tuple[int, int]:
        """Artifacts and prompt parts with these names, of any age; how many of each went."""
        artifacts = await unreferred(self._database, names & await self._shelf.older(now))
        gone = await self._shelf.remove(artifacts, now) if artifacts else 0
        return gone, await self._parts(names)

    async def parts(self) -> int:
        """Prompt parts; how many went. None goes while a turn runs."""
        return await self._parts(None)

    async def _parts(self, names: Set[str] | None) -> int:
        """Those of `names`, or any; a page of the table at a time."""
        gone, after = 0, ""
        while page := await self._database.read(references.parts, after):
            after = max(page)
            seen = await self._database.read(references.newest_step)
            left = await unreferred(self._database, set(page) if names is None else names & page.keys())
            if left:
                gone += await self._database.write(references.remove_parts, sorted(left), seen)
        return gone
