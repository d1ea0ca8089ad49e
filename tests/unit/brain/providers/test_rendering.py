"""Call ids that fit every API."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goclaw.brain.providers.rendering import paired
from goclaw.core.chat import Message, ToolCall, ToolResult


def rounds(*ids: str) -> list[Message]:
    """For each id a call and its result."""
    return [
        message
        for id_ in ids
        for message in (
            Message("assistant", (ToolCall(id_, "glob", {}),)),
            Message("tool", (ToolResult(id_, "found"),)),
        )
    ]


def ids_of(messages: list[Message]) -> tuple[list[str], list[str]]:
    blocks = [block for message in messages for block in message.blocks]
    return (
        [block.id for block in blocks if isinstance(block, ToolCall)],
        [block.call_id for block in blocks if isinstance(block, ToolResult)],
    )


@pytest.mark.spec("GC-BRN-102")
@given(st.lists(st.text(max_size=60), max_size=6))
def test_ids_fit_are_unique_and_keep_call_and_result_together(ids: list[str]) -> None:
    asked, answered = ids_of(list(paired(rounds(*ids))))
    assert asked == answered
    assert len(set(asked)) == len(ids)
    assert all(re.fullmatch("[A-Za-z0-9_-]{1,40}", id_) for id_ in asked)


@pytest.mark.spec("GC-BRN-102")
def test_turns_that_count_their_calls_alike_do_not_meet_on_the_wire() -> None:
    asked, answered = ids_of(list(paired(rounds("call_0_0", "call_0_0", "call_0_0"))))
    assert asked[0] == "call_0_0"
    assert asked == answered
    assert len(set(asked)) == 3


@pytest.mark.spec("GC-BRN-105")
def test_a_longer_conversation_begins_as_the_shorter_one_did() -> None:
    short, long = list(paired(rounds("a", "b"))), list(paired(rounds("a", "b", "a")))
    assert long[: len(short)] == short


def test_results_in_a_batch_belong_to_the_calls_of_that_batch() -> None:
    batch = [
        Message("assistant", (ToolCall("x", "glob", {}), ToolCall("y", "glob", {}))),
        Message("tool", (ToolResult("y", "2"), ToolResult("x", "1"))),
    ]
    asked, answered = ids_of(list(paired([*rounds("x"), *batch])))
    assert sorted(answered[1:]) == sorted(asked[1:])
    assert answered[1] == asked[2]
