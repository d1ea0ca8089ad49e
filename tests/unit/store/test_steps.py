"""The journal: steps move one way, and each move is told."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from goclaw.core.canonical import digest
from goclaw.core.step import Effect, End, Intend, JournalEntry, Start, StepState
from goclaw.errors import JournalMismatch
from goclaw.kernel import claiming, submission
from goclaw.kernel.claiming import Claimed
from goclaw.store import events, steps
from tests.fakes_clock import START
from tests.scratch import BOUNDS, HOLDER, at, commit, noop, scratch


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    conn = scratch(tmp_path / "d.db")
    yield conn
    conn.close()


@pytest.fixture
def claimed(conn: sqlite3.Connection) -> Claimed:
    commit(conn, submission.submit, noop(), "task", BOUNDS, START)
    (claimed,) = commit(conn, claiming.claim, "default", 1, HOLDER, at())
    return claimed


def intend(key: str, *, effect: Effect = Effect.UNSAFE, **fields: Any) -> Intend:
    fields = {"kind": "tool", "tool": "exec", "request": {"argv": [key]}, "request_hash": f"hash {key}"} | fields
    return Intend(key=key, effect=effect, **fields)


def llm(key: str) -> list[JournalEntry]:
    step = Intend(key=key, kind="llm", request={}, request_hash="h", running=True)
    return [step, End(key, StepState.DONE, {"text": "ok"})]


def write(conn: sqlite3.Connection, claimed: Claimed, *entries: JournalEntry) -> None:
    commit(conn, steps.write, claimed.task, claimed.stored.session_key, entries, START + 1)


def states(conn: sqlite3.Connection) -> dict[str, str]:
    return {key: step.state.value for key, step in steps.load(conn, 1).items()}


@pytest.mark.spec("GC-DATA-111")
def test_a_step_goes_from_intent_to_its_end_and_each_move_is_told(conn: sqlite3.Connection, claimed: Claimed) -> None:
    write(conn, claimed, intend("a", evidence={"before": 1}))
    write(conn, claimed, Start("a", {"before": 2}))
    write(conn, claimed, End("a", StepState.DONE, {"exit": 0}))
    step = steps.load(conn, 1)["a"]
    assert (step.seq, step.state, step.effect, step.tool) == (1, "done", "unsafe", "exec")
    assert (step.request, step.evidence, step.result) == ({"argv": ["a"]}, {"before": 2}, {"exit": 0})
    assert (step.request_hash, step.created_at, step.finished_at) == ("hash a", START + 1, START + 1)
    told = events.read_task(conn, "task", 0)[3:]
    assert [event.event_type for event in told] == ["step.intended", "step.running", "step.done"]
    assert {event.run_id for event in told} == {claimed.task.run_id}
    assert told[0].payload == {
        "key": "a",
        "seq": 1,
        "kind": "tool",
        "tool": "exec",
        "effect": "unsafe",
        "request_digest": "hash a",
    }
    assert told[2].payload["result_digest"] == digest({"exit": 0})


def test_a_step_that_begins_at_once_tells_both(conn: sqlite3.Connection, claimed: Claimed) -> None:
    write(conn, claimed, intend("a", running=True), intend("b"))
    assert states(conn) == {"a": "running", "b": "intended"}
    told = [event.event_type for event in events.read_task(conn, "task", 0)[3:]]
    assert told == ["step.intended", "step.running", "step.intended"]


def test_steps_keep_their_order(conn: sqlite3.Connection, claimed: Claimed) -> None:
    for key in ("c", "a", "b"):
        write(conn, claimed, intend(key))
    assert [(step.key, step.seq) for step in steps.load(conn, 1).values()] == [("c", 1), ("a", 2), ("b", 3)]


@pytest.mark.parametrize(
    "entries",
    [
        [Start("nobody")],
        [End("nobody", StepState.DONE)],
        [*llm("a"), End("a", StepState.FAILED)],
        [*llm("a"), Start("a")],
    ],
)
def test_an_entry_that_does_not_fit_is_refused(
    conn: sqlite3.Connection, claimed: Claimed, entries: list[JournalEntry]
) -> None:
    head = events.head(conn)
    with pytest.raises(JournalMismatch):
        write(conn, claimed, *entries)
    assert states(conn) == {}
    assert events.head(conn) == head


def test_a_running_step_may_be_begun_again_after_judgement(conn: sqlite3.Connection, claimed: Claimed) -> None:
    write(conn, claimed, intend("a", running=True), Start("a", {"again": True}))
    assert steps.load(conn, 1)["a"].evidence == {"again": True}


def test_only_what_runs_and_is_unsafe_stands_in_the_way_of_a_repeat(conn: sqlite3.Connection, claimed: Claimed) -> None:
    for effect in Effect:
        write(conn, claimed, intend(effect, effect=effect, running=True))
    write(conn, claimed, intend("intended"), intend("ended", running=True), End("ended", StepState.FAILED))
    assert steps.running_unsafe(conn, 1) == ["unsafe"]


def test_an_unknown_step_is_unsettled_until_a_model_was_told(conn: sqlite3.Connection, claimed: Claimed) -> None:
    write(conn, claimed, *llm("before"), intend("a", running=True), End("a", StepState.UNKNOWN))
    assert steps.unsettled(conn, 1) == ["a"]
    write(conn, claimed, *llm("after"))
    assert steps.unsettled(conn, 1) == []


@pytest.mark.parametrize(
    ("state", "finished", "told"),
    [(StepState.DONE, START + 9, "step.done"), (StepState.INTENDED, None, "step.intended")],
)
def test_a_person_settles_an_unknown_step(
    conn: sqlite3.Connection, claimed: Claimed, state: StepState, finished: int | None, told: str
) -> None:
    write(conn, claimed, intend("a", running=True), End("a", StepState.UNKNOWN))
    event = commit(conn, steps.resolve, 1, "a", state, {"exit": 0}, START + 9)
    step = steps.load(conn, 1)["a"]
    assert (step.state, step.finished_at) == (state, finished)
    payload = event.payload
    assert isinstance(payload, Mapping)
    assert (event.type, payload["resolved"], payload["key"]) == (told, True, "a")
    with pytest.raises(JournalMismatch, match="not unknown"):
        commit(conn, steps.resolve, 1, "a", state, None, START + 9)


def test_a_step_object_leaves_absent_fields_out(conn: sqlite3.Connection, claimed: Claimed) -> None:
    write(conn, claimed, *llm("a"), intend("b"))
    done, intended = steps.listed(conn, "task")
    assert done == {
        "id": 1,
        "task_id": "task",
        "seq": 1,
        "kind": "llm",
        "key": "a",
        "state": "done",
        "request_hash": "h",
        "result": {"text": "ok"},
        "created_at": START + 1,
        "finished_at": START + 1,
    }
    assert intended.keys() == done.keys() - {"result", "finished_at"} | {"effect", "tool"}
    assert steps.listed(conn, "nobody") == []
