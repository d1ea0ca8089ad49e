"""Tool calls through the journal: intents before effects, and the judgement of what a crash left behind.

A batch of calls commits all its intents at once. Neighbouring pure calls run side by side; anything else runs alone, in
order, marked running in the commit of the outcome before it. After an interruption only a step found `running` is
judged: pure and idempotent calls run again under the same key, verifiable ones are probed, all others end as unknown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from goclaw.core.canonical import digest
from goclaw.core.chat import ToolCall
from goclaw.core.ports import Attempt, Toolbox
from goclaw.core.step import ENDED, Effect, End, Intend, JournalEntry, Start, Step, StepState, effect_key, open_key
from goclaw.core.task import CALL_KINDS
from goclaw.core.tool import CallContext, CannotTell, Happened, Ready, Refused, ToolOutput, output_from_json

AT_ONCE = 8
"""How many pure calls of one turn run side by side."""

# Part of prompts that are made again after a crash: another wording would no longer match what is recorded.
UNKNOWN_TEXT = (
    "The outcome of this call is unknown: goclaw was interrupted after it had begun, and it is not safe to repeat. "
    "It may or may not have taken effect. Look at the state of things before you go on; do not simply call it again."
)
_REPEATABLE = frozenset({Effect.PURE, Effect.IDEMPOTENT})


@dataclass(frozen=True, slots=True)
class Finished:
    """How one call of a batch ended."""

    output: ToolOutput
    state: StepState


@dataclass(slots=True, eq=False)
class _Slot:
    """One call on its way: what the journal knows of it, and whether it may still run."""

    call: ToolCall
    key: str
    ready: Ready | None
    step: Step | None
    finished: Finished | None = None

    @property
    def parallel(self) -> bool:
        return self.ready is not None and self.ready.effect is Effect.PURE


class Calls:
    """The calls of one attempt."""

    def __init__(self, attempt: Attempt, toolbox: Toolbox) -> None:
        self._attempt = attempt
        self._toolbox = toolbox
        self._places = asyncio.Semaphore(AT_ONCE)

    async def perform(
        self,
        calls: Sequence[ToolCall],
        batch: str,
        lead: Sequence[JournalEntry] = (),
        *,
        retry_failed: bool = False,
    ) -> tuple[list[Finished], list[JournalEntry]]:
        """Carry out a batch. `lead` is committed with its intents.

        Returns how each call ended and the last entries, which the caller commits with whatever comes next. With
        `retry_failed` a call whose last try failed runs again, under the same effect key, as a new step. Raises what
        a commit raises; nothing of the batch is running then.
        """
        slots = [await self._slot(index, call, batch, retry_failed) for index, call in enumerate(calls)]
        groups = [list(group) for _, group in groupby(slots, key=_Neighbours())]
        entries = [*lead, *await self._intents(slots, groups)]
        for group in groups:
            open_slots = [slot for slot in group if slot.finished is None]
            if not open_slots:
                continue
            await self._attempt.journal.commit([*entries, *await self._starts(open_slots)])
            entries = await self._run_group(open_slots)
        return [slot.finished for slot in slots if slot.finished is not None], entries

    async def _slot(self, index: int, call: ToolCall, batch: str, retry_failed: bool) -> _Slot:
        effect = effect_key(self._attempt.task.id, batch, index, call.name, call.arguments)
        key = open_key(effect, self._attempt.journal.steps) if retry_failed else effect
        step = self._attempt.journal.steps.get(key)
        if step is not None and step.state in ENDED:
            return _Slot(call, key, None, step, Finished(_recorded(step), step.state))
        prepared = await self._toolbox.prepare(call, self._context(effect))
        slot = _Slot(call, key, prepared if isinstance(prepared, Ready) else None, step)
        if isinstance(prepared, Refused):
            slot.finished = Finished(prepared.output, StepState.FAILED)
        if step is not None and step.state is StepState.RUNNING:
            slot.finished = await self._judge(slot, step)
        return slot

    def _context(self, effect: str) -> CallContext:
        task = self._attempt.task
        declared = task.payload.get("effect") if task.kind == "skill" else None
        return CallContext(
            task_id=task.id,
            session_id=task.session_id,
            agent_id=task.agent_id,
            attempt=task.attempt,
            effect_key=effect,
            policy_version=task.policy_version,
            timeout_ms=task.timeout_ms,
            direct=task.kind in CALL_KINDS,
            declared=Effect(declared) if declared else None,
        )

    async def _judge(self, slot: _Slot, step: Step) -> Finished | None:
        """How a step ended that was running when the last attempt ended; None: it is to run (again).

        Both what it was recorded as and what it is today must allow a repetition or a probe.
        """
        if slot.ready is None:
            refusal = slot.finished
            return _begun_and_refused(refusal, step) if refusal else _unknown()
        classes = {step.effect, slot.ready.effect}
        if classes <= _REPEATABLE:
            return None
        if classes != {Effect.VERIFIABLE}:
            return _unknown()
        match await self._toolbox.probe(slot.ready, step.evidence):
            case Happened(output):
                return Finished(output, StepState.DONE)
            case CannotTell(reason):
                return _unknown(reason)
        return None

    async def _intents(self, slots: Sequence[_Slot], groups: Sequence[Sequence[_Slot]]) -> list[JournalEntry]:
        """Record what is new, and at once what needs no running."""
        first = next((group for group in groups if any(slot.finished is None for slot in group)), [])
        entries: list[JournalEntry] = []
        for slot in slots:
            if slot.step is None:
                starts = slot in first and slot.finished is None
                entries.append(await self._intend(slot, starts))
            if slot.finished is not None and (slot.step is None or slot.step.state not in ENDED):
                entries.append(End(slot.key, slot.finished.state, slot.finished.output.as_json()))
        return entries

    async def _intend(self, slot: _Slot, starts: bool) -> Intend:
        ready = slot.ready
        arguments: Mapping[str, Any] = slot.call.arguments
        request = {"tool": slot.call.name, "arguments": arguments}
        return Intend(
            key=slot.key,
            kind="tool",
            request=request,
            request_hash=digest(request),
            tool=slot.call.name,
            effect=ready.effect if ready else None,
            running=starts,
            evidence=await self._toolbox.evidence(ready) if ready and starts else None,
        )

    async def _starts(self, slots: Sequence[_Slot]) -> list[JournalEntry]:
        """Marks for those of a later group, and for recorded ones that had not begun or run again."""
        steps = self._attempt.journal.steps
        return [
            Start(slot.key, await self._toolbox.evidence(slot.ready), slot.ready.effect)
            for slot in slots
            if slot.key in steps and slot.ready is not None
        ]

    async def _run_group(self, slots: Sequence[_Slot]) -> list[JournalEntry]:
        """Run side by side; each outcome is committed as it comes, the last one is handed on."""
        if len(slots) == 1:
            return [await self._run(slots[0])]
        ended: asyncio.Queue[JournalEntry] = asyncio.Queue()

        async def run(slot: _Slot) -> None:
            async with self._places:
                entry = await self._run(slot)
            ended.put_nowait(entry)

        try:
            async with asyncio.TaskGroup() as group:
                for slot in slots:
                    group.create_task(run(slot))
                last = await ended.get()
                for _ in slots[1:]:
                    await self._attempt.journal.commit([last])
                    last = await ended.get()
        except ExceptionGroup as errors:
            # A commit that failed has ended them all; who waits knows that error, not a group of one.
            raise errors.exceptions[0] from None
        return [last]

    async def _run(self, slot: _Slot) -> JournalEntry:
        assert slot.ready is not None  # noqa: S101 (a slot without a ready call is finished from the start)
        output = await self._toolbox.run(slot.ready)
        if output.code == "OUTCOME_UNKNOWN":
            slot.finished = Finished(output, StepState.UNKNOWN)
        else:
            slot.finished = Finished(output, StepState.FAILED if output.is_error else StepState.DONE)
        return End(slot.key, slot.finished.state, output.as_json())


class _Neighbours:
    """A grouping key: the same for neighbouring parallel slots, a new one for every other slot."""

    def __init__(self) -> None:
        self._group = 0
        self._parallel = False

    def __call__(self, slot: _Slot) -> int:
        if not (slot.parallel and self._parallel):
            self._group += 1
        self._parallel = slot.parallel
        return self._group


def _recorded(step: Step) -> ToolOutput:
    if step.result is not None:
        return output_from_json(step.result)
    return _unknown().output


def _begun_and_refused(refusal: Finished, step: Step) -> Finished:
    """A refusal now says nothing about what the call did before the interruption."""
    if step.effect not in _REPEATABLE:
        return _unknown(f"it can no longer be looked up: {refusal.output.text}")
    if step.effect is Effect.PURE:
        return refusal
    text = f"{refusal.output.text} (it had begun before an interruption and may have taken effect then)"
    return Finished(replace(refusal.output, text=text), refusal.state)


def _unknown(reason: str = "") -> Finished:
    text = f"{UNKNOWN_TEXT} ({reason})" if reason else UNKNOWN_TEXT
    return Finished(ToolOutput(text, is_error=True, code="OUTCOME_UNKNOWN"), StepState.UNKNOWN)
