"""What a tool is to the rest of the house: a specification, a call in its context, an output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from goclaw.core.access import Access
from goclaw.core.chat import ToolSpec
from goclaw.core.step import Effect


@dataclass(frozen=True, slots=True, kw_only=True)
class CallContext:
    """On whose behalf a call is made. `effect_key` names the effect across attempts and restarts.

    `direct`: the call is the user's own task (kinds exec, skill and tool), not a model's wish; an effect class it
    declares is believed and it may bring environment variables; `declared` is that class where the arguments are not
    the place for it (skills). `granted` is set by the gate alone, for one run: the accesses it has just authorized. A
    tool touches those objects and nothing it resolved anew.
    """

    task_id: str
    session_id: str | None
    agent_id: str
    attempt: int
    effect_key: str
    policy_version: str | None = None
    timeout_ms: int | None = None
    direct: bool = False
    declared: Effect | None = None
    granted: tuple[Access, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """How a call ended. `text` is for the model; `data` is JSON for programs; `artifact` names the whole output
    (SHA-256) where `text` is only its head and tail."""

    text: str
    is_error: bool = False
    data: Mapping[str, Any] = field(default_factory=dict)
    artifact: str | None = None
    code: str | None = None
    """The stable error word when `is_error`."""

    def as_json(self) -> dict[str, Any]:
        """The output for the journal."""
        return {
            "text": self.text,
            "is_error": self.is_error,
            "data": dict(self.data),
            "artifact": self.artifact,
            "code": self.code,
        }


def output_from_json(data: Mapping[str, Any]) -> ToolOutput:
    """The inverse of `ToolOutput.as_json`."""
    return ToolOutput(**data)


@dataclass(frozen=True, slots=True)
class Happened:
    """A probe found that the effect took place; `output` is what the call would have returned."""

    output: ToolOutput


@dataclass(frozen=True, slots=True)
class DidNotHappen:
    """A probe found that the effect did not take place: the call may run."""


@dataclass(frozen=True, slots=True)
class CannotTell:
    """A probe could not decide; the step ends as unknown."""

    reason: str


Probe = Happened | DidNotHappen | CannotTell


@dataclass(frozen=True, slots=True)
class Ready:
    """A call that passed the gate and may be recorded and run. `arguments` are checked against the schema."""

    name: str
    arguments: Mapping[str, Any]
    effect: Effect
    context: CallContext


@dataclass(frozen=True, slots=True)
class Refused:
    """A call the gate turned away; `output` is what the model sees."""

    output: ToolOutput


__all__ = [
    "CallContext",
    "CannotTell",
    "DidNotHappen",
    "Effect",
    "Happened",
    "Probe",
    "Ready",
    "Refused",
    "ToolOutput",
    "ToolSpec",
    "output_from_json",
]
