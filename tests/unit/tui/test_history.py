"""The turns of a session as its history tells them."""

from __future__ import annotations

from typing import Any

import pytest

from goclaw.tui.history import turns_of
from goclaw.tui.turn import Called, TurnState, parts


def item(number: int, role: str, text: str = "", task: str | None = "t1", content: Any = ()) -> dict[str, Any]:
    return {"id": number, "role": role, "text": text, "task_id": task, "content": list(content)}


def task(name: str, state: str, created: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "state": state,
        "payload": {"content": f"of {name}"},
        "created_at": created,
        "updated_at": 7,
    } | more


@pytest.mark.spec("GC-TUI-009")
def test_a_turn_has_its_prompt_its_words_and_its_calls_with_what_they_gave() -> None:
    call = {"type": "tool_call", "id": "c0", "name": "read_file", "arguments": {"file_path": "a"}}
    refused = {"type": "tool_call", "id": "c1", "name": "exec", "arguments": {}}
    lost = {"type": "tool_call", "id": "c2", "name": "exec", "arguments": {}}
    results = [
        {"type": "tool_result", "call_id": "c1", "text": "denied by policy: no", "is_error": True},
        {"type": "tool_result", "call_id": "c0", "text": "hello", "is_error": False},
        {
            "type": "tool_result",
            "call_id": "c2",
            "text": "The outcome of this call is unknown: x",
            "is_error": True,
        },
    ]
    items = [
        item(1, "user", "look"),
        item(2, "assistant", "I look.", content=[call, refused, lost]),
        item(3, "tool", content=results),
        item(4, "assistant", "Done."),
    ]
    (turn,) = turns_of(items, [task("t1", "SUCCEEDED", result={"model": "m"})])
    assert (turn.prompt, turn.state, turn.model) == ("look", TurnState.DONE, "m")
    said, read, denied, unknown, done = parts(turn)
    assert [read.step.state, denied.step.state, unknown.step.state] == ["done", "failed", "unknown"]  # type: ignore[union-attr]
    assert isinstance(read, Called)
    assert (read.step.text, read.step.arguments) == ("hello", {"file_path": "a"})
    assert isinstance(denied, Called)
    assert denied.step.denied
    assert [said.text, done.text] == ["I look.", "Done."]  # type: ignore[union-attr]


def test_turns_stand_in_the_order_of_their_prompts() -> None:
    items = [
        item(1, "user", "a"),
        item(2, "user", "b", "t2"),
        item(3, "assistant", "to a"),
        item(4, "assistant", "to b", "t2"),
    ]
    turns = turns_of(items, [task("t1", "SUCCEEDED"), task("t2", "SUCCEEDED")])
    assert [(turn.prompt, parts(turn)[0].text) for turn in turns] == [("a", "to a"), ("b", "to b")]  # type: ignore[union-attr]


def test_what_failed_says_why_and_what_is_open_is_open() -> None:
    items = [item(1, "user", "a"), item(2, "user", "b", "t2")]
    failed = task("t1", "FAILED", error="no model", error_code="NO_PROVIDER")
    first, second = turns_of(items, [task("t2", "RUNNING"), failed])
    assert (first.state, first.note, first.code) == (TurnState.FAILED, "no model", "NO_PROVIDER")
    assert second.state is TurnState.RUNNING


def test_an_open_task_outside_the_page_is_shown_and_an_ended_one_is_not() -> None:
    turns = turns_of([], [task("t3", "QUEUED", 3), task("t2", "RUNNING", 2), task("t1", "SUCCEEDED", 1)])
    assert [(turn.key, turn.prompt, turn.state) for turn in turns] == [
        ("t2", "of t2", TurnState.RUNNING),
        ("t3", "of t3", TurnState.QUEUED),
    ]


def test_a_turn_cut_off_by_the_page_and_messages_of_no_task_are_shown_as_they_are() -> None:
    cut, free = turns_of([item(5, "assistant", "tail"), item(6, "user", "free", None)], [])
    assert (cut.prompt, cut.state) == ("", TurnState.DONE)
    assert (free.key, free.prompt) == ("message-6", "free")
