"""A turn as the screen knows it, and what each event, delta and journal page makes of it. Pure.

Events say what happened, `task.steps` says what it was: an event moves a step at once, the journal fills in
its words. Both may come twice and late; the newest word wins, so whatever was missed, the journal makes it
whole again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from goclaw.core.event import Delta, Event

DENIED = "POLICY_DENIED"
OFFLINE = "offline"
_RANKS = {"intended": 0, "running": 1}
_ENDED = 2


class TurnState(StrEnum):
    """Where a turn stands, in a word for people."""

    SENDING = "sending"
    """Typed here; the daemon has not acknowledged it yet."""
    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    """It failed and is tried again later."""
    DONE = "done"
    FAILED = "failed"
    CANCELED = "canceled"


ENDED = frozenset({TurnState.DONE, TurnState.FAILED, TurnState.CANCELED})
STATES: Mapping[str, TurnState] = {
    "QUEUED": TurnState.QUEUED,
    "CLAIMED": TurnState.QUEUED,
    "RUNNING": TurnState.RUNNING,
    "RETRY_WAIT": TurnState.WAITING,
    "SUCCEEDED": TurnState.DONE,
    "FAILED": TurnState.FAILED,
    "DEAD_LETTER": TurnState.FAILED,
    "CANCELED": TurnState.CANCELED,
}
"""What a task state is called on screen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a turn: an answer of the model (`llm`) or a call of a tool (`tool`).

    `text` is what the model said or what the call gave. `told` says that the journal has told it.
    """

    key: str
    seq: int
    kind: str
    state: str
    tool: str = ""
    text: str = ""
    arguments: Mapping[str, Any] | None = None
    denied: bool = False
    plain: bool = False
    told: bool = False

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self.state not in _RANKS


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One message to an agent and what became of it.

    `key` names it on screen for good; `task_id` is known once the daemon has it. `live` is what is being said
    and not yet in the journal, `seq` the number of its last delta. `since` (wall clock) is when `state`
    began. `note` says why it waits or failed, `code` is the stable word of that. `plain`: the answer is no
    Markdown.
    """

    key: str
    prompt: str
    state: TurnState
    task_id: str | None = None
    steps: tuple[Step, ...] = ()
    live: str = ""
    seq: int = 0
    since: int | None = None
    note: str = ""
    code: str = ""
    model: str = ""
    plain: bool = False

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self.state in ENDED

    @property
    def untold(self) -> bool:
        """Whether the journal knows words that the screen does not have."""
        return any(step.ended and not step.told for step in self.steps)


@dataclass(frozen=True, slots=True)
class Said:
    """A part of a turn: words of the model."""

    key: str
    text: str
    plain: bool
    final: bool


@dataclass(frozen=True, slots=True)
class Called:
    """A part of a turn: a tool call."""

    key: str
    step: Step


def parts(turn: Turn) -> tuple[Said | Called, ...]:
    """What a turn shows, in the order of its journal; what is being said stands last. Keys stay the same."""
    shown: list[Said | Called] = []
    said, live = 0, turn.live if turn.live.strip() else ""
    for step in turn.steps:
        if step.kind == "tool":
            shown.append(Called(f"call-{step.key}", step))
        elif step.text.strip():
            shown.append(Said(f"said-{said}", step.text, step.plain, True))
            said += 1
        elif live and step.ended and not step.told:  # these are its words; the journal will tell them
            shown.append(Said(f"said-{said}", live, turn.plain, turn.ended))
            said, live = said + 1, ""
    if live:
        shown.append(Said(f"said-{said}", live, turn.plain, turn.ended))
    return tuple(shown)


def on_event(turn: Turn, event: Event) -> Turn:
    """`turn` after an event of its task."""
    if event.event_type.startswith("step."):
        return _on_step(turn, event)
    if event.event_type == "provider.failed" and not turn.ended:
        told = event.payload
        return replace(turn, note=f"{told.get('provider')}: {told.get('error') or told.get('error_code')}")
    state = STATES.get(event.state_to or "")
    return turn if state is None else _moved(turn, event, state)


def on_delta(turn: Turn, delta: Delta) -> Turn:
    """`turn` with one more piece of its answer.

    Numbers begin again with every attempt, so one that was seen before voids what an attempt before it said.
    A hole in the numbers shows as an ellipsis until the journal tells the whole.
    """
    if turn.ended:
        return turn
    again = delta.seq <= turn.seq
    live = "" if again or delta.reset else turn.live
    before = 0 if again else turn.seq
    if delta.seq > before + 1 and not delta.reset:
        live += "\u2026 "
    return replace(turn, live=live + delta.content, seq=delta.seq)


