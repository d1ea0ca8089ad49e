"""The workers: claim, carry out, settle, claim the next in the same commit.

A worker exists only while it has a task; idle lanes cost nothing. Waiting costs no worker either: a handler that must
wait ends its attempt and the task stands in RETRY_WAIT.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from goclaw.core.agent import Agent
from goclaw.core.event import Delta
from goclaw.core.outcome import Canceled, Died, Failed, HandedBack, Outcome, failure
from goclaw.core.ports import Clock, Handler
from goclaw.core.task import HELD, Task, TaskState
from goclaw.db.database import Database
from goclaw.errors import GoclawError, LeaseLost, StoreError, StoreFull
from goclaw.kernel.attempt import LiveAttempt
from goclaw.kernel.claiming import Claimed
from goclaw.kernel.queue import LEASE_MS, Queue
from goclaw.log import bound
from goclaw.store.tasks import Stored

TICK_MS = LEASE_MS // 3
TIMER_CHECK_MS = 30_000
"""The longest sleep before a timer looks at the wall clock again: people may set it."""

FULL_DISK_MS = 1_000
"""How long to wait before a commit is tried again on a full disk."""

Interruption = Literal["cancel", "deadline", "drain", "lease", "timeout"]


@dataclass(slots=True, eq=False)
class _Live:
    """A task in the hands of a worker."""

    claimed: Claimed
    worker: asyncio.Task[None]
    over: bool = False
    watched: asyncio.Event | None = None
    why: Interruption | None = None
    handling: bool = False
    struck: bool = False

    async def until_ended(self) -> None:
        """Return when the attempt is settled."""
        if self.watched is None:
            self.watched = asyncio.Event()
        if not self.over:
            await self.watched.wait()

    def end(self) -> None:
        """The attempt is settled."""
        self.over = True
        if self.watched is not None:
            self.watched.set()

    def interrupt(self, why: Interruption) -> None:
        """Cancel the handler, once; the worker itself goes on to settle."""
        if self.why is None:
            self.why = why
            if self.handling:
                self.struck = True
                self.worker.cancel()


class Pool:
    """Runs the handlers of all agents' lanes. `run` lives as long as the daemon; `drain` ends it in peace."""

    def __init__(  # noqa: PLR0913 (collaborators by name, given once by the composition root)
        self,
        queue: Queue,
        database: Database,
        clock: Clock,
        *,
        agents: Callable[[], Mapping[str, Agent]],
        handlers: Mapping[str, Handler],
        show: Callable[[Delta], None],
        timeout_ms: Callable[[], int],
        report: Callable[[Task, BaseException], None],
    ) -> None:
        self._queue = queue
        self._database = database
        self._clock = clock
        self._agents = agents
        self._handlers = handlers
        self._show = show
        self._timeout_ms = timeout_ms
        self._report = report
        # By fencing token: a task whose lease was lost may be in other hands before its first worker has let go.
        self._live: dict[int | None, _Live] = {}
        self._active: dict[str, int] = {}
        self._ready: set[str] = set()
        self._bell = asyncio.Event()
        self._timer_bell = asyncio.Event()
        self._busy = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._claiming = False
        self._draining = False
        self._hurry = False
        queue.listen(self._ring, self._timer_bell.set)

    @property
    def running(self) -> int:
        """How many tasks are in the hands of workers."""
        return len(self._live)

    async def run(self) -> None:
        """Serve until cancelled. Work that was queued before is picked up at once."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._timers(), name="timers")
            group.create_task(self._heartbeat(), name="heartbeat")
            self.wake()
            await self._dispatch(group)

    def wake(self) -> None:
        """Lanes may have changed: look for work everywhere."""
        self._ring(frozenset({"*"}))

    async def drain(self, patience_ms: int) -> None:
        """Claim no more, let running work end for `patience_ms`, then interrupt and hand back the rest."""
        self._draining = True
        async with asyncio.TaskGroup() as group:
            patience = group.create_task(self._hand_back_after(patience_ms))
            await self._idle.wait()
            patience.cancel()

    async def _hand_back_after(self, patience_ms: int) -> None:
        await self._clock.sleep(patience_ms)
        self._hurry = True
        for live in list(self._live.values()):
            live.interrupt("drain")

    async def cancel(self, task_id: str, reason: str | None) -> tuple[bool, TaskState, int]:
        """Cancel a task and all below it; the answer comes when the handlers of those that run have ended.

        Whether it is CANCELED, its state, and how many below it had not ended. Raises NotFound.
        """
        asked = await self._queue.cancel(task_id, reason)
        task = asked.stored.task
        running = self._holders(asked.held)
        for live in running:
            live.interrupt("cancel")
        for live in running:
            await live.until_ended()
        if task.state in HELD:
            task = await self._queue.get(task_id)
        return task.state is TaskState.CANCELED, task.state, asked.below

    def _holders(self, keys: Sequence[int]) -> list[_Live]:
        """The attempts at these tasks that are in the hands of workers."""
        return [live for live in self._live.values() if live.claimed.task.key in keys]

    def _ring(self, ready: frozenset[str]) -> None:
        self._ready |= ready
        self._bell.set()

    async def _dispatch(self, group: asyncio.TaskGroup) -> None:
        while True:
            await self._bell.wait()
            self._bell.clear()
            ready, self._ready = self._ready, set()
            agents = self._agents()
            for agent in agents.values() if "*" in ready else [agents[name] for name in ready if name in agents]:
                free = agent.worker_count - self._active.get(agent.id, 0)
                if free > 0 and not self._draining:
                    await self._fill(group, agent.id, free)

    async def _fill(self, group: asyncio.TaskGroup, agent_id: str, free: int) -> None:
        """Claim for the free workers of a lane. A drain that begins meanwhile waits for what is claimed here."""
        self._claiming = True
        self._idle.clear()
        try:
            for claimed in await self._queue.claim(agent_id, free):
                self._start(group, claimed)
        except StoreFull:
            await self._clock.sleep(FULL_DISK_MS)
            self._ring(frozenset({agent_id}))
        finally:
            self._claiming = False
            self._rest()

    def _rest(self) -> None:
        if not self._live and not self._claiming:
            self._busy.clear()
            self._idle.set()

    def _start(self, group: asyncio.TaskGroup, claimed: Claimed) -> None:
        agent_id = claimed.task.agent_id
        self._active[agent_id] = self._active.get(agent_id, 0) + 1
        self._busy.set()
        self._idle.clear()
        worker = group.create_task(self._work(claimed), name=f"worker {agent_id}")
        self._hold(claimed, worker)

    def _hold(self, claimed: Claimed, worker: asyncio.Task[None]) -> None:
        """What is claimed while the rest is already handed back is not begun."""
        self._live[claimed.task.lease_token] = _Live(claimed, worker, why="drain" if self._hurry else None)

    async def _work(self, claimed: Claimed | None) -> None:
        """One worker: from a claimed task to the next, until there is none."""
        worker = self._live[claimed.task.lease_token].worker if claimed else None
        agent_id = claimed.task.agent_id if claimed else ""
        try:
            while claimed is not None and worker is not None:
                live = self._live[claimed.task.lease_token]
                outcome = await self._handle(live)
                claimed = await self._settle(live, outcome)
                if claimed is not None:
                    self._hold(claimed, worker)
        finally:
            self._active[agent_id] -= 1
            self._rest()

    async def _settle(self, live: _Live, outcome: Outcome) -> Claimed | None:
        stored = live.claimed.stored
        try:
            return await self._store_in_any_case(stored, outcome)
        except StoreError as error:
            # Nothing was acknowledged: the row still says RUNNING, and the next start judges it.
            self._report(stored.task, error)
            return None
        finally:
            del self._live[stored.task.lease_token]
            live.end()

    async def _store_in_any_case(self, stored: Stored, outcome: Outcome) -> Claimed | None:
        """An outcome that the store does not take (it is no JSON, or does not fit the journal) becomes a failure."""
        try:
            return await self._store(stored, outcome)
        except StoreError:
            raise
        except Exception as error:
            self._report(stored.task, error)
            text = f"the outcome of {stored.task.kind} could not be stored: {type(error).__name__}"
            return await self._store(stored, Failed("INTERNAL", text))

    async def _store(self, stored: Stored, outcome: Outcome) -> Claimed | None:
        """Settle, and claim the next in the same commit. Work that is done waits for room on a full disk."""
        while True:
            wide = self._agents().get(stored.task.agent_id)
            surplus = wide is None or self._active[stored.task.agent_id] > wide.worker_count
            try:
                if self._draining or surplus:
                    await self._queue.finish(stored, outcome)
                    # When a lane becomes narrower all its workers may leave at once; then somebody is to come back.
                    self._ring(frozenset({stored.task.agent_id}))
                    return None
                return (await self._queue.finish_and_claim(stored, outcome))[1]
            except StoreFull as error:
                if self._hurry:
                    raise
                self._report(stored.task, error)
                await self._clock.sleep(FULL_DISK_MS)

    async def _handle(self, live: _Live) -> Outcome:
        """Run the handler; whatever comes out of it becomes an outcome."""
        task = live.claimed.task
        attempt = LiveAttempt(self._queue, self._database, live.claimed, self._show)
        limit = task.timeout_ms or self._timeout_ms()
        alarm = asyncio.get_running_loop().call_later(limit / 1000, live.interrupt, "timeout")
        live.handling = True
        try:
            if live.why is not None:
                return _interrupted(live, limit)
            with bound(trace_id=task.trace_id, task_id=task.id, run_id=task.run_id, session_id=task.session_id):
                return await self._handlers[task.kind](attempt)
        except asyncio.CancelledError:
            if live.why is None:
                raise
            return _interrupted(live, limit)
        except LeaseLost:
            return Died(lease_lost=True)
        except GoclawError as error:
            return failure(error)
        except Exception as error:
            self._report(task, error)
            return Failed("INTERNAL", f"the handler of {task.kind} failed: {type(error).__name__}")
        finally:
            live.handling = False
            if live.struck:
                # Also when the handler swallowed it: the next handler of this worker must not find a cancel pending.
                live.worker.uncancel()
            alarm.cancel()

    async def _heartbeat(self) -> None:
        while True:
            await self._busy.wait()
            await self._clock.sleep(TICK_MS)
            tokens = list(self._live)
            try:
                expired = set(await self._queue.renew([token for token in tokens if token is not None]))
            except StoreFull:
                continue
            for live in list(self._live.values()):
                if live.claimed.task.lease_token in expired:
                    live.interrupt("lease")

    async def _timers(self) -> None:
        while True:
            self._timer_bell.clear()
            try:
                done = await self._queue.run_timers()
            except StoreFull:
                await self._clock.sleep(FULL_DISK_MS)
                continue
            for key in done.overdue:
                for live in self._holders((key,)):
                    live.interrupt("deadline")
            await self._sleep_until(done.next_wake)

    async def _sleep_until(self, wake_at: int | None) -> None:
        """Until the wall clock reads `wake_at`, or somebody has an earlier timer."""
        async with asyncio.TaskGroup() as group:
            alarm = None if wake_at is None else group.create_task(self._ring_timers_at(wake_at))
            await self._timer_bell.wait()
            if alarm is not None:
                alarm.cancel()

    async def _ring_timers_at(self, wake_at: int) -> None:
        await self._clock.sleep(min(wake_at - self._clock.wall(), TIMER_CHECK_MS))
        self._timer_bell.set()


def _interrupted(live: _Live, limit_ms: int) -> Outcome:
    match live.why:
        case "drain":
            return HandedBack()
        case "lease":
            return Died(lease_lost=True)
        case "timeout":
            return Failed("TIMEOUT", f"the attempt took longer than its limit of {limit_ms} ms")
        case "deadline":
            return Canceled("DEADLINE")
        case _:
            return Canceled()
