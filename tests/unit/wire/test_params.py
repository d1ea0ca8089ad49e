"""Parameters: strict types, unknown names refused with those that are known."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import pytest

from goclaw.errors import BadRequest
from goclaw.wire import params as module
from goclaw.wire.frames import validate
from goclaw.wire.params import AgentChat, Hello, Nothing, Pause, Subscribe, TaskSubmit, TaskSubmitMany, TaskWait

ALL: list[Any] = [
    kind
    for _, kind in inspect.getmembers(module, dataclasses.is_dataclass)
    if isinstance(kind, type) and kind.__module__ == module.__name__
]


def refused(kind: Any, params: dict[str, Any]) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        validate(kind, params)
    return caught.value


def test_defaults_are_filled_in() -> None:
    assert validate(TaskSubmit, {"kind": "noop", "payload": {}}) == TaskSubmit(kind="noop", payload={})
    assert validate(Nothing, {}) == Nothing()
    assert validate(Subscribe, {"session_id": "*", "from_event_id": "latest"}).from_event_id == "latest"
    many = validate(TaskSubmitMany, {"tasks": [{"kind": "noop", "payload": {"result": [1]}, "priority": 3}]})
    assert many.tasks == [TaskSubmit(kind="noop", payload={"result": [1]}, priority=3)]


@pytest.mark.spec("GC-ACP-305")
def test_an_unknown_parameter_is_refused_with_those_that_are_known() -> None:
    error = refused(TaskWait, {"task_id": "t", "timeout": 5})
    assert error.message == "timeout: unknown parameter; known are task_id, timeout_ms"
    assert error.data["field"] == "timeout"
    assert refused(Nothing, {"a": 1}).message == "a: unknown parameter; known are none"


@pytest.mark.spec("GC-ACP-305")
@pytest.mark.parametrize("kind", ALL, ids=[kind.__name__ for kind in ALL])
def test_every_method_refuses_what_it_does_not_know(kind: Any) -> None:
    assert kind.__pydantic_config__ == {"extra": "forbid", "strict": True}
    given = {field.name: None for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING}
    refused(kind, given | {"nonsense": 1})


def test_a_missing_parameter_is_named() -> None:
    assert refused(TaskSubmit, {"kind": "noop"}).message == "payload: required"
    assert refused(Hello, {}).data["field"] == "version"


STRICT: list[tuple[Any, dict[str, Any], str]] = [
    (TaskSubmit, {"kind": "noop", "payload": {}, "priority": "1"}, "priority"),
    (TaskSubmit, {"kind": "noop", "payload": {}, "priority": 1.0}, "priority"),
    (TaskSubmit, {"kind": "noop", "payload": {}, "priority": True}, "priority"),
    (TaskSubmit, {"kind": "noop", "payload": {}, "priority": None}, "priority"),
    (TaskSubmit, {"kind": "noop", "payload": {}, "delay_ms": 2**63}, "delay_ms"),
    (TaskSubmit, {"kind": "noop", "payload": []}, "payload"),
    (TaskSubmit, {"kind": 1, "payload": {}}, "kind"),
    (TaskSubmit, {"kind": None, "payload": {}}, "kind"),
    (AgentChat, {"content": ["hi"]}, "content"),
    (Pause, {"scope": "everything"}, "scope"),
    (Pause, {"kill": 1}, "kill"),
    (Subscribe, {"session_id": "*", "from_event_id": "first"}, "from_event_id"),
    (TaskSubmitMany, {"tasks": {}}, "tasks"),
    (TaskSubmitMany, {"tasks": [{"kind": "noop", "payload": {}, "x": 1}]}, "tasks.0"),
]


@pytest.mark.spec("GC-ACP-305")
@pytest.mark.parametrize(("kind", "params", "field"), STRICT)
def test_types_are_strict(kind: Any, params: dict[str, Any], field: str) -> None:
    error = refused(kind, params)
    assert error.data["field"].startswith(field)
    assert error.message.startswith(error.data["field"])


def test_a_refusal_does_not_repeat_what_was_sent() -> None:
    assert "hunter2" not in refused(TaskSubmit, {"kind": "noop", "payload": "hunter2"}).message


def test_parameters_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        validate(Hello, {"version": "1.0"}).version = "2.0"  # type: ignore[misc]


def test_every_parameter_class_says_whose_it_is() -> None:
    assert len(ALL) > 20
    assert [kind.__name__ for kind in ALL if not kind.__doc__] == []
