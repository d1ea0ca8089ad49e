"""Tool calls through the journal: intents before effects, and the judgement of what a crash left behind.

A batch of calls commits all its intents at once. Neighbouring pure calls run side by side; anything else runs alone, in
order, marked running in the commit of the outcome before it. After an interruption only a step found `running` is
judged: pure and idempotent calls run again under the same key, verifiable ones are probed, unsafe ones end as unknown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from goclaw.core.canonical import digest
from goclaw.core.chat import ToolCall
from goclaw.core.ports import Attempt, Toolbox
from goclaw.core.step import ENDED, Effect, End, Intend, JournalEntry, Start, Step, StepState, effect_key, open_key
from goclaw.core.task import CALL_KINDS
from goclaw.core.tool import CallContext, CannotTell, Happened, Ready, Refused, ToolOutput, output_from_json

UNKNOWN_TEXT = (
    "The outcome of this call is unknown: goclaw was interrupted after it had begun, and it is not safe to repeat. "
    "It may or may not have taken effect. Look at the state of things before you go on; do not simply call it again."
)


@dataclass(frozen=True, slots=True)
class Finished:
    """How one call of a batch ended."""

    output: ToolOutput
    state: StepState


@dataclass(slots=True)
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
        `retry_failed` a call whose last try failed runs again, under the same effect key, as a new step.
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
        task = self._attempt.task
        effect = effect_key(task.id, batch, index, call.name, call.arguments)
        key = open_key(effect, self._attempt.journal.steps) if retry_failed else effect
        step = self._attempt.journal.steps.get(key)
        if step is not None and step.state in ENDED:
            return _Slot(call, key, None, step, Finished(_recorded(step), step.state))
        context = CallContext(
            task_id=task.id,
            session_id=task.session_id,
            agent_id=task.agent_id,
            attempt=task.attempt,
            effect_key=effect,
            policy_version=task.policy_version,
            timeout_ms=task.timeout_ms,
            direct=task.kind in CALL_KINDS,
        )
        prepared = await self._toolbox.prepare(call, context)
        slot = _Slot(call, key, prepared if isinstance(prepared, Ready) else None, step)
        if isinstance(prepared, Refused):
            slot.finished = Finished(prepared.output, StepState.FAILED)
        if step is not None and step.state is StepState.RUNNING:
            await self._judge(slot, step)
        return slot

    async def _judge(self, slot: _Slot, step: Step) -> None:
        """The step was running when the last attempt ended."""
        if step.effect is Effect.UNSAFE:
            slot.finished = _unknown()
        elif step.effect is Effect.VERIFIABLE and slot.ready is not None:
            match await self._toolbox.probe(slot.ready, step.evidence):
                case Happened(output):
                    slot.finished = Finished(output, StepState.DONE)
                case CannotTell(reason):
                    slot.finished = _unknown(reason)

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
        """Marks for those of a later group, and for recorded ones that had not begun."""
        steps = self._attempt.journal.steps
        entries: list[JournalEntry] = []
        for slot in slots:
            recorded = steps.get(slot.key)
            if recorded is not None and slot.ready is not None:
                entries.append(Start(slot.key, await self._toolbox.evidence(slot.ready)))
        return entries

    async def _run_group(self, slots: Sequence[_Slot]) -> list[JournalEntry]:
        """Run side by side; each outcome is committed as it comes, the last one is handed on."""
        if len(slots) == 1:
            return [await self._run(slots[0])]
        pending: list[JournalEntry] = []
        async with asyncio.TaskGroup() as group:
            for running in asyncio.as_completed([group.create_task(self._run(slot)) for slot in slots]):
                if pending:
                    await self._attempt.journal.commit(pending)
                pending = [await running]
        return pending

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


def _unknown(reason: str = "") -> Finished:
    text = f"{UNKNOWN_TEXT} ({reason})" if reason else UNKNOWN_TEXT
    return Finished(ToolOutput(text, is_error=True, code="OUTCOME_UNKNOWN"), StepState.UNKNOWN)
