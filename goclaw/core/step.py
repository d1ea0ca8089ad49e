"""Steps: the journal of an attempt, and the rules that make a crash harmless.

A step is `intended` (recorded, not begun), `running` (committed before its effect begins), then `done`, `failed` or
`unknown`. Only a step found `running` after an interruption needs judgement; its effect class decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from goclaw.core.canonical import canonical_json, digest


class Effect(StrEnum):
    """What repeating a call does to the world."""

    PURE = "pure"
    """Changes nothing; runs again freely, and beside other pure calls."""
    IDEMPOTENT = "idempotent"
    """Runs again with the same effect key; the receiver removes duplicates."""
    VERIFIABLE = "verifiable"
    """Can be probed: the world tells whether it happened."""
    UNSAFE = "unsafe"
    """Never runs again by itself; an interrupted one ends as unknown."""


class StepState(StrEnum):
    """Where a step stands."""

    INTENDED = "intended"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    UNKNOWN = "unknown"


ENDED = frozenset({StepState.DONE, StepState.FAILED, StepState.UNKNOWN})


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One recorded step. `key` is its effect key, unique within the task; `evidence` serves a probe."""

    key: str
    seq: int
    kind: str
    state: StepState
    effect: Effect | None
    tool: str | None
    request_hash: str
    request: Any
    evidence: Any
    result: Any
    created_at: int
    finished_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Intend:
    """Record a new step; with `running` its effect may begin as soon as the commit is acknowledged."""

    key: str
    kind: str
    request: Any
    request_hash: str
    tool: str | None = None
    effect: Effect | None = None
    running: bool = False
    evidence: Any = None


@dataclass(frozen=True, slots=True)
class Start:
    """Mark an intended step running; its effect may begin as soon as the commit is acknowledged.

    `effect` is its class as judged now, which may differ from what was recorded in an earlier life; None leaves it.
    """

    key: str
    evidence: Any = None
    effect: Effect | None = None


@dataclass(frozen=True, slots=True)
class End:
    """Record how a step ended."""

    key: str
    state: StepState
    result: Any = field(default=None)


JournalEntry = Intend | Start | End


def open_key(base: str, steps: Mapping[str, Step]) -> str:
    """The first key for another try that has not failed: `BASE`, then `BASE~2`, `BASE~3`."""
    tries, key = 1, base
    while key in steps and steps[key].state is StepState.FAILED:
        tries += 1
        key = f"{base}~{tries}"
    return key


def effect_key(task_id: str, step: str, ordinal: int, tool: str, arguments: Mapping[str, Any]) -> str:
    """The key of one call: equal for the same call of the same task, whatever provider asked for it.

    The provider's own call id is left out: it changes on failover and some models repeat it.
    """
    return digest([task_id, step, ordinal, tool, canonical_json(arguments)])[:32]
