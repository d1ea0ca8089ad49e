"""What is too old goes, rarely and in small pieces, so that nobody waits for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from goclaw.config.retention import DAY_MS, RetentionSettings
from goclaw.core.ports import Clock, Emit
from goclaw.db import Database
from goclaw.errors import StoreFull
from goclaw.kernel.sweep import Sweep
from goclaw.log import get_logger
from goclaw.store import purge, retention, space
from goclaw.store.retention import Due, Gone

FIRST_MS = 60_000
"""After a start, others come first."""
EVERY_MS = 3_600_000
PAUSE_MS = 20
"""Between two writes: others get the writer for as long as one of ours takes, and longer."""
PIECES = 4
"""So many writes between two checkpoints: about 2 MiB of the log."""
PAGE = 200
IDLE_MS = 250
"""Space is given back when nobody has written for so long."""
STEPS = 400
"""Steps of giving back in one round: 200 MB."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What to keep, as of now."""

    rules: RetentionSettings
    now: int

    def before(self, days: int) -> int:
        """The instant from which on rows are kept; 0 (nothing is older) for ever."""
        return max(self.now - days * DAY_MS, 0) if days else 0


class Retention:
    """One per daemon. `count` is told how many rows of which table went."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        rules: Callable[[], RetentionSettings],
        sweep: Sweep,
        emit: Emit,
        count: Callable[[str, int], None],
    ) -> None:
        self._database = database
        self._clock = clock
        self._rules = rules
        self._sweep = sweep
        self._emit = emit
        self._count = count
        self._swept_at: int | None = None
        self._pieces = 0

    async def run(self) -> None:
        """A round a minute after the start, then one an hour. Runs until cancelled; a full disk ends a round only."""
        wait = FIRST_MS
        while True:
            await self._clock.sleep(wait)
            wait = EVERY_MS
            try:
                await self.once()
            except StoreFull:
                get_logger("retention").warning("the disk is full; tried again in an hour")

    async def once(self) -> Mapping[str, int]:
        """Take away everything that is due; how many rows of which table went. Writes nothing when nothing is due."""
        kept = Kept(self._rules(), self._clock.wall())
        gone: Counter[str] = Counter()
        await self._tasks(kept, gone)
        await self._occurrences(kept, gone)
        await self._sessions(kept, gone)
        await self._events(kept, gone)
        await self._audit(kept, gone)
        await self._policies(kept, gone)
        await self._unreferred(kept, gone)
        told = {name: count for name, count in gone.items() if count}
        for name, count in told.items():
            self._count(name, count)
        if told:
            get_logger("retention").info("removed what was too old", **told)
            self._emit("retention.removed", told)
        await self._scrub()
        await self._give_back()
        return told

    async def _tasks(self, kept: Kept, gone: Counter[str]) -> None:
        rules = kept.rules.tasks
        read = self._database.read
        due, below = await read(retention.bounds, "task", kept.before(rules.days), rules.rows)
        while keys := await read(retention.due_tasks, due, below, PAGE):
            below = keys[-1]
            while keys:
                done = await self._database.write(retention.remove_tasks, keys, due, kept.now)
                gone["tasks"] += done.tasks
                keys = keys[done.looked :]
                await self._rest()

    async def _occurrences(self, kept: Kept, gone: Counter[str]) -> None:
        rules = kept.rules.occurrences
        job = ""
        while (found := await self._database.read(retention.next_job, job)) is not None:
            job = found
            before = kept.before(rules.days)
            due = await self._database.read(retention.due_occurrences, job, before, rules.rows)
            if due is not None:
                gone["occurrences"] += await self._all_instants(job, due)

    async def _all_instants(self, job: str, due: Due) -> int:
        rows, more = 0, True
        while more:
            done = await self._database.write(retention.remove_occurrences, job, due)
            rows, more = rows + done.rows, done.more
            await self._rest()
        return rows

    async def _sessions(self, kept: Kept, gone: Counter[str]) -> None:
        before, key = kept.before(kept.rules.sessions.days), 0
        while before and (found := await self._database.read(retention.due_session, key, before)) is not None:
            key, done = found, Gone(more=True)
            while done.more:
                done = await self._database.write(retention.remove_session, key, before, kept.now)
                await self._rest()
            gone["sessions"] += 1

    async def _events(self, kept: Kept, gone: Counter[str]) -> None:
        rules, after = kept.rules.events, 0
        read = self._database.read
        _, below = await read(retention.bounds, "event", kept.before(rules.days), rules.rows)
        while (first := await read(retention.due_events, after, below, 1)) != []:
            after = first[0] - 1
            done = await self._database.write(retention.remove_events, after, below, kept.now)
            gone["events"] += done.rows
            await self._rest()
            if not done.rows:
                return

    async def _audit(self, kept: Kept, gone: Counter[str]) -> None:
        rules = kept.rules.audit
        _, below = await self._database.read(retention.bounds, "audit", kept.before(rules.days), rules.rows)
        while await self._database.read(retention.due_audit, below):
            done = await self._database.write(retention.remove_audit, below, kept.now)
            gone["audit"] += done.rows
            await self._rest()

    async def _policies(self, kept: Kept, gone: Counter[str]) -> None:
        before = kept.before(kept.rules.policies.days)
        while before and (due := await self._database.read(retention.due_policies, before)):
            done = await self._database.write(retention.remove_policies, due, before)
            gone["policies"] += done.rows
            if not done.more:
                return

    async def _unreferred(self, kept: Kept, gone: Counter[str]) -> None:
        """After tasks went, and once a day: something may have been stored that nothing ever referred to."""
        days = kept.rules.artifacts.days
        rested = self._swept_at is not None and kept.now - self._swept_at < DAY_MS
        if not days or (rested and not gone["tasks"] and not gone["sessions"]):
            return
        gone["artifacts"] += await self._sweep.artifacts(kept.before(days))
        gone["prompt_parts"] += await self._sweep.parts()
        self._swept_at = kept.now

    async def _rest(self) -> None:
        """Let others write. What was freed lies in the log by then: it is taken up in small portions, too."""
        self._pieces += 1
        if self._pieces % PIECES == 0:
            await self._database.alone(space.take_up)
        await self._clock.sleep(PAUSE_MS)

    async def _scrub(self) -> None:
        """A purge was cut short before the file was rewritten."""
        if await self._database.read(purge.unscrubbed):
            await scrub(self._database, self._clock)

    async def _give_back(self) -> None:
        """Cut free pages off the file while nobody else writes."""
        left = first = await self._database.read(space.excess)
        for _ in range(STEPS):
            commits = self._database.commits
            await self._clock.sleep(IDLE_MS)
            if not left or self._database.commits != commits:
                break
            left = await self._database.write(space.give_back)
        if left != first:
            await self._database.alone(space.take_up)


SCRUB_BYTES = 1024 * 1024 * 1024
"""A larger file would hold up the writer for too long: `goclaw compact` does it, while no daemon runs."""


async def scrub(database: Database, clock: Clock) -> bool:
    """Rewrite the file so that nothing of what was purged is left in it; False when it is too large, or was in use."""
    if (await database.read(space.measure)).file_bytes > SCRUB_BYTES:
        return False
    begun = clock.wall()
    if not await database.alone(space.rewrite):
        return False
    await database.write(purge.mark_scrubbed, begun)
    return True
