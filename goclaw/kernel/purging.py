"""A conversation is forgotten: in the database and its free pages, among the artifacts, in memory and in the logs."""

from __future__ import annotations

import asyncio
import mmap
from collections.abc import Awaitable, Callable, Collection, Sequence, Set
from pathlib import Path

from goclaw.core.ports import Clock
from goclaw.db import Database
from goclaw.kernel.retention import scrub
from goclaw.kernel.sweep import Sweep
from goclaw.store import purge
from goclaw.store.purge import Report
from goclaw.store.references import WHERE, parts, said
from goclaw.store.sessions import NEWEST

_BLOCK = 4 * 1024 * 1024


class Purging:
    """Forgets conversations, one at a time.

    `forget` drops what is kept in memory of events, `blank` the lines of the logs about these ids, and `copies` names
    copies of the database that lie about.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        sweep: Sweep,
        *,
        forget: Callable[[], Awaitable[None]],
        blank: Callable[[Set[str]], int],
        copies: Callable[[], Sequence[Path]],
    ) -> None:
        self._database = database
        self._clock = clock
        self._sweep = sweep
        self._forget = forget
        self._blank = blank
        self._copies = copies
        self._one_at_a_time = asyncio.Lock()

    async def sessions(self, session_ids: Sequence[str]) -> Report:
        """Forget these sessions. Raises NotFound, and Conflict while a task or a schedule of theirs is there.

        The content is unreachable after one commit; everything after it can be repeated, and a start or the next round
        of retention finishes the rewriting if the daemon ends meanwhile. The writer stands still while the file is
        rewritten: about 1 s for 100 MB.
        """
        async with self._one_at_a_time:
            seen = await self._database.read(purge.survey, session_ids)
            rows = await self._database.write(purge.redact, seen, self._clock.wall())
            await self._forget()
            # One millisecond more: what was stored in this very one is the session's as well.
            artifacts, prompt_parts = await self._sweep.named(seen.names, self._clock.wall() + 1)
            scrubbed = await scrub(self._database, self._clock)
            found = await asyncio.to_thread(residue, self._database.path, seen.needles)
            found -= await self._said_by_others(found)
            ids = {*session_ids, *(task_id for _, task_id in seen.tasks)}
            lines = await asyncio.to_thread(self._blank, ids)
        return Report(
            rows=rows,
            artifacts=artifacts,
            prompt_parts=prompt_parts,
            log_lines=lines,
            scrubbed=scrubbed,
            samples=len(seen.needles),
            found=len(found),
            copies=tuple(str(path) for path in self._copies()),
        )

    async def _said_by_others(self, needles: Collection[bytes]) -> set[bytes]:
        """Those that stand in what other sessions say: they are there by right."""
        left = {needle.decode("utf-8", "surrogatepass") for needle in needles}
        elsewhere: set[str] = set()
        for where in WHERE:
            below: int | None = NEWEST
            while left and below is not None:
                found, below = await self._database.read(said, where, frozenset(left), below)
                left, elsewhere = left - found, elsewhere | found
        after = ""
        while left and (page := await self._database.read(parts, after)):
            after = max(page)
            elsewhere |= {text for text in left if any(text in body for body in page.values())}
        return {text.encode("utf-8", "surrogatepass") for text in elsewhere}


def residue(database: Path, needles: Collection[bytes]) -> set[bytes]:
    """Those needles that stand in the bytes of the database or its write-ahead log. Blocks."""
    found: set[bytes] = set()
    for path in (database, database.with_name(f"{database.name}-wal")):
        left = set(needles) - found
        if left and path.exists() and path.stat().st_size:
            found |= _found_in(path, left)
    return found


def _found_in(path: Path, needles: Set[bytes]) -> set[bytes]:
    overlap = max(len(needle) for needle in needles)
    found: set[bytes] = set()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for start in range(0, len(data), _BLOCK):
            block = data[start : start + _BLOCK + overlap]
            found |= {needle for needle in needles - found if needle in block}
    return found
