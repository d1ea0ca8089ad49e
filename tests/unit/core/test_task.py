"""The states, the graph between them, and the name of a run."""

from __future__ import annotations

import pytest

from goclaw.core.task import HELD, TERMINAL, TRANSITIONS, TaskState, run_id
from scripts.make_lifecycle_doc import PAGE, lifecycle_page, notes
from tests.scratch import running

S = TaskState


@pytest.mark.spec("GC-STM-101")
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
    written = notes()
    assert list(written) == list(S)
    assert [state for state, note in written.items() if not note.startswith("In: ") or " Out: " not in note] == []


def test_the_page_about_the_life_of_a_task_is_fresh() -> None:
    assert PAGE.read_text(encoding="utf-8") == lifecycle_page(), "run scripts/make_lifecycle_doc.py"


def test_a_run_is_named_by_task_and_token() -> None:
    assert run_id("T", 7) == "T.7"
    assert run_id("T", None) is None
    assert run_id(None, 7) is None
    assert running(id="T", lease_token=7).run_id == "T.7"
