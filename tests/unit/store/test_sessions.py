"""Sessions, messages, and the order of turns."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from goclaw.core.chat import NewMessage, Text, ToolCall
from goclaw.core.intake import chat_task
from goclaw.core.outcome import Closing, Failed, Succeeded
from goclaw.kernel import claiming, operations, submission, upkeep
from goclaw.store import events, sessions
from tests.fakes_clock import START
from tests.scratch import BOUNDS, HOLDER, at, commit, scratch


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    conn = scratch(tmp_path / "d.db")
    yield conn
    conn.close()


def say(conn: sqlite3.Connection, text: str, session: str = "s") -> str:
    new = chat_task(text, agent_id=None, session_id=session)
    return commit(conn, submission.submit, new, f"task-{text}", BOUNDS, START).task.id


def turn(conn: sqlite3.Connection, answer: str | None) -> str:
    """Claim the next turn and end it: with an answer, or with a failure that is tried again."""
    (claimed,) = commit(conn, claiming.claim, "default", 1, HOLDER, at())
    message = NewMessage(role="assistant", blocks=(Text(answer or ""),), tokens=7)
    closing = Closing(messages=(message,))
    outcome = Failed("E", "once") if answer is None else Succeeded(answer, closing=closing)
    commit(conn, operations.finish, claimed.stored, outcome, 0.0, START)
    return claimed.task.id


def told(conn: sqlite3.Connection, task_id: str) -> list[str]:
    """What a turn is told, as its text."""
    stored = operations.find(conn, task_id)
    assert stored.session_key is not None
    bounds = sessions.turn_bounds(conn, stored.session_key, stored.task.key)
    return [message.text for message in sessions.turn_history(conn, stored.session_key, *bounds)]


def test_a_session_is_made_once_with_one_event(conn: sqlite3.Connection) -> None:
    made = commit(conn, sessions.ensure, "s", "default", START)
    assert commit(conn, sessions.ensure, "s", "other", START + 5) == made
    assert sessions.find(conn, "s") == made
    assert sessions.find(conn, "t") is None
    assert [event.event_type for event in events.read_after(conn, 0)] == ["session.started"]


def test_an_ended_session_opens_again_when_something_is_said(conn: sqlite3.Connection) -> None:
    session = commit(conn, sessions.ensure, "s", "default", START)
    commit(conn, sessions.end, session, START + 1)
    ended = sessions.find(conn, "s")
    assert ended is not None
    assert ended.ended_at == START + 1
    say(conn, "hello")
    again = sessions.find(conn, "s")
    assert again is not None
    assert again.ended_at is None


def test_sessions_are_listed_newest_first_by_pages(conn: sqlite3.Connection) -> None:
    for name in "abcde":
        commit(conn, sessions.ensure, name, "default", START)
    first = sessions.page(conn, 2, None)
    second = sessions.page(conn, 2, first[-1].key)
    third = sessions.page(conn, 2, second[-1].key)
    assert [session.id for session in first + second + third] == list("edcba")


def test_the_history_is_the_newest_page_in_ascending_order(conn: sqlite3.Connection) -> None:
    for n in range(5):
        say(conn, f"m{n}")
    session = sessions.find(conn, "s")
    assert session is not None
    newest = sessions.history(conn, session.key, 2, None)
    assert [item["text"] for item in newest] == ["m3", "m4"]
    assert [item["text"] for item in sessions.history(conn, session.key, 2, newest[0]["id"])] == ["m1", "m2"]
    item = newest[0]
    assert item.keys() == {
        "id",
        "session_id",
        "agent_id",
        "role",
        "content",
        "text",
        "task_id",
        "tokens",
        "created_at",
    }
    assert item["content"] == [{"type": "text", "text": "m3"}]
    assert (item["session_id"], item["agent_id"], item["role"]) == ("s", "default", "user")
    assert (item["task_id"], item["created_at"]) == ("task-m3", START)


def test_each_message_has_its_event(conn: sqlite3.Connection) -> None:
    task_id = say(conn, "m")
    message = events.read_task(conn, task_id, 0)[-1]
    assert message.event_type == "message.added"
    assert message.payload == {"message_id": 1, "role": "user"}
    assert message.session_id == "s"


def test_only_text_is_shown_as_text(conn: sqlite3.Connection) -> None:
    say(conn, "m")
    (claimed,) = commit(conn, claiming.claim, "default", 1, HOLDER, at())
    blocks = (Text("let me see"), ToolCall("c", "exec", {"argv": ["ls"]}))
    closing = Closing(messages=(NewMessage(role="assistant", blocks=blocks),))
    commit(conn, operations.finish, claimed.stored, Succeeded(None, closing=closing), 0.0, START)
    key = claimed.stored.session_key
    assert key is not None
    answer = sessions.history(conn, key, 10, None)[-1]
    assert answer["text"] == "let me see"
    assert answer["content"][1] == {"type": "tool_call", "id": "c", "name": "exec", "arguments": {"argv": ["ls"]}}


@pytest.mark.spec("GC-DATA-110")
def test_a_turn_is_told_the_turns_before_it_and_its_own_input_last(conn: sqlite3.Connection) -> None:
    for text in ("one", "two", "three"):
        say(conn, text)
    turn(conn, "first")
    turn(conn, "second")
    (claimed,) = commit(conn, claiming.claim, "default", 1, HOLDER, at())
    assert told(conn, claimed.task.id) == ["one", "first", "two", "second", "three"]


@pytest.mark.spec("GC-DATA-110")
def test_what_waits_is_not_told_and_what_comes_later_changes_nothing(conn: sqlite3.Connection) -> None:
    say(conn, "one")
    say(conn, "two")
    (claimed,) = commit(conn, claiming.claim, "default", 1, HOLDER, at())
    key = claimed.stored.session_key
    assert key is not None
    bounds = sessions.turn_bounds(conn, key, claimed.task.key)
    pinned = sessions.turn_history(conn, key, *bounds)
    assert [message.text for message in pinned] == ["one"]
    say(conn, "three")
    assert sessions.turn_history(conn, key, *bounds) == pinned
    answer = NewMessage(role="assistant", blocks=(Text("done"),))
    commit(conn, operations.finish, claimed.stored, Succeeded(closing=Closing(messages=(answer,))), 0.0, START)
    assert sessions.turn_history(conn, key, *bounds) == pinned, "not even by its own answer"


def test_a_turn_that_is_tried_again_keeps_its_place(conn: sqlite3.Connection) -> None:
    first = say(conn, "one")
    say(conn, "two")
    assert turn(conn, None) == first
    commit(conn, upkeep.run_timers, START + 5_000)
    assert turn(conn, "done") == first
    (second,) = commit(conn, claiming.claim, "default", 1, HOLDER, at())
    assert told(conn, second.task.id) == ["one", "done", "two"]


def test_parts_of_prompts_are_kept_by_hash(conn: sqlite3.Connection) -> None:
    commit(conn, sessions.pin_part, "h", "be kind")
    commit(conn, sessions.pin_part, "h", "be kind")
    assert sessions.prompt_part(conn, "h") == "be kind"
    assert sessions.prompt_part(conn, "g") is None
