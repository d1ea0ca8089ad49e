"""What events, deltas and journal pages make of a turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from goclaw.core.event import Delta, Event
from goclaw.tui.turn import Called, Said, Turn, TurnState, on_delta, on_event, parts, with_journal, with_task

BEGUN = Turn(key="k", prompt="hi", state=TurnState.QUEUED, task_id="t")


def event(event_type: str, to: str | None = None, /, at: int = 5, **payload: Any) -> Event:
    return Event(
        event_id=1,
        event_type=event_type,
        task_id="t",
        session_id="s",
        state_from=None,
        state_to=to,
        run_id=None,
        trace_id=None,
        payload=payload,
        created_at=at,
    )


def delta(seq: int, content: str, reset: bool = False) -> Delta:
    return Delta(task_id="t", session_id="s", seq=seq, content=content, reset=reset)


def llm(seq: int, text: str, *calls: str, state: str = "done", provider: str = "mock") -> dict[str, Any]:
    blocks = [{"type": "text", "text": text}]
    blocks += [{"type": "tool_call", "name": name, "arguments": {"of": name}} for name in calls]  # type: ignore[dict-item]
    result = {"blocks": blocks, "provider": provider, "model": "m1"} if state == "done" else None
    return {"key": f"llm:{seq}", "seq": seq, "kind": "llm", "state": state, "result": result}


def tool(seq: int, name: str, state: str = "done", text: str = "out", code: str | None = None) -> dict[str, Any]:
    result = None if state == "running" else {"text": text, "code": code}
    return {"key": f"tool:{seq}", "seq": seq, "kind": "tool", "state": state, "tool": name, "result": result}


def step(kind: str, told: dict[str, Any]) -> Event:
    return event(f"step.{kind}", key=told["key"], seq=told["seq"], kind=told["kind"], tool=told.get("tool"))


def after(turn: Turn, *happened: Event | Delta | Sequence[dict[str, Any]]) -> Turn:
    for one in happened:
        if isinstance(one, Event):
            turn = on_event(turn, one)
        elif isinstance(one, Delta):
            turn = on_delta(turn, one)
        else:
            turn = with_journal(turn, one)
    return turn


def shown(turn: Turn) -> list[str]:
    return [part.text if isinstance(part, Said) else f"<{part.step.tool} {part.step.state}>" for part in parts(turn)]


RUNNING = event("task.running", "RUNNING")


@pytest.mark.spec("GC-TUI-001")
def test_words_and_calls_stand_in_the_order_of_the_journal() -> None:
    first, call, second = llm(1, "A", "look"), tool(2, "look"), llm(3, "B")
    turn = after(BEGUN, RUNNING, step("running", first), delta(1, "A"), step("done", first))
    assert shown(turn) == ["A"]
    turn = after(turn, step("running", call))
    assert shown(turn) == ["A", "<look running>"]
    turn = after(turn, [first, call | {"state": "running", "result": None}], step("done", call), delta(2, "B"))
    assert shown(turn) == ["A", "<look done>", "B"]
    turn = after(turn, step("done", second), event("task.succeeded", "SUCCEEDED"), [first, call, second])
    assert shown(turn) == ["A", "<look done>", "B"]
    assert turn.live == ""
    assert not turn.untold
    assert turn.model == "m1"


def test_the_blocks_of_a_turn_keep_their_keys_while_it_grows() -> None:
    first, call = llm(1, "A", "look"), tool(2, "look", "running")
    live = after(BEGUN, RUNNING, delta(1, "A"))
    told = after(live, step("done", first), step("running", call), [first, call], delta(2, "B"))
    keys = [part.key for part in parts(told)]
    assert [part.key for part in parts(live)] == keys[:1]
    assert len(set(keys)) == 3


def test_words_that_come_before_the_events_of_their_round_find_their_place() -> None:
    first, call = llm(1, "A", "look"), tool(2, "look")
    turn = after(BEGUN, RUNNING, delta(1, "A"), delta(2, "B"), step("done", first), step("done", call), [first, call])
    assert shown(turn) == ["A", "<look done>", "B"]


@pytest.mark.spec("GC-TUI-002")
def test_a_reset_voids_what_is_not_in_the_journal_and_nothing_else() -> None:
    first = llm(1, "A", "look")
    turn = after(BEGUN, RUNNING, delta(1, "A"), step("done", first), [first], delta(2, "B"), delta(3, "C", reset=True))
    assert shown(turn) == ["A", "C"]


def test_a_hole_in_the_numbers_is_shown_and_healed_by_the_journal() -> None:
    turn = after(BEGUN, RUNNING, delta(1, "one "), delta(3, "three"))
    assert shown(turn) == ["one \u2026 three"]
    told = llm(1, "one two three")
    turn = after(turn, step("done", told), event("task.succeeded", "SUCCEEDED"), [told])
    assert shown(turn) == ["one two three"]


def test_numbers_that_begin_again_void_what_the_attempt_before_had_said() -> None:
    assert shown(after(BEGUN, RUNNING, delta(1, "half"), delta(2, " of it"), delta(1, "whole"))) == ["whole"]


@pytest.mark.parametrize("kind", ["task.recovered", "task.requeued", "task.lease_lost"])
def test_an_attempt_that_is_over_takes_its_unfinished_words_with_it(kind: str) -> None:
    turn = after(BEGUN, RUNNING, delta(1, "half"), event(kind, "QUEUED"))
    assert shown(turn) == []
    assert turn.state is TurnState.QUEUED
    again = "taken up again where it was when the daemon stopped"
    assert turn.note == ("" if kind == "task.requeued" else again)
    assert after(turn, RUNNING).note == turn.note


def test_a_failed_call_of_the_model_takes_its_words_with_it() -> None:
    told = llm(1, "", state="running")
    assert shown(after(BEGUN, RUNNING, step("running", told), delta(1, "half"), step("failed", told))) == []


@pytest.mark.spec("GC-TUI-004")
def test_the_end_of_a_turn_says_why() -> None:
    failed = after(BEGUN, event("task.failed", "FAILED", error="no model", error_code="NO_PROVIDER"))
    assert (failed.state, failed.note, failed.code) == (TurnState.FAILED, "no model", "NO_PROVIDER")
    dead = after(failed, event("task.dead_letter", "DEAD_LETTER", error="no model", error_code="POISON"))
    assert (dead.state, dead.code) == (TurnState.FAILED, "POISON")
    canceled = after(BEGUN, event("task.canceled", "CANCELED", reason="by hand", error_code="CANCELED"))
    assert (canceled.state, canceled.note) == (TurnState.CANCELED, "by hand")
    waiting = after(BEGUN, event("task.retry_wait", "RETRY_WAIT", error="busy", wait_reason="backoff"))
    assert (waiting.state, waiting.note) == (TurnState.WAITING, "busy")
    assert after(waiting, event("task.requeued", "QUEUED"), RUNNING).note == ""


def test_what_was_said_before_a_cancel_stays() -> None:
    turn = after(BEGUN, RUNNING, delta(1, "half"), event("task.canceled", "CANCELED"), delta(2, " more"))
    assert shown(turn) == ["half"]


def test_time_runs_from_the_moment_it_began_to_run() -> None:
    turn = after(BEGUN, event("task.running", "RUNNING", at=70), event("task.claimed", "CLAIMED", at=99))
    assert turn.since == 70


@pytest.mark.spec("GC-TUI-003")
def test_a_denied_call_is_one_and_its_arguments_are_those_the_model_wrote() -> None:
    turn = after(BEGUN, [llm(1, "", "rm", "ls"), tool(2, "rm", "failed", "no", "POLICY_DENIED"), tool(3, "ls")])
    denied, allowed = [part.step for part in parts(turn) if isinstance(part, Called)]
    assert (denied.denied, denied.text, denied.arguments) == (True, "no", {"of": "rm"})
    assert (allowed.denied, allowed.arguments) == (False, {"of": "ls"})


@pytest.mark.spec("GC-TUI-010")
def test_events_that_come_twice_change_nothing() -> None:
    first, call, last = llm(1, "A", "look"), tool(2, "look"), llm(3, "B")
    told = [RUNNING, step("running", first), step("done", first), step("running", call), step("done", call)]
    told += [step("running", last), step("done", last), event("task.succeeded", "SUCCEEDED")]
    once = after(BEGUN, *told, [first, call, last])
    assert shown(after(once, *told, [first, call, last])) == shown(once) == ["A", "<look done>", "B"]


def test_an_event_from_before_the_page_does_not_undo_it() -> None:
    call = tool(2, "look")
    turn = after(BEGUN, RUNNING, [llm(1, "", "look"), call], step("running", call))
    assert shown(turn) == ["<look done>"]
    assert not turn.untold


def test_a_page_from_before_an_event_does_not_undo_it() -> None:
    call = tool(2, "look")
    turn = after(
        BEGUN,
        RUNNING,
        step("running", call),
        step("done", call),
        [llm(1, "", "look"), tool(2, "look", "running")],
    )
    assert shown(turn) == ["<look done>"]
    assert turn.untold, "its words come with the next page"


def test_steps_that_began_after_a_page_was_read_stay() -> None:
    turn = after(
        BEGUN,
        RUNNING,
        step("running", tool(2, "a")),
        step("running", tool(3, "b")),
        [llm(1, "", "a", "b"), tool(2, "a")],
    )
    assert shown(turn) == ["<a done>", "<b running>"]


def test_a_person_may_settle_an_unknown_call() -> None:
    call = tool(2, "pay", "unknown")
    turn = after(BEGUN, [llm(1, "", "pay"), call])
    again = event("step.intended", key="tool:2", seq=2, kind="tool", tool="pay", resolved=True)
    assert shown(after(turn, again)) == ["<pay intended>"]


def test_answers_without_a_model_are_no_markdown() -> None:
    (part,) = parts(after(BEGUN, [llm(1, "out", provider="offline")]))
    assert isinstance(part, Said)
    assert part.plain


def test_a_provider_that_fails_is_named_while_the_next_one_is_tried() -> None:
    turn = after(BEGUN, RUNNING, event("provider.failed", provider="claude", error="overloaded"))
    assert turn.note == "claude: overloaded"
    assert after(turn, event("task.succeeded", "SUCCEEDED")).note == ""


def test_a_task_as_it_stands() -> None:
    task = {"id": "t", "state": "RETRY_WAIT", "updated_at": 9, "payload": {"content": "hi"}, "error": "busy"}
    turn = with_task(Turn(key="k", prompt="", state=TurnState.QUEUED), task)
    assert (turn.prompt, turn.state, turn.note, turn.code, turn.since) == (
        "hi",
        TurnState.WAITING,
        "busy",
        "",
        9,
    )
    done = with_task(turn, task | {"state": "SUCCEEDED", "result": {"model": "m2"}})
    assert (done.state, done.note, done.model) == (TurnState.DONE, "", "m2")
