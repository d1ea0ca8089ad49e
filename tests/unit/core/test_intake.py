"""What a submission must look like."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from goclaw.core.chat import Text
from goclaw.core.intake import (
    MAX_ATTEMPTS,
    MAX_MS,
    PAYLOAD_BYTES,
    SERVED_KINDS,
    chat_task,
    check,
    check_session_id,
    complete,
    request_digest,
)
from goclaw.core.task import NewTask
from goclaw.errors import BadRequest, TooLarge
from tests.scratch import noop

GOOD: list[tuple[str, dict[str, Any]]] = [
    ("noop", {}),
    ("noop", {"sleep_ms": 0, "fail": "x", "permanent": False, "result": None}),
    ("noop", {"result": {"deep": [1, "two"]}}),
    ("chat", {"content": "hi"}),
    ("chat", {"content": "hi", "model": "m"}),
    ("exec", {"argv": ["ls", "-l"]}),
    ("exec", {"argv": ["ls", ""], "cwd": "/tmp", "env": {"A": "b"}, "effect": "pure"}),
    ("exec", {"argv": ["ls"], "cwd": None, "env": None, "effect": None}),
    ("skill", {"skill": "sha256"}),
    ("skill", {"skill": "sha256", "function": None, "input": {"text": "a"}, "effect": "idempotent"}),
    ("tool", {"name": "read_file", "arguments": {"file_path": "a"}}),
]
BAD: list[tuple[str, dict[str, Any], str]] = [
    ("noop", {"sleep": 1}, "payload.sleep"),
    ("noop", {"sleep_ms": -1}, "payload.sleep_ms"),
    ("noop", {"sleep_ms": True}, "payload.sleep_ms"),
    ("noop", {"sleep_ms": 1.5}, "payload.sleep_ms"),
    ("noop", {"fail": 1}, "payload.fail"),
    ("noop", {"permanent": "yes"}, "payload.permanent"),
    ("chat", {}, "payload.content"),
    ("chat", {"content": ""}, "payload.content"),
    ("chat", {"content": " \n"}, "payload.content"),
    ("chat", {"content": ["hi"]}, "payload.content"),
    ("exec", {}, "payload.argv"),
    ("exec", {"argv": []}, "payload.argv"),
    ("exec", {"argv": [""]}, "payload.argv"),
    ("exec", {"argv": "ls -l"}, "payload.argv"),
    ("exec", {"argv": ["ls", 1]}, "payload.argv"),
    ("exec", {"argv": ["ls\0"]}, "payload.argv"),
    ("exec", {"argv": ["ls"], "env": {"A": 1}}, "payload.env"),
    ("exec", {"argv": ["ls"], "effect": "safe"}, "payload.effect"),
    ("skill", {"input": {}}, "payload.skill"),
    ("skill", {"skill": "x", "effect": "PURE"}, "payload.effect"),
    ("skill", {"skill": "x", "input": [1]}, "payload.input"),
    ("skill", {"skill": "x", "function": "run"}, "payload.function"),
    ("tool", {"arguments": {}}, "payload.name"),
    ("tool", {"name": "x", "arguments": []}, "payload.arguments"),
]


@pytest.mark.parametrize(("kind", "payload"), GOOD)
def test_good_payloads_are_taken(kind: str, payload: dict[str, Any]) -> None:
    check(NewTask(kind=kind, payload=payload))


@pytest.mark.spec("GC-QUE-102")
@pytest.mark.parametrize(("kind", "payload", "field"), BAD)
def test_a_bad_payload_is_refused_by_the_name_of_its_field(kind: str, payload: dict[str, Any], field: str) -> None:
    with pytest.raises(BadRequest) as refused:
        check(NewTask(kind=kind, payload=payload))
    assert refused.value.data["field"] == field
    assert field.rpartition(".")[2] in refused.value.message


NUMBERS: list[tuple[dict[str, Any], str]] = [
    ({"priority": 11}, "priority"),
    ({"priority": -11}, "priority"),
    ({"delay_ms": -1}, "delay_ms"),
    ({"delay_ms": MAX_MS + 1}, "delay_ms"),
    ({"max_attempts": 0}, "max_attempts"),
    ({"max_attempts": MAX_ATTEMPTS + 1}, "max_attempts"),
    ({"deadline_ms": 0}, "deadline_ms"),
    ({"timeout_ms": 0}, "timeout_ms"),
    ({"timeout_ms": MAX_MS + 1}, "timeout_ms"),
    ({"idempotency_key": ""}, "idempotency_key"),
    ({"idempotency_key": "k" * 256}, "idempotency_key"),
    ({"session_id": ""}, "session_id"),
]


@pytest.mark.parametrize(("fields", "field"), NUMBERS)
def test_numbers_out_of_range_are_refused(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(BadRequest) as refused:
        check(noop(**fields))
    assert refused.value.data["field"] == field


def test_numbers_at_the_edge_are_taken() -> None:
    check(noop(priority=-10, delay_ms=0, max_attempts=1, deadline_ms=1, timeout_ms=1, idempotency_key="k"))
    check(noop(priority=10, delay_ms=MAX_MS, max_attempts=MAX_ATTEMPTS, deadline_ms=MAX_MS, idempotency_key="k" * 255))


@pytest.mark.parametrize("session_id", ["a", "A-Z.9_:x", "s" * 128, None])
def test_good_session_ids(session_id: str | None) -> None:
    check_session_id(session_id)


@pytest.mark.spec("GC-QUE-103")
@pytest.mark.parametrize("session_id", ["", "s" * 129, "a b", "a/b", "ä", "a\n", "*"])
def test_bad_session_ids_are_refused(session_id: str) -> None:
    with pytest.raises(BadRequest, match="1 to 128 characters"):
        check_session_id(session_id)


def test_an_unknown_kind_is_refused_with_those_there_are() -> None:
    with pytest.raises(BadRequest, match="unknown kind 'nop'; kinds are chat, exec, noop, skill, tool"):
        check(NewTask(kind="nop", payload={}))
    assert "plan" not in SERVED_KINDS


@pytest.mark.spec("GC-QUE-102")
def test_a_payload_of_one_mebibyte_is_the_largest() -> None:
    room = PAYLOAD_BYTES - len('{"result":""}')
    check(noop(payload={"result": "x" * room}))
    with pytest.raises(TooLarge) as refused:
        check(noop(payload={"result": "x" * (room + 1)}))
    assert refused.value.data["limit"] == PAYLOAD_BYTES
    with pytest.raises(TooLarge):
        check(noop(payload={"result": "é" * (room // 2 + 1)}))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800"])
def test_a_payload_that_is_no_json_text_is_refused(value: Any) -> None:
    with pytest.raises(BadRequest, match="not valid JSON text"):
        check(noop(payload={"result": value}))


@pytest.mark.spec("GC-QUE-104")
def test_the_same_request_has_the_same_digest_and_another_has_not() -> None:
    one = noop(payload={"sleep_ms": 1, "fail": "x"}, idempotency_key="k")
    assert request_digest(one) == request_digest(noop(payload={"fail": "x", "sleep_ms": 1}, idempotency_key="k"))
    changes: list[dict[str, Any]] = [
        {"kind": "exec"},
        {"payload": {}},
        {"session_id": "s"},
        {"agent_id": "other"},
        {"priority": 1},
        {"delay_ms": 1},
        {"deadline_ms": 1},
        {"max_attempts": 4},
        {"timeout_ms": 1},
        {"parent_task_id": "p"},
    ]
    digests = {request_digest(replace(one, **change)) for change in changes}
    assert len(digests | {request_digest(one)}) == len(changes) + 1


def test_a_chat_carries_the_message_of_its_user() -> None:
    task = chat_task("hi", agent_id=None, session_id="s", idempotency_key="k", model="m")
    check(task)
    assert task.payload == {"content": "hi", "model": "m"}
    assert [message.blocks for message in task.messages] == [(Text("hi"),)]
    assert complete(replace(task, messages=())) == task
    assert complete(noop()) == noop()
    broken = NewTask(kind="chat", payload={"content": 1})
    assert complete(broken) is broken
