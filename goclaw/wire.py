"""Frames, error codes and the parameters of every method: the words both ends of a socket share.

JSON-RPC 2.0 (https://www.jsonrpc.org/specification) without batches, one object a frame. Parameters are frozen
dataclasses; unknown ones are refused. Sizes and codes: SPEC, domain ACP.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from math import isinf
from typing import Any, Literal, TypeVar, cast, dataclass_transform

from pydantic import ConfigDict, TypeAdapter, ValidationError

from goclaw.errors import BadRequest, GoclawError, InvalidFrame, ParseFailed

PROTOCOL = "acp"
VERSION = "1.0"
FRAME_BYTES = 4 * 1024 * 1024
DEPTH = 32
CLOSE_BACKPRESSURE = 1008
CLOSE_GOING_AWAY = 1001

CODES = {
    "PARSE_ERROR": -32700,
    "INVALID_REQUEST": -32600,
    "METHOD_NOT_FOUND": -32601,
    "INVALID_PARAMS": -32602,
    "HELLO_REQUIRED": 4001,
    "UNAUTHORIZED": 4030,
    "POLICY_DENIED": 4030,
    "NOT_FOUND": 4040,
    "CONFLICT": 4090,
    "REPLAY_GAP": 4100,
    "TOO_LARGE": 4130,
    "SATURATED": 4290,
    "SHUTTING_DOWN": 4290,
    "STORE_FULL": 4290,
    "PROVIDER_UNAVAILABLE": 5030,
    "RATE_LIMITED": 5030,
    "NO_PROVIDER": 5030,
    "TIMEOUT": 5040,
}
INTERNAL = -32603

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """One parsed request; `id` is absent (`answered` False) in a notification."""

    id: str | int | float | None
    method: str
    params: Mapping[str, Any]
    answered: bool


def parse_frame(text: str | bytes) -> Request:
    """Read one frame. Raises ParseFailed, or InvalidFrame with `id` in its data when that could be read."""
    try:
        frame = json.loads(text, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError:
        raise InvalidFrame(f"JSON is nested deeper than {DEPTH} levels") from None
    except ValueError:
        raise ParseFailed from None
    if not isinstance(frame, dict):
        raise InvalidFrame("one JSON-RPC 2.0 request object a frame; batches are not supported")
    request_id = frame.get("id")
    if isinstance(request_id, bool) or not isinstance(request_id, str | int | float | None):
        raise InvalidFrame("id is a string or a number")
    _check_shape(text, frame, request_id)
    method, params = frame.get("method"), frame.get("params", {})
    if frame.get("jsonrpc") != "2.0" or not isinstance(method, str) or not method:
        raise InvalidFrame('a request has "jsonrpc": "2.0" and a method', id=request_id)
    if not isinstance(params, dict):
        raise BadRequest("params is an object of named parameters", id=request_id)
    return Request(request_id, method, params, "id" in frame)


def validate(kind: type[T], params: Mapping[str, Any]) -> T:
    """`params` as a value of `kind`. Raises BadRequest that names the first wrong field and what was expected."""
    try:
        # Strict types need JSON's own rules (an object for a class, a list for a list), so it is read as JSON.
        value: T = _adapter(cast(Any, kind)).validate_json(dump(params))
        return value
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        name = ".".join(str(part) for part in first["loc"]) or "params"
        known = ", ".join(_field_names(kind)) or "none"
        text = first["msg"]
        if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            text = f"unknown parameter; known are {known}"
        elif first["type"] in ("missing", "missing_argument"):
            text = "required"
        raise BadRequest(f"{name}: {text}", field=name) from None


def result_frame(request_id: Any, result: Any) -> str:
    """The answer to a request."""
    return dump({"jsonrpc": "2.0", "id": request_id, "result": result})


def error_frame(request_id: Any, error: GoclawError) -> str:
    """The refusal of a request: code, message, and data with the stable word and whether to retry."""
    return dump({"jsonrpc": "2.0", "id": request_id, "error": error_object(error)})


def error_object(error: GoclawError) -> dict[str, Any]:
    """`error` as JSON-RPC shows it."""
    extra = {name: value for name, value in error.data.items() if name != "id"}
    return {
        "code": CODES.get(error.code, INTERNAL),
        "message": error.message,
        "data": {"code": error.code, "retryable": error.retryable, **extra},
    }


def notification(method: str, params: Mapping[str, Any]) -> str:
    """A frame that nobody answers."""
    return dump({"jsonrpc": "2.0", "method": method, "params": params})


def dump(value: Any) -> str:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _finite(text: str) -> float:
    """A number that can be written again: 1e999 is JSON, but no float holds it."""
    value = float(text)
    if isinf(value):
        raise ValueError(text)
    return value


def _check_shape(text: str | bytes, frame: dict[str, Any], request_id: Any) -> None:
    """Refuse deep nesting, NUL and lone surrogates. Most frames are settled by counting, without a walk."""
    raw = text if isinstance(text, str) else text.decode("utf-8", "replace")
    if raw.count("{") + raw.count("[") <= DEPTH and "\\u" not in raw:
        return
    pending: list[tuple[Any, int]] = [(frame, 1)]
    while pending:
        value, depth = pending.pop()
        if isinstance(value, str):
            if "\0" in value or any("\ud800" <= char <= "\udfff" for char in value):
                raise InvalidFrame("strings hold no NUL and no lone surrogate", id=request_id)
            continue
        if not isinstance(value, dict | list):
            continue
        if depth > DEPTH:
            raise InvalidFrame(f"JSON is nested deeper than {DEPTH} levels", id=request_id)
        if isinstance(value, dict):
            pending += [(key, depth) for key in value]
            value = list(value.values())
        pending += [(item, depth + 1) for item in value]


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _field_names(kind: type[Any]) -> list[str]:
    return list(getattr(kind, "__dataclass_fields__", {}))


@dataclass_transform(frozen_default=True, kw_only_default=True)
def params(cls: type[T]) -> type[T]:
    """A frozen parameter class: strict types, unknown names refused. Its validator is built at first use."""
    cls.__pydantic_config__ = ConfigDict(extra="forbid", strict=True)  # type: ignore[attr-defined]
    return dataclass(frozen=True, kw_only=True)(cls)


@params
class Nothing:
    """No parameters."""


@params
class Hello:
    """`system.hello`."""

    version: str
    client: str | None = None


@params
class TaskSubmit:
    """`task.submit`. Times in milliseconds; `deadline_ms` counts from now."""

    kind: str
    payload: dict[str, Any]
    session_id: str | None = None
    agent_id: str | None = None
    idempotency_key: str | None = None
    priority: int = 0
    delay_ms: int = 0
    deadline_ms: int | None = None
    max_attempts: int = 3
    timeout_ms: int | None = None


@params
class TaskSubmitMany:
    """`task.submit_many`: up to 1,000, all or nothing."""

    tasks: list[TaskSubmit]


@params
class TaskId:
    """Methods that name one task."""

    task_id: str


@params
class TaskList:
    """`task.list` and the filters of `task.retry_many`."""

    state: str | None = None
    kind: str | None = None
    session_id: str | None = None
    agent_id: str | None = None
    since: int | None = None
    cursor: str | None = None
    limit: int = 50


@params
class TaskFilters:
    """`task.retry_many`: which resting tasks to put back; at least one filter."""

    state: str | None = None
    kind: str | None = None
    session_id: str | None = None
    agent_id: str | None = None
    since: int | None = None


@params
class TaskWait:
    """`task.wait`; without `timeout_ms` as long as the connection lives."""

    task_id: str
    timeout_ms: int | None = None


@params
class TaskCancel:
    """`task.cancel`."""

    task_id: str
    reason: str | None = None


@params
class TaskEvents:
    """`task.events`."""

    task_id: str
    from_event_id: int = 0


@params
class TaskResolve:
    """`task.resolve`: a person settles an unknown step."""

    task_id: str
    outcome: Literal["done", "not_done"]
    step_id: int | None = None
    result: Any = None


@params
class AgentChat:
    """`agent.chat`, `agent.chat.stream`, `session.message`. `text` is an alias of `content`."""

    content: str | None = None
    text: str | None = None
    session_id: str | None = None
    agent_id: str | None = None
    idempotency_key: str | None = None
    model: str | None = None


@params
class AgentId:
    """`agent.status`."""

    agent_id: str


@params
class SessionCreate:
    """`session.create`."""

    session_id: str | None = None
    agent_id: str | None = None


@params
class SessionId:
    """Methods that name one session."""

    session_id: str


@params
class SessionList:
    """`session.list`, newest first."""

    limit: int = 50
    cursor: str | None = None


@params
class SessionHistory:
    """`session.history`: the newest page below `before`, ascending."""

    session_id: str
    limit: int = 100
    before: int | None = None


@params
class Subscribe:
    """`session.events.subscribe`. 0 = from the oldest kept, "latest" = live only."""

    session_id: str
    from_event_id: int | Literal["latest"] = 0
    log_id: str | None = None


@params
class EventsRead:
    """`session.events.read`."""

    session_id: str
    from_event_id: int = 0
    limit: int = 100


@params
class Pause:
    """`system.pause` and `system.resume`. `kill` also ends what runs in the scope."""

    scope: Literal["all", "agent", "kind"] = "all"
    agent_id: str | None = None
    kind: str | None = None
    kill: bool = False


@params
class ToolsExecute:
    """`tools.execute`: one tool call as a durable task."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    session_id: str | None = None


