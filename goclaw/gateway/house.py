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
    cancel: Callable[[str, str | None], Awaitable[tuple[bool, TaskState]]]
    """Cancel a task; of a running one the answer comes when its handler has ended."""
    authorize: Authorize
    agents: Callable[[], Mapping[str, Agent]]
    tool_specs: Callable[[Agent], tuple[ToolSpec, ...]]
    provider_for: Callable[[Agent], Provider]
    vitals: SelfKnowledge
    report: Callable[[str, BaseException], None]
    extra_methods: tuple[Any, ...] = ()
