"""What the gateway needs of the rest of the house, as protocols; `daemon.py` fills it in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from goclaw.bus import Bus
from goclaw.core.agent import Agent
from goclaw.core.chat import ToolSpec
from goclaw.core.ports import Authorize, Clock, Provider
from goclaw.core.task import NewTask, Task, TaskState
from goclaw.db.database import Database
from goclaw.gateway.waiting import Waiters
from goclaw.store.tasks import TaskFilter


class SubmittedTask(Protocol):
    """What the queue answers to a submission."""

    @property
    def task(self) -> Task:
        """The stored task."""
        ...

    @property
    def known(self) -> bool:
        """Whether its idempotency key was known."""
        ...


class RefusedTask(Protocol):
    """A task that could not be put back."""

    @property
    def task_id(self) -> str:
        """Which."""
        ...

    @property
    def code(self) -> str:
        """The stable word."""
        ...

    @property
    def message(self) -> str:
        """Why."""
        ...


class RedrivenTasks(Protocol):
    """What the queue answers when several tasks are to be put back."""

    @property
    def count(self) -> int:
        """How many were."""
        ...

    @property
    def skipped(self) -> int:
        """How many could not be."""
        ...

    @property
    def refused(self) -> Sequence[RefusedTask]:
        """The first of those."""
        ...


class Tasks(Protocol):
    """The queue."""

    async def submit(self, new: NewTask) -> SubmittedTask:
        """Store one task."""
        ...

    async def submit_many(self, news: Sequence[NewTask]) -> Sequence[SubmittedTask]:
        """Store all or none."""
        ...

    async def redrive(self, task_id: str) -> Task:
        """Put a resting task back."""
        ...

    async def redrive_listed(self, task_ids: Sequence[str]) -> RedrivenTasks:
        """Put those of these tasks back that can be."""
        ...

    async def redrive_all(self, where: TaskFilter) -> RedrivenTasks:
        """Put all resting tasks back that match."""
        ...

    async def snooze(self, task_id: str, delay_ms: int) -> Task:
        """Let a waiting task wait from now."""
        ...

    async def resolve(self, task_id: str, step_id: int | None, happened: bool, result: Any) -> Task:
        """Settle an unknown step."""
        ...

    async def pause(self, scope: str, name: str) -> None:
        """Hold the claim."""
        ...

    async def resume(self, scope: str, name: str) -> None:
        """Let the claim go on."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who serves."""

    version: str
    boot_id: str
    log_id: str
    started_at: int
    started_monotonic: int


class SelfKnowledge(Protocol):
    """The daemon's own numbers."""

    async def status(self) -> Mapping[str, Any]:
        """What `system.status` answers."""
        ...

    async def readiness(self) -> Mapping[str, Any]:
        """What `/readyz` answers."""
        ...

    async def metrics_text(self) -> str:
        """The Prometheus text."""
        ...

    async def metrics_json(self) -> Mapping[str, Any]:
        """The same as JSON."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """Everything a method may use."""

    identity: Identity
    clock: Clock
    database: Database
    bus: Bus
    waiters: Waiters
    tasks: Tasks
    cancel: Callable[[str, str | None], Awaitable[tuple[bool, TaskState, int]]]
    """Cancel a task and all below it: whether it is CANCELED, its state, and how many below it had not ended.

    Of those that run the answer comes when their handlers have ended."""
    authorize: Authorize
    agents: Callable[[], Mapping[str, Agent]]
    tool_specs: Callable[[Agent], tuple[ToolSpec, ...]]
    provider_for: Callable[[Agent], Provider]
    vitals: SelfKnowledge
    report: Callable[[str, BaseException], None]
    extra_methods: tuple[Any, ...] = ()