@params
class CronList:
    """`cron.list`, by id behind `cursor`."""

    limit: int = 100
    cursor: str | None = None


@params
class CronAdd:
    """`cron.add`: exactly one of `cron`, `every_ms` and `at`. Times in milliseconds."""

    id: str | None = None
    name: str | None = None
    cron: str | None = None
    zone: str = "UTC"
    every_ms: int | None = None
    anchor: int | None = None
    at: int | None = None
    kind: str = "chat"
    payload: dict[str, Any] = field(default_factory=dict)
    agent_id: str | None = None
    session_id: str | None = None
    priority: int = 0
    max_attempts: int = 3
    deadline_ms: int | None = None
    enabled: bool = True
    missed: str = "coalesce"
    overlap: str = "skip"


@params
class CronId:
    """Methods that name one schedule."""

    id: str


@params
class CronNext:
    """`cron.next`."""

    id: str
    limit: int = 5


@params
class CronHistory:
    """`cron.history`, newest first, planned before `before`."""

    id: str
    limit: int = 50
    before: int | None = None


@params
class SkillName:
    """Methods that name one skill."""

    name: str


@params
class PolicyExplain:
    """`policy.explain`: what the policy would say to an access."""

    capability: str
    subject: str = "agent:default"
    resource: str = ""
    argv: list[str] = field(default_factory=list)


@params
class AuditTail:
    """`audit.tail`: the newest decisions, oldest first."""

    limit: int = 50
    before: int | None = None
