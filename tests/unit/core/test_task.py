"""The states, the graph between them, and the name of a run."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from goclaw.core import task as states
from goclaw.core.task import HELD, TERMINAL, TRANSITIONS, TaskState, run_id
from tests.scratch import running

S = TaskState


@pytest.mark.spec("GC-STM-001")
def test_the_graph_is_the_one_of_the_specification() -> None:
    assert {source: set(targets) for source, targets in TRANSITIONS.items()} == {
        None: {S.QUEUED},
        S.QUEUED: {S.CLAIMED, S.CANCELED},
        S.CLAIMED: {S.RUNNING, S.QUEUED, S.CANCELED},
        S.RUNNING: {S.SUCCEEDED, S.FAILED, S.RETRY_WAIT, S.QUEUED, S.CANCELED, S.DEAD_LETTER},
        S.RETRY_WAIT: {S.QUEUED, S.FAILED, S.CANCELED},
        S.SUCCEEDED: set(),
        S.FAILED: {S.DEAD_LETTER, S.QUEUED},
        S.CANCELED: {S.QUEUED},
        S.DEAD_LETTER: {S.QUEUED},
    }
    assert len(S) == 8
    assert not HELD & TERMINAL


def test_every_state_says_who_moves_a_task_in_and_out() -> None:
    body = ast.parse(Path(states.__file__ or "").read_text())
    enum = next(node for node in body.body if isinstance(node, ast.ClassDef) and node.name == "TaskState")
    notes = [
        node.value.value
        for node in enum.body[1:]
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    ]
    assert len(notes) == 8
    assert all(str(note).startswith("In: ") and " Out: " in str(note) for note in notes)


def test_a_run_is_named_by_task_and_token() -> None:
    assert run_id("T", 7) == "T.7"
    assert run_id("T", None) is None
    assert run_id(None, 7) is None
    assert running(id="T", lease_token=7).run_id == "T.7"
