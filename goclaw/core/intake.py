"""What a submission must look like. One place for every face: WebSocket, HTTP, command line, schedules, tools."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from goclaw.core.canonical import canonical_json, digest
from goclaw.core.chat import NewMessage, Text, encode_block
from goclaw.core.step import Effect
from goclaw.core.task import KINDS, NewTask
from goclaw.errors import BadRequest, TooLarge

PAYLOAD_BYTES = 1024 * 1024
KEY_CHARS = 255
MAX_ATTEMPTS = 100
MAX_MS = 10 * 366 * 24 * 3600 * 1000
"""Ten years: longer waits are typing errors."""
SERVED_KINDS = KINDS - {"plan"}
_SESSION = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class Prepared(NamedTuple):
    """A submission that can be stored: its payload as canonical JSON, and its digest if it has an idempotency key."""

    new: NewTask
    payload: str
    digest: str | None


def prepare(task: NewTask) -> Prepared:
    """`task`, looked at once and for all. Raises BadRequest or TooLarge, naming the field."""
    payload = check(task)
    return Prepared(task, payload, None if task.idempotency_key is None else request_digest(task))


def check(task: NewTask) -> str:
    """The payload as canonical JSON. Raises BadRequest or TooLarge, naming the field, unless `task` can be stored."""
    if task.kind not in SERVED_KINDS:
        raise BadRequest(f"unknown kind {task.kind!r}; kinds are {', '.join(sorted(SERVED_KINDS))}", field="kind")
    check_session_id(task.session_id)
    _check_numbers(task)
    for field in ("idempotency_key", "concurrency_key", "unique_key"):
        key = getattr(task, field)
        if key is not None and not 1 <= len(key) <= KEY_CHARS:
            raise BadRequest(f"{field} has 1 to {KEY_CHARS} characters", field=field)
    _PAYLOADS[task.kind](task.payload)
    try:
        payload = canonical_json(task.payload) if task.payload else "{}"
        size = len(payload.encode())
    except (ValueError, UnicodeEncodeError):
        raise BadRequest("payload is not valid JSON text", field="payload") from None
    if size > PAYLOAD_BYTES:
        raise TooLarge(f"payload has {size} bytes; the limit is {PAYLOAD_BYTES}", limit=PAYLOAD_BYTES)
    return payload


def check_session_id(session_id: str | None) -> None:
    """Raise BadRequest unless the id is absent or 1-128 characters of A-Z a-z 0-9 . _ : -"""
    if session_id is not None and not _SESSION.fullmatch(session_id):
        raise BadRequest("session_id has 1 to 128 characters of A-Z a-z 0-9 . _ : -", field="session_id")


def request_digest(task: NewTask) -> str:
    """What makes two submissions with one idempotency key the same request."""
    names = [task.concurrency_key, task.unique_key]
    return digest(
        [
            task.kind,
            task.payload,
            task.session_id,
            task.agent_id,
            task.priority,
            task.delay_ms,
            task.deadline_ms,
            task.max_attempts,
            task.timeout_ms,
            task.parent_task_id,
            [[message.role, [encode_block(block) for block in message.blocks]] for message in task.messages],
            *(names if any(names) else ()),
        ]
    )


def _check_numbers(task: NewTask) -> None:
    if not -10 <= task.priority <= 10:
        raise BadRequest("priority is an integer from -10 to 10", field="priority")
    if not 0 <= task.delay_ms <= MAX_MS:
        raise BadRequest("delay_ms is not negative and at most ten years", field="delay_ms")
    if not 1 <= task.max_attempts <= MAX_ATTEMPTS:
        raise BadRequest(f"max_attempts is from 1 to {MAX_ATTEMPTS}", field="max_attempts")
    for name, value in (("deadline_ms", task.deadline_ms), ("timeout_ms", task.timeout_ms)):
        if value is not None and not 1 <= value <= MAX_MS:
            raise BadRequest(f"{name} is positive and at most ten years", field=name)


def _fields(
    payload: Mapping[str, Any], required: Mapping[str, type], optional: Mapping[str, type | tuple[type, ...]]
) -> None:
    for name in payload:
        if name not in required and name not in optional:
            known = ", ".join([*required, *optional])
            raise BadRequest(f"payload has no field {name!r}; it has {known}", field=f"payload.{name}")
    for name, kind in required.items():
        if name not in payload:
            raise BadRequest(f"payload.{name} is missing", field=f"payload.{name}")
        _typed(payload, name, kind)
    for name, kinds in optional.items():
        if payload.get(name) is not None:
            _typed(payload, name, kinds)


def _typed(payload: Mapping[str, Any], name: str, kind: type | tuple[type, ...]) -> None:
    value = payload[name]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        wanted = kind.__name__ if isinstance(kind, type) else " or ".join(one.__name__ for one in kind)
        raise BadRequest(f"payload.{name} is a JSON {_JSON_NAMES.get(wanted, wanted)}", field=f"payload.{name}")


_JSON_NAMES = {"str": "string", "int": "integer", "dict": "object", "list": "array", "bool": "boolean"}


def _effect(payload: Mapping[str, Any]) -> None:
    if payload.get("effect") is not None and payload["effect"] not in set(Effect):
        raise BadRequest(f"payload.effect is one of {', '.join(Effect)}", field="payload.effect")


def _chat(payload: Mapping[str, Any]) -> None:
    _fields(payload, {"content": str}, {"model": str})
    if not payload["content"].strip():
        raise BadRequest("payload.content is empty", field="payload.content")


def _exec(payload: Mapping[str, Any]) -> None:
    _fields(payload, {"argv": list}, {"cwd": str, "env": dict, "effect": str})
    argv = payload["argv"]
    if not argv or not all(isinstance(part, str) and "\0" not in part for part in argv) or not argv[0]:
        raise BadRequest("payload.argv is a list of strings that begins with a program", field="payload.argv")
    if not all(isinstance(value, str) for value in (payload.get("env") or {}).values()):
        raise BadRequest("payload.env maps names to strings", field="payload.env")
    _effect(payload)


def _skill(payload: Mapping[str, Any]) -> None:
    _fields(payload, {"skill": str}, {"function": str, "input": dict, "effect": str})
    if payload.get("function") is not None:
        text = "payload.function cannot be chosen: a skill is a command with one entry; payload.input says what to do"
        raise BadRequest(text, field="payload.function")
    _effect(payload)


def _tool(payload: Mapping[str, Any]) -> None:
    _fields(payload, {"name": str}, {"arguments": dict})


def _noop(payload: Mapping[str, Any]) -> None:
    if not payload:
        return
    _fields(payload, {}, {"sleep_ms": int, "fail": str, "permanent": bool, "result": object, "progress": list})
    if payload.get("sleep_ms") is not None and not 0 <= payload["sleep_ms"] <= MAX_MS:
        raise BadRequest("payload.sleep_ms is not negative", field="payload.sleep_ms")


_PAYLOADS: Mapping[str, Callable[[Mapping[str, Any]], None]] = {
    "chat": _chat,
    "exec": _exec,
    "skill": _skill,
    "tool": _tool,
    "noop": _noop,
}


def chat_task(
    content: str,
    *,
    agent_id: str | None,
    session_id: str | None,
    idempotency_key: str | None = None,
    model: str | None = None,
) -> NewTask:
    """A chat turn whose user message is stored with it. Without an agent the session's own answers."""
    payload = {"content": content} | ({"model": model} if model else {})
    message = NewMessage(role="user", blocks=(Text(content),))
    return NewTask(
        kind="chat",
        payload=payload,
        agent_id=agent_id,
        session_id=session_id,
        idempotency_key=idempotency_key,
        messages=(message,),
    )


def complete(task: NewTask) -> NewTask:
    """`task` as the queue wants it: a chat carries its message."""
    if task.kind != "chat" or not isinstance(task.payload.get("content"), str):
        return task
    return replace(task, messages=(NewMessage(role="user", blocks=(Text(task.payload["content"]),)),))
