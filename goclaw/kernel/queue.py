"""The queue: the only writer of task state, as an async face over `operations`.

Every method returns after a synchronous=FULL commit. `ring` is called on the loop with the agents that have new work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from goclaw.clock import new_id
from goclaw.core.agent import Agent
from goclaw.core.outcome import Outcome
from goclaw.core.ports import Clock
from goclaw.core.step import JournalEntry, Step
from goclaw.core.task import NewTask, Task, TaskState
from goclaw.db.database import Database
from goclaw.errors import ShuttingDown
from goclaw.kernel import claiming, operations, submission, upkeep
from goclaw.kernel.claiming import Claimed, Holder, Now
from goclaw.kernel.operations import CancelAsked, Ended
from goclaw.kernel.submission import Submitted
from goclaw.kernel.upkeep import Redriven, TimerRound
from goclaw.store import events, resting, tasks
from goclaw.store.tasks import Stored, TaskFilter

LEASE_MS = 30_000
REDRIVE_BATCH = 100
"""How many tasks are put back in one commit: about 20 ms of the writer."""


class Queue:
    """Tasks in, tasks out. One per daemon.

    `agents` gives the lanes and their bounds, `policy_version` the rules in force at an attempt's start, `jitter` a
    number in [0, 1).
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        boot_id: str,
        agents: Callable[[], Mapping[str, Agent]],
        policy_version: Callable[[], str],
        jitter: Callable[[], float],
    ) -> None:
        self._database = database
        self._clock = clock
        self._boot_id = boot_id
        self._agents = agents
        self._policy_version = policy_version
        self._jitter = jitter
        self._listeners: list[Callable[[frozenset[str]], None]] = []
        self._timer_listeners: list[Callable[[], None]] = []
        self._observers: list[Callable[[Task], None]] = []
        self._timers_ran_at: int | None = None
        self._open = True

    @property
    def boot_id(self) -> str:
        """Who owns the leases taken here."""
        return self._boot_id

    def listen(self, ring: Callable[[frozenset[str]], None], rearm: Callable[[], None]) -> None:
        """Call `ring` with agents that have new work, and `rearm` when a timer may be due earlier than known."""
        self._listeners.append(ring)
        self._timer_listeners.append(rearm)

    def observe(self, settled: Callable[[Task], None]) -> None:
        """Call `settled` with every task that an attempt, a cancel or a redrive has moved, after the commit."""
        self._observers.append(settled)

    def close_intake(self) -> None:
        """From now on `submit` raises ShuttingDown."""
        self._open = False

    async def submit(self, new: NewTask) -> Submitted:
        """Store one task. Raises BadRequest, TooLarge, NotFound, Conflict, Saturated or ShuttingDown; then nothing
        is stored."""
        self._check_open()
        wish = submission.as_wish(new, new_id(self._clock), self._bounds(), self._clock.wall())
        done = await self._database.share(submission.submit_shared, wish, len(wish.prepared.payload))
        self._after_submit([done])
        return done

    async def submit_many(self, news: Sequence[NewTask]) -> list[Submitted]:
        """Store all tasks in one commit, or none."""
        self._check_open()
        named = [(new, new_id(self._clock)) for new in news]
        done = await self._database.write(submission.submit_many, named, self._bounds(), self._clock.wall())
        self._after_submit(done)
        return done

    def announce(self, done: Sequence[Submitted]) -> None:
        """Wake whoever waits for tasks that another transaction of the kernel has stored."""
        self._after_submit(done)

    async def claim(self, agent_id: str, limit: int) -> list[Claimed]:
        """Lease and start up to `limit` tasks of an agent."""
        claimed = await self._database.apply(claiming.claim, agent_id, limit, self._holder(), self._now())
        self._after_claim(agent_id)
        return claimed

    async def finish(self, stored: Stored, outcome: Outcome) -> Task:
        """Settle an attempt. If its lease is gone, nothing changes."""
        return (await self._settle(stored, outcome, None))[0]

    async def finish_and_claim(self, stored: Stored, outcome: Outcome) -> tuple[Task, Claimed | None]:
        """Settle an attempt and lease the agent's next task in the same commit."""
        return await self._settle(stored, outcome, self._holder())

    async def _settle(self, stored: Stored, outcome: Outcome, holder: Holder | None) -> tuple[Task, Claimed | None]:
        ended = Ended(stored, outcome, self._jitter(), holder, self._now())
        settled = await self._database.share(operations.settle_shared, ended)
        self._after_move(settled.task, settled.ready)
        if holder is not None:
            self._after_claim(settled.task.agent_id)
        return settled.task, settled.following

    async def record(self, stored: Stored, entries: Sequence[JournalEntry]) -> dict[str, Step]:
        """Extend the journal of a live attempt; the steps that changed. Raises LeaseLost or JournalMismatch."""
        return await self._database.write(operations.record, stored, entries, self._clock.wall())

    async def progress(self, stored: Stored, value: Any) -> None:
        """Record progress of a live attempt. Raises LeaseLost."""
        await self._database.write(operations.report_progress, stored, value, self._clock.wall())

    async def renew(self, tokens: Sequence[int]) -> list[int]:
        """Extend live leases in one statement; the tokens of this boot that have run out."""
        clocks = (self._clock.monotonic(), self._clock.wall())
        return await self._database.apply(tasks.renew, self._boot_id, tokens, clocks, LEASE_MS)

    async def cancel(self, task_id: str, reason: str | None) -> CancelAsked:
        """Cancel a task and all below it; of those that are held, commit the request and name their keys.

        Raises NotFound.
        """
        done = await self._database.write(operations.ask_cancel, task_id, reason, self._clock.wall())
        self._after_move(done.stored.task, done.ready)
        return done

    async def snooze(self, task_id: str, delay_ms: int) -> Task:
        """Let a waiting task wait until `delay_ms` from now. Raises NotFound, or Conflict when it does not wait."""
        done, ready = await self._database.write(upkeep.ask_snooze, task_id, delay_ms, self._clock.wall())
        self._after_move(done.task, ready)
        self._rearm()
        return done.task

    async def set_limits(self, concurrency: Mapping[str, int]) -> None:
        """Put the limits of names, and the agents' rates, in force for what is claimed from now on."""
        rates = {
            (one.id, kind): most for one in self._agents().values() for kind, most in one.starts_per_minute.items()
        }
        self._ring(await self._database.write(upkeep.set_limits, concurrency, rates))
        self._rearm()

    async def redrive(self, task_id: str) -> Task:
        """Put a resting task back into the queue. Raises NotFound or Conflict."""
        done, ready = await self._database.write(upkeep.ask_redrive, task_id, self._clock.wall())
        self._after_move(done.task, ready)
        return done.task

    async def redrive_listed(self, task_ids: Sequence[str]) -> Redriven:
        """Put those of these tasks back that can be, in this order; a refusal is a value.

        A hundred in a commit, so that other work goes on between.
        """
        total = Redriven()
        for start in range(0, len(task_ids), REDRIVE_BATCH):
            named = task_ids[start : start + REDRIVE_BATCH]
            moved, refused, ready = await self._database.write(upkeep.redrive_each, named, self._clock.wall())
            for task in moved:
                self._after_move(task, frozenset())
            self._ring(ready)
            total = total.plus(len(moved), refused)
        return total

    async def redrive_all(self, where: TaskFilter) -> Redriven:
        """Put all resting tasks back that match, the oldest first, as `redrive_listed` does.

        Those that are stored after it began are left out. It is not one commit: when it is cut off, or the daemon ends,
        what was put back stays so.
        """
        # A write, so that what was asked for before has happened.
        until = await self._database.write(tasks.last_key)
        total, cursor = Redriven(), 0
        while True:
            found = await self._database.read(resting.page, where, cursor, until, REDRIVE_BATCH)
            if not found:
                return total
            done = await self.redrive_listed([task_id for _, task_id in found])
            total = total.plus(done.count, done.refused, done.skipped)
            cursor = found[-1][0]

    async def resolve(self, task_id: str, step_id: int | None, happened: bool, result: Any) -> Task:
        """Settle an unknown step by a person's word. Raises NotFound, Conflict or BadRequest."""
        return await self._database.write(upkeep.settle_step, task_id, step_id, happened, result, self._clock.wall())

    async def run_timers(self) -> TimerRound:
        """Do what is due by the wall clock."""
        now = self._clock.wall()
        since, self._timers_ran_at = self._timers_ran_at, now
        done = await self._database.write(upkeep.run_timers, now, since)
        self._ring(done.ready)
        return done

    async def recover(self) -> list[tuple[Task, TaskState]]:
        """Judge what other boots left behind."""
        return await self._database.write(upkeep.recover_all, self._boot_id, self._clock.wall())

    async def pause(self, scope: str, name: str) -> None:
        """Hold the claim for all, an agent or a kind. Running tasks go on."""
        await self._database.write(upkeep.pause, scope, name, self._clock.wall())
        # A paused task that was to run alone holds the others back no longer.
        self._ring(frozenset({"*"}))

    async def resume(self, scope: str, name: str) -> None:
        """Let the claim go on."""
        await self._database.write(upkeep.resume, scope, name, self._clock.wall())
        self._ring(frozenset({"*"}))

    async def get(self, task_id: str) -> Task:
        """One task. Raises NotFound."""
        return (await self._database.read(operations.find, task_id)).task

    async def page(self, where: TaskFilter, limit: int, cursor: int | None) -> list[Task]:
        """Tasks, newest first."""
        return await self._database.read(tasks.page, where, limit, cursor)

    async def head(self) -> int:
        """The id of the newest event."""
        return await self._database.read(events.head)

    def _check_open(self) -> None:
        if not self._open:
            raise ShuttingDown

    def _bounds(self) -> dict[str, int]:
        return {agent.id: agent.max_queue_depth for agent in self._agents().values()}

    def _holder(self) -> Holder:
        lanes = {agent.id: agent.worker_count for agent in self._agents().values()}
        return Holder(self._boot_id, LEASE_MS, self._policy_version(), lanes)

    def _now(self) -> Now:
        return Now(self._clock.wall(), self._clock.monotonic())

    def _after_submit(self, done: Sequence[Submitted]) -> None:
        fresh = [one.task for one in done if not one.known]
        if any(task.wait_reason == "delay" or task.deadline_at is not None for task in fresh):
            self._rearm()
        self._ring(frozenset(task.agent_id for task in fresh if task.wait_reason is None))

    def _after_claim(self, agent_id: str) -> None:
        agent = self._agents().get(agent_id)
        if agent is not None and agent.starts_per_minute:
            # It may have used up its rate: then the timer is to ring when there is room again.
            self._rearm()

    def _after_move(self, task: Task, ready: frozenset[str]) -> None:
        for observer in self._observers:
            observer(task)
        if (
            task.state is TaskState.RETRY_WAIT
            or task.wait_reason == "delay"
            or (task.state is TaskState.QUEUED and task.deadline_at is not None)
        ):
            self._rearm()
        self._ring(ready)

    def _ring(self, ready: frozenset[str]) -> None:
        if ready:
            for listener in self._listeners:
                listener(ready)

    def _rearm(self) -> None:
        for listener in self._timer_listeners:
            listener()
