"""Frames, error codes and the parameters of every method: the words both ends of a socket share.

JSON-RPC 2.0 (https://www.jsonrpc.org/specification) without batches, one object a frame. Parameters are frozen
dataclasses; unknown ones are refused. Sizes and codes: SPEC, domain ACP.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import isinf
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from goclaw.errors import BadRequest, GoclawError, InvalidFrame, ParseFailed

PROTOCOL = "acp"
VERSION = "1.0"
FRAME_BYTES = 4 * 1024 * 1024
DEPTH = 32
CLOSE_BACKPRESSURE = 1008

CODES = {
    "PARSE_ERROR": -32700,
    "INVALID_REQUEST": -32600,
    "METHOD_NOT_FOUND": -32601,
    "INVALID_PARAMS": -32602,
    "HELLO_REQUIRED": 4001,
    "POLICY_DENIED": 4030,
    "NOT_FOUND": 4040,
    "CONFLICT": 4090,
    "BACKUP_DAMAGED": 4090,
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

# Made once: the functions of `json` make one for each call that asks for anything but their defaults.
_ENCODER = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Request:
    """One parsed request; `id` is absent (`answered` False) in a notification."""

    id: str | int | float | None
    method: str
    params: Mapping[str, Any]
    answered: bool


def parse_frame(text: str | bytes) -> Request:
    """Read one frame. Raises ParseFailed, or InvalidFrame with `id` in its data when that could be read."""
    raw = _decoded(text)
    frame = _loaded(raw)
    if not isinstance(frame, dict):
        raise InvalidFrame("one JSON-RPC 2.0 request object a frame; batches are not supported")
    request_id = frame.get("id")
    if isinstance(request_id, bool) or not isinstance(request_id, str | int | float | None):
        raise InvalidFrame("id is a string or a number")
    _check_shape(raw, frame, request_id)
    method, params = frame.get("method"), frame.get("params", {})
    if frame.get("jsonrpc") != "2.0" or not isinstance(method, str) or not method:
        raise InvalidFrame('a request has "jsonrpc": "2.0" and a method', id=request_id)
    if not isinstance(params, dict):
        raise BadRequest("params is an object of named parameters", id=request_id)
    return Request(request_id, method, params, "id" in frame)


def read_json(text: str | bytes) -> Any:
    """A JSON value that can be stored: finite numbers, no NUL, no lone surrogate, nested up to 32 levels.

    Raises ParseFailed or InvalidFrame.
    """
    raw = _decoded(text)
    value = _loaded(raw)
    _check_shape(raw, value, None)
    return value


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
    return _ENCODER.encode(value)


def _decoded(text: str | bytes) -> str:
    try:
        raw = text if isinstance(text, str) else text.decode()
    except UnicodeDecodeError:
        raise ParseFailed("the frame is not UTF-8 text") from None
    if "\0" in raw:
        raise InvalidFrame("text holds no NUL")
    return raw


def _loaded(raw: str) -> Any:
    try:
        return _DECODER.decode(raw)
    except RecursionError:
        raise InvalidFrame(f"JSON is nested deeper than {DEPTH} levels") from None
    except ValueError:
        raise ParseFailed from None


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _finite(text: str) -> float:
    """A number that can be written again: 1e999 is JSON, but no float holds it."""
    value = float(text)
    if isinf(value):
        raise ValueError(text)
    return value


_DECODER = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite)


def _check_shape(raw: str, frame: Any, request_id: Any) -> None:
    """Refuse deep nesting, NUL and lone surrogates. Most frames are settled by counting, without a walk."""
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
