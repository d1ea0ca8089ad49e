"""The protocols through which the organs speak. An organ imports these, never another organ.

Implementations do not inherit; they fit. `daemon.py` joins them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from goclaw.core.access import Access, Decision
from goclaw.core.agent import Agent
from goclaw.core.chat import ChatRequest, Chunk, Message, ToolCall, ToolSpec
from goclaw.core.outcome import Outcome
from goclaw.core.step import Effect, JournalEntry, Step
from goclaw.core.task import NewTask, Task
from goclaw.core.tool import CallContext, Probe, Ready, Refused, ToolOutput


class Clock(Protocol):
    """Time as an argument. `wall` is for people and schedules, `monotonic` for leases and time-outs."""

    def wall(self) -> int:
        """Milliseconds since 1970 UTC."""
        ...

    def monotonic(self) -> int:
        """Milliseconds that only go forward, within one boot of the machine."""
        ...

    async def sleep(self, ms: float) -> None:
        """Wait that long by the monotonic clock."""
        ...


class Journal(Protocol):
    """The steps of one task, readable at once and extended by commits."""

    @property
    def steps(self) -> Mapping[str, Step]:
        """The recorded steps by key, in their order."""
        ...

    async def commit(self, entries: Sequence[JournalEntry]) -> None:
        """Make the entries durable in one commit, in order. Raises LeaseLost when this attempt no longer counts."""
        ...


class Conversation(Protocol):
    """What a turn is told of its session, and the parts of prompts it pins by hash."""

    async def bounds(self) -> tuple[int, int]:
        """What names the history of this turn for ever; pinned in the journal when the turn begins."""
        ...

    async def history(self, bounds: tuple[int, int]) -> tuple[Message, ...]:
        """The messages of earlier turns and the input of this one, in turn order, as they stood then."""
        ...

    def pin(self, part_hash: str, body: str) -> None:
        """Keep a part of the prompt; durable before anything committed later."""
        ...

    async def part(self, part_hash: str) -> str | None:
        """A part that was pinned."""
        ...


class Attempt(Protocol):
    """One claim-to-settle of a task, as its handler sees it."""

    @property
    def task(self) -> Task:
        """The task as it was claimed."""
        ...

    @property
    def journal(self) -> Journal:
        """The task's journal."""
        ...

    @property
    def conversation(self) -> Conversation:
        """The task's session."""
        ...

    def delta(self, content: str, *, reset: bool = False) -> None:
        """Show a piece of the answer to whoever watches; may be lost."""
        ...

    async def progress(self, value: Any) -> None:
        """Record how far the work is, durable and visible in the task and as an event."""
        ...


Handler = Callable[[Attempt], Awaitable[Outcome]]
"""Does one kind of task. What it raises becomes a failed outcome; cancellation is not caught."""


class Submit(Protocol):
    """Takes in work."""

    async def __call__(self, task: NewTask) -> tuple[Task, bool]:
        """The stored task, and whether it was already known by its idempotency key. Returns after the commit."""
        ...


class Provider(Protocol):
    """A model behind an API, or several of them behind one another."""

    @property
    def name(self) -> str:
        """The name used in config.yaml, metrics and events."""
        ...

    def stream(self, request: ChatRequest) -> AsyncIterator[Chunk]:
        """Text chunks, then exactly one Reply. Raises ProviderError; a cut stream is an error, never a short reply."""
        ...


class Tool(Protocol):
    """Something a model can call."""

    @property
    def spec(self) -> ToolSpec:
        """Name, description and parameters as models see them."""
        ...

    @property
    def capability(self) -> str:
        """The capability every call of it needs; without it the model is not shown the tool."""
        ...

    @property
    def effect(self) -> Effect:
        """The effect class when the arguments do not say otherwise."""
        ...

    async def accesses(self, arguments: Mapping[str, Any], context: CallContext) -> Sequence[Access]:
        """What this very call would touch, resolved; the gate authorizes each. Raises BadArguments, ToolFailed."""
        ...

    async def run(self, arguments: Mapping[str, Any], context: CallContext) -> ToolOutput:
        """Do it. Raises ToolError for a failure the model should see; cancellation must leave nothing running."""
        ...


class VerifiableTool(Tool, Protocol):
    """A tool whose effect can be found in the world afterwards."""

    async def evidence(self, arguments: Mapping[str, Any], context: CallContext) -> Any:
        """JSON that a later probe needs, taken just before the effect may begin."""
        ...

    async def probe(self, arguments: Mapping[str, Any], evidence: Any, context: CallContext) -> Probe:
        """Did it happen?"""
        ...


class Toolbox(Protocol):
    """All tools behind the one door."""

    def specs(self, agent: Agent) -> tuple[ToolSpec, ...]:
        """What this agent's model is shown, sorted by name."""
        ...

    async def prepare(self, call: ToolCall, context: CallContext) -> Ready | Refused:
        """Known? arguments match? allowed? Audited. Touches nothing."""
        ...

    async def evidence(self, ready: Ready) -> Any:
        """What a later probe needs; None unless the effect is verifiable."""
        ...

    async def probe(self, ready: Ready, evidence: Any) -> Probe:
        """Whether an interrupted call happened."""
        ...

    async def run(self, ready: Ready) -> ToolOutput:
        """Authorize again, run, redact, audit. Never raises but for cancellation: a failure is an output."""
        ...


class Authorize(Protocol):
    """May this happen? Answers at once and records the decision."""

    def __call__(self, access: Access, *, pinned: str | None = None, task_id: str | None = None) -> Decision:
        """The stricter of the pinned and the current policy; every denial and every mutation is audited."""
        ...


class Emit(Protocol):
    """Tell what happened outside of a task's own commits (policy.*, skill.*, provider.*)."""

    def __call__(
        self,
        event_type: str,
        payload: Mapping[str, Any],
        *,
        task_id: str | None = None,
        session_id: str | None = None,
    ) -> None:
        """Queue the event for the next commit; it is durable before anything committed later."""
        ...


class Artifacts(Protocol):
    """Large outputs by content."""

    async def put(self, body: bytes) -> str:
        """Store `body` durably; its SHA-256 in hexadecimal."""
        ...

    async def get(self, sha256: str) -> bytes:
        """The body. Raises NotFound."""
        ...
