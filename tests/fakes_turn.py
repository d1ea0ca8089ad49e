"""A turn without a kernel: a journal that can be killed at any commit, a toolbox that keeps book of the world."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from goclaw.core.agent import Agent
from goclaw.core.canonical import canonical_json
from goclaw.core.chat import Message, ToolCall, ToolSpec
from goclaw.core.step import ENDED, Effect, Intend, JournalEntry, Start, Step, StepState
from goclaw.core.task import Task
from goclaw.core.tool import CallContext, CannotTell, DidNotHappen, Happened, Probe, Ready, Refused, ToolOutput
from goclaw.errors import JournalMismatch
from tests.scratch import running

OPEN = frozenset(StepState) - ENDED


class Killed(BaseException):
    """The process is gone."""


@dataclass
class Life:
    """One life of a process. `kill_at` names the tick at which it ends; after it nothing has any effect.

    Every commit has two ticks (about to be made; durable, and nobody told), every run of a call has two (about to
    begin; done, and nobody told).
    """

    kill_at: int = -1
    ticks: list[str] = field(default_factory=list)
    over: bool = False

    def tick(self, what: str) -> None:
        if self.over or len(self.ticks) == self.kill_at:
            self.over = True
            raise Killed(what)
        self.ticks.append(what)


class MemoryJournal:
    """The journal of one task, with the rules of the real one; `durable` outlives a life. `made` tells of commits."""

    def __init__(self, durable: dict[str, Step] | None = None, life: Life | None = None) -> None:
        self.durable: dict[str, Step] = {} if durable is None else durable
        self.life = life or Life()
        self.commits: list[list[JournalEntry]] = []
        self.made: asyncio.Queue[int] = asyncio.Queue()
        self.refuse: Exception | None = None

    @property
    def steps(self) -> Mapping[str, Step]:
        return self.durable

    async def commit(self, entries: Sequence[JournalEntry]) -> None:
        await asyncio.sleep(0)
        if self.refuse is not None:
            raise self.refuse
        self.life.tick(f"commit {len(self.commits)}")
        self.apply(entries)
        self.life.tick(f"committed {len(self.commits) - 1}")
        self.made.put_nowait(len(self.commits))
        await asyncio.sleep(0)

    def apply(self, entries: Sequence[JournalEntry]) -> None:
        """All of them or none."""
        after = dict(self.durable)
        for entry in entries:
            self._apply(after, entry)
        self.durable.clear()
        self.durable.update(after)
        self.commits.append(list(entries))

    def _apply(self, after: dict[str, Step], entry: JournalEntry) -> None:
        if isinstance(entry, Intend):
            assert entry.key not in after, "a key names one step"
            after[entry.key] = _step(entry, len(after) + 1)
            return
        step = after.get(entry.key)
        if step is None or step.state not in OPEN:
            raise JournalMismatch(f"step {entry.key} is not open")
        if isinstance(entry, Start):
            effect = entry.effect or step.effect
            after[entry.key] = replace(step, state=StepState.RUNNING, evidence=_copy(entry.evidence), effect=effect)
        else:
            after[entry.key] = replace(step, state=entry.state, result=_copy(entry.result), finished_at=2)


def _step(entry: Intend, seq: int) -> Step:
    return Step(
        key=entry.key,
        seq=seq,
        kind=entry.kind,
        state=StepState.RUNNING if entry.running else StepState.INTENDED,
        effect=entry.effect,
        tool=entry.tool,
        request_hash=entry.request_hash,
        request=_copy(entry.request),
        evidence=_copy(entry.evidence),
        result=None,
        created_at=1,
        finished_at=None,
    )


def _copy(value: Any) -> Any:
    """As it comes back from a database."""
    return json.loads(canonical_json(value))


class MemoryConversation:
    """One session in memory. `said` holds (turn, message) in the order in which they were stored."""

    def __init__(self, said: list[tuple[int, Message]], turn: int = 1, parts: dict[str, str] | None = None) -> None:
        self.said = said
        self.parts: dict[str, str] = {} if parts is None else parts
        self._turn = turn

    async def bounds(self) -> tuple[int, int]:
        return self._turn, len(self.said)

    async def history(self, bounds: tuple[int, int]) -> tuple[Message, ...]:
        turn, upto = bounds
        return tuple(message for place, message in self.said[:upto] if place <= turn)

    def pin(self, part_hash: str, body: str) -> None:
        self.parts.setdefault(part_hash, body)

    async def part(self, part_hash: str) -> str | None:
        return self.parts.get(part_hash)


class MemoryAttempt:
    """Fits the port Attempt."""

    def __init__(self, journal: MemoryJournal, conversation: MemoryConversation | None = None, **task: Any) -> None:
        self.task: Task = running(**{"kind": "chat", "session_id": "s", **task})
        self.journal = journal
        self.conversation = conversation or MemoryConversation([])
        self.deltas: list[tuple[str, bool]] = []

    def delta(self, content: str, *, reset: bool = False) -> None:
        self.deltas.append((content, reset))

    async def progress(self, value: Any) -> None:
        raise AssertionError("no turn reports progress")


@dataclass
class World:
    """What happened outside, and what the tools are today. It outlives every life."""

    effects: dict[str, Effect]
    done: list[tuple[str, str]] = field(default_factory=list)
    """(call, effect key) of each effect, in order."""
    denied: set[str] = field(default_factory=set)
    blind: set[str] = field(default_factory=set)
    """Tools whose probe cannot tell."""
    probed: list[str] = field(default_factory=list)

    def times(self, name: str) -> int:
        return sum(1 for call, _ in self.done if call == name)


class MemoryToolbox:
    """Fits the port Toolbox. A tool's name is its effect class and a letter: `unsafe_a`. It asserts that the journal
    says `running` before an effect begins."""

    def __init__(self, world: World, journal: MemoryJournal) -> None:
        self.world = world
        self.journal = journal
        self.trace: list[str] = []
        self.now: set[str] = set()
        self.began: asyncio.Queue[str] = asyncio.Queue()
        self.most = 0
        self.hold: Callable[[str], asyncio.Event | None] = lambda name: None
        self.answers: dict[str, ToolOutput] = {}
        self.shown: tuple[ToolSpec, ...] = ()

    def specs(self, agent: Agent) -> tuple[ToolSpec, ...]:
        return self.shown

    async def prepare(self, call: ToolCall, context: CallContext) -> Ready | Refused:
        self._alive()
        if call.name in self.world.denied:
            return Refused(ToolOutput("denied by policy: no rule", True, code="POLICY_DENIED"))
        effect = self.world.effects[call.name]
        return Ready(call.name, call.arguments, effect, context)

    async def evidence(self, ready: Ready) -> Any:
        self._alive()
        return {"before": self.world.times(ready.name)} if ready.effect is Effect.VERIFIABLE else None

    async def probe(self, ready: Ready, evidence: Any) -> Probe:
        self._alive()
        self.world.probed.append(ready.name)
        if ready.name in self.world.blind:
            return CannotTell("nobody looked")
        if self.world.times(ready.name) > evidence["before"]:
            return Happened(_output(ready))
        return DidNotHappen()

    async def run(self, ready: Ready) -> ToolOutput:
        key = ready.context.effect_key
        step = next(
            step for name, step in self.journal.durable.items() if name.partition("~")[0] == key and is_open(step)
        )
        assert step.state is StepState.RUNNING, "an effect began before its step was marked running"
        async with self._inside(ready.name):
            self.journal.life.tick(f"run {ready.name}")
            self.world.done.append((ready.name, key))
            self.journal.life.tick(f"ran {ready.name}")
            held = self.hold(ready.name)
            await (held.wait() if held else asyncio.sleep(0))
        return self.answers.get(ready.name, _output(ready))

    @asynccontextmanager
    async def _inside(self, name: str) -> AsyncIterator[None]:
        self.trace.append(f"+{name}")
        self.now.add(name)
        self.began.put_nowait(name)
        self.most = max(self.most, len(self.now))
        try:
            yield
        finally:
            self.now.discard(name)
            self.trace.append(f"-{name}")

    def _alive(self) -> None:
        if self.journal.life.over:
            raise Killed


def is_open(step: Step) -> bool:
    return step.state in OPEN


def _output(ready: Ready) -> ToolOutput:
    return ToolOutput(f"{ready.name} did it", data={"name": ready.name})