def with_journal(turn: Turn, journal: Sequence[Mapping[str, Any]]) -> Turn:
    """`turn` with the words of its journal (`steps` as `task.steps` gives them)."""
    known = {step.key: step for step in turn.steps}
    calls: list[Mapping[str, Any]] = []
    steps: list[Step] = []
    live, model = turn.live, turn.model
    for told in sorted(journal, key=lambda one: int(one["seq"])):
        before = known.pop(told["key"], None)
        if told["kind"] == "llm":
            step = _said(told)
            calls = _calls(told)
            model = str((told.get("result") or {}).get("model") or model)
            if step.told and step.state == "done" and not (before and before.told):
                live = _after(live, step.text)
            steps.append(_newer(step, before))
        elif told["kind"] == "tool":
            call = calls.pop(0) if calls else {}
            steps.append(_newer(_called(told, call.get("arguments")), before))
    last = steps[-1].seq if steps else 0
    steps += [step for step in known.values() if step.seq > last]  # began after this page was read
    steps.sort(key=lambda one: one.seq)
    if turn.state is TurnState.DONE and not any(step.ended and not step.told for step in steps):
        live = ""
    return replace(turn, steps=tuple(steps), live=live, model=model)


def with_task(turn: Turn, task: Mapping[str, Any]) -> Turn:
    """`turn` as its task stands."""
    state = STATES[str(task["state"])]
    result = task.get("result")
    model = result.get("model") if isinstance(result, Mapping) else None
    failed = state in (TurnState.FAILED, TurnState.CANCELED)
    return replace(
        turn,
        task_id=str(task["id"]),
        state=state,
        prompt=turn.prompt or str(task["payload"].get("content") or ""),
        since=int(task["updated_at"]),
        note=str(task.get("error") or "") if failed or state is TurnState.WAITING else "",
        code=str(task.get("error_code") or "") if failed else "",
        model=str(model or turn.model),
    )


def _moved(turn: Turn, event: Event, state: TurnState) -> Turn:
    told = event.payload
    moved = replace(turn, state=state, since=event.created_at, code="")
    match state:
        case TurnState.RUNNING:
            return moved  # a note that it was taken up again stays readable while it runs
        case TurnState.QUEUED if event.event_type == "task.claimed":
            return replace(moved, since=turn.since)
        case TurnState.QUEUED:
            again = event.event_type in ("task.recovered", "task.lease_lost")
            note = "taken up again where it was when the daemon stopped" if again else ""
            return replace(moved, live="", note=note)
        case TurnState.WAITING:
            return replace(moved, live="", note=str(told.get("error") or told.get("wait_reason") or ""))
        case TurnState.FAILED | TurnState.CANCELED:
            why = told.get("error") or told.get("reason") or turn.note
            return replace(moved, note=str(why), code=str(told.get("error_code") or ""))
    return replace(moved, note="")


def _on_step(turn: Turn, event: Event) -> Turn:
    told = event.payload
    if told.get("kind") not in ("llm", "tool") or (turn.ended and not told.get("resolved")):
        return turn  # an ended turn was read whole
    state = event.event_type.removeprefix("step.")
    key = str(told["key"])
    known = {step.key: step for step in turn.steps}
    step = known.get(key) or Step(
        key=key, seq=int(told["seq"]), kind=str(told["kind"]), state=state, tool=str(told.get("tool") or "")
    )
    back = _RANKS.get(state, _ENDED) < _RANKS.get(step.state, _ENDED)
    if back and not told.get("resolved"):
        return turn  # an event from before the page that told more
    told_already = step.told and state == step.state
    known[key] = replace(step, state=state, told=told_already)
    void = step.kind == "llm" and state == "failed" and not told_already
    steps = tuple(sorted(known.values(), key=lambda one: one.seq))
    return replace(turn, steps=steps, live="" if void else turn.live)


def _said(told: Mapping[str, Any]) -> Step:
    result = told.get("result") or {}
    blocks = result.get("blocks") or []
    return Step(
        key=str(told["key"]),
        seq=int(told["seq"]),
        kind="llm",
        state=str(told["state"]),
        text="".join(str(block["text"]) for block in blocks if block.get("type") == "text"),
        plain=result.get("provider") == OFFLINE,
        told=str(told["state"]) not in _RANKS,
    )


def _calls(told: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    blocks = (told.get("result") or {}).get("blocks") or []
    return [block for block in blocks if block.get("type") == "tool_call"]


def _called(told: Mapping[str, Any], arguments: Mapping[str, Any] | None) -> Step:
    result = told.get("result") or {}
    return Step(
        key=str(told["key"]),
        seq=int(told["seq"]),
        kind="tool",
        state=str(told["state"]),
        tool=str(told.get("tool") or ""),
        text=str(result.get("text") or ""),
        arguments=arguments,
        denied=result.get("code") == DENIED,
        told=str(told["state"]) not in _RANKS,
    )


def _newer(step: Step, before: Step | None) -> Step:
    """`step`, ended where an event said so after the journal was read; its words come with the next page."""
    if before is None or step.ended or not before.ended:
        return step
    return replace(step, state=before.state)


def _after(live: str, text: str) -> str:
    """What of `live` comes after `text`, which the journal has; nothing where the two do not fit together."""
    return live[len(text) :] if live.startswith(text) else ""
