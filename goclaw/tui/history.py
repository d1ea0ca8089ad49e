"""The turns of a session as its history tells them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from goclaw.tui.turn import Step, Turn, TurnState, with_task

_DENIED = "denied by policy"
_UNKNOWN = "The outcome of this call is unknown"


def turns_of(items: Sequence[Mapping[str, Any]], tasks: Sequence[Mapping[str, Any]], plain: bool = False) -> list[Turn]:
    """The turns, oldest first: `items` as session.history gives them, `tasks` the session's turns as tasks.

    A task that is no turn of `items` counts only while it is not over. A turn whose task is not told has
    ended well.
    """
    turns: dict[str, Turn] = {}
    results: dict[str, Mapping[str, Mapping[str, Any]]] = {}
    for item in items:
        key = str(item.get("task_id") or f"message-{item['id']}")
        if key not in turns:
            turns[key] = _turn(key, TurnState.DONE, item.get("task_id"), plain)
            results[key] = {}
        if item["role"] == "tool":
            results[key] = {**results[key], **_results(item)}
        else:
            turns[key] = _with_item(turns[key], item)
    told = [_with_results(turn, results[key]) for key, turn in turns.items()]
    return _with_tasks(told, tasks, plain)


def _with_tasks(turns: Sequence[Turn], tasks: Sequence[Mapping[str, Any]], plain: bool) -> list[Turn]:
    known = {str(task["id"]): task for task in tasks}
    merged = [with_task(turn, task) if (task := known.pop(turn.key, None)) else turn for turn in turns]
    oldest_first = sorted(known.values(), key=lambda task: int(task["created_at"]))
    extra = [with_task(_turn(str(task["id"]), TurnState.QUEUED, None, plain), task) for task in oldest_first]
    return [*merged, *(turn for turn in extra if not turn.ended)]


def _turn(key: str, state: TurnState, task_id: str | None, plain: bool) -> Turn:
    return Turn(key=key, prompt="", state=state, task_id=task_id, plain=plain)


def _with_item(turn: Turn, item: Mapping[str, Any]) -> Turn:
    if item["role"] == "user":
        return replace(turn, prompt=turn.prompt or str(item.get("text") or ""))
    steps = list(turn.steps)
    if item["role"] == "assistant":
        text = str(item.get("text") or "")
        steps.append(_step(len(steps), "llm", f"said:{item['id']}", text=text, plain=turn.plain))
        for block in item.get("content") or []:
            if block.get("type") == "tool_call":
                call = _step(len(steps), "tool", str(block["id"]), tool=str(block["name"]))
                steps.append(replace(call, arguments=block.get("arguments") or {}))
    return replace(turn, steps=tuple(steps))


def _step(seq: int, kind: str, key: str, tool: str = "", text: str = "", plain: bool = False) -> Step:
    return Step(key=key, seq=seq, kind=kind, state="done", tool=tool, text=text, plain=plain, told=True)


def _results(item: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    blocks = item.get("content") or []
    return {str(block["call_id"]): block for block in blocks if block.get("type") == "tool_result"}


def _with_results(turn: Turn, results: Mapping[str, Mapping[str, Any]]) -> Turn:
    """Calls with what came of them: a history holds the words that the model was told, and no more."""
    steps = []
    for step in turn.steps:
        result = results.get(step.key) if step.kind == "tool" else None
        if result is not None:
            text = str(result.get("text") or "")
            failed = bool(result.get("is_error"))
            state = "unknown" if text.startswith(_UNKNOWN) else "failed" if failed else "done"
            step = replace(step, text=text, state=state, denied=failed and text.startswith(_DENIED))
        steps.append(step)
    return replace(turn, steps=tuple(steps))
