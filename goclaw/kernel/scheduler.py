"""The scheduler: submits the tasks of schedules at their instants, and the face of `cron.*`.

One transaction fires a job: the occurrence, its task, the watermark and the event are committed together. In
between the scheduler sleeps until the earliest instant of all jobs and looks at the wall clock at least every
30 s, because people set it; without a job that waits it does not wake at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from goclaw.clock import new_id
from goclaw.core.agent import Agent
from goclaw.core.ports import Clock
from goclaw.core.schedule import Draft, Job, Occurrence, upcoming
from goclaw.db.database import Database
from goclaw.errors import StoreFull
from goclaw.kernel import firing, jobs
from goclaw.kernel.firing import Desk
from goclaw.kernel.jobs import Reconciled
from goclaw.kernel.queue import Queue
from goclaw.kernel.submission import Submitted
from goclaw.store import schedules

LOOK_MS = 30_000
"""The longest sleep before the scheduler looks at the wall clock again."""
REPLAN_PAGE = 500


class Scheduler:
    """One per daemon. `run` fires; the other methods may be called while it runs, and before it does.

    Every method returns after the commit. Tasks of paused agents and kinds are submitted and held by the
    queue as others are. What a run may do is decided where its task does it: firing a schedule asks no
    policy.
    """

    def __init__(
        self, database: Database, queue: Queue, clock: Clock, *, agents: Callable[[], Mapping[str, Agent]]
    ) -> None:
        self._database = database
        self._queue = queue
        self._clock = clock
        self._agents = agents
        self._bell = asyncio.Event()

    def rearm(self) -> None:
        """Look again: a job may be due earlier than known."""
        self._bell.set()

    async def run(self) -> None:
        """Fire what is due, until cancelled. Call `reconcile` before, so that no job fires that the file has dropped.

        On a full disk nothing is committed and every instant is still ahead; it is tried again at the next look.
        """
        replanned = False
        while True:
            self._bell.clear()
            try:
                if not replanned:
                    await self._replan()
                    replanned = True
                next_at = await self.fire_due()
            except StoreFull:
                next_at = self._clock.wall() + LOOK_MS
            await self._wait(next_at)

    async def fire_due(self) -> int | None:
        """Fire until nothing is due by the wall clock; the next instant that any job waits for."""
        next_at = await self._database.read(schedules.next_wake)
        while next_at is not None and next_at <= self._clock.wall():
            done = await self._database.write(firing.fire_due, self._desk())
            self._queue.announce(done.submitted)
            next_at = done.next_wake
        return next_at

    async def add(self, draft: Draft) -> Job:
        """Store a job; without an id it gets one. Raises BadRequest, TooLarge, Conflict, NotFound or
        Saturated."""
        job_id = new_id(self._clock) if draft.id is None else draft.id
        job = await self._database.write(jobs.add, draft, job_id, frozenset(self._agents()), self._clock.wall())
        self.rearm()
        return job

    async def remove(self, job_id: str) -> Job:
        """Remove a job that `add` made; its history stays. Raises NotFound or Conflict."""
        return await self._database.write(jobs.remove, job_id, self._clock.wall())

    async def enable(self, job_id: str) -> Job:
        """Let a job fire again, from now on; what passed meanwhile was not planned. Raises NotFound."""
        job = await self._database.write(jobs.set_enabled, job_id, True, self._clock.wall())
        self.rearm()
        return job

    async def disable(self, job_id: str) -> Job:
        """Let a job not fire. Tasks it has submitted go on. Raises NotFound."""
        return await self._database.write(jobs.set_enabled, job_id, False, self._clock.wall())

    async def run_now(self, job_id: str) -> Submitted:
        """Submit a run outside of the plan, enabled or not. Raises NotFound, Saturated, or Conflict when it
        would overlap and may not."""
        done = await self._database.write(firing.run_now, job_id, self._desk())
        self._queue.announce([done])
        return done

    async def reconcile(self, drafts: Sequence[Draft]) -> Reconciled:
        """Make the jobs of config.yaml those of `drafts`. Raises BadRequest (data: schedule); then nothing
        changes."""
        done = await self._database.write(jobs.reconcile, drafts, self._clock.wall())
        self.rearm()
        return done

    async def get(self, job_id: str) -> Job:
        """One job. Raises NotFound."""
        return await self._database.read(jobs.find, job_id)

    async def list(self, limit: int = 500, after: str | None = None) -> Sequence[Job]:
        """Jobs in the order of their ids, behind the id `after`."""
        return await self._database.read(schedules.page, limit, after)

    async def next(self, job_id: str, limit: int = 5) -> Sequence[int]:
        """The next planned instants, at most `limit`, also of a disabled job. Raises NotFound."""
        job = await self.get(job_id)
        return upcoming(job.schedule.when, max(job.watermark, self._clock.wall()), limit)

    async def history(self, job_id: str, limit: int = 50, before: int | None = None) -> Sequence[Occurrence]:
        """What became of a job's instants, newest first, planned before `before`; also of a removed job.

        Raises NotFound for an id that has neither a job nor a history.
        """
        found = await self._database.read(schedules.history, job_id, limit, before)
        if not found:
            await self.get(job_id)
        return found

    def _desk(self) -> Desk:
        bounds = {name: agent.max_queue_depth for name, agent in self._agents().items()}
        return Desk(bounds, partial(new_id, self._clock), self._clock.wall())

    async def _replan(self) -> None:
        after: str | None = ""
        while after is not None:
            after = await self._database.write(jobs.replan, after, REPLAN_PAGE, self._clock.wall())

    async def _wait(self, next_at: int | None) -> None:
        """Until the wall clock reads `next_at`, or `rearm`."""
        if next_at is None:
            await self._bell.wait()
        while next_at is not None and not self._bell.is_set():
            left = next_at - self._clock.wall()
            if left <= 0:
                return
            await self._nap(min(left, LOOK_MS))

    async def _nap(self, ms: int) -> None:
        async with asyncio.TaskGroup() as group:
            alarm = group.create_task(self._clock.sleep(ms))
            bell = group.create_task(self._bell.wait())
            await asyncio.wait((alarm, bell), return_when=asyncio.FIRST_COMPLETED)
            alarm.cancel()
            bell.cancel()
