"""What the demo submits, and how each piece must end."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from goclaw.cli.demo_home import LEDGER_SCRIPT, DemoHome

CUT = "unsafe-cut"
SLOW = "pure-slow"
LATER_MS = 1_500


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One piece of work; `group` is its line in the table.

    `answer` must stand in its result. `begins` bounds how often its effect may begin (None: no ledger). `may_be_cut`
    says that the kill could meet it, and then OUTCOME_UNKNOWN is the right end.
    """

    name: str
    group: str
    params: Mapping[str, Any]
    method: str = "task.submit"
    state: str = "SUCCEEDED"
    error_code: str | None = None
    answer: str = ""
    begins: tuple[int, int] | None = None
    may_be_cut: bool = False


def all_work(demo: DemoHome) -> tuple[Job, ...]:
    """Everything, in the order in which it is submitted: quick pieces, then what the kill meets, then a backlog."""
    half = len(demo.sources) // 2
    return (
        *(_effect(demo, f"unsafe-{number}") for number in range(1, 4)),
        *(_hash(demo, number) for number in range(half)),
        _turn(demo, 1),
        _skill("The quick brown fox", 1),
        _refused(),
        _dead_letter(),
        _flaky(demo),
        _cut(demo),
        _slow(demo),
        *(_hash(demo, number) for number in range(half, len(demo.sources))),
        _turn(demo, 2),
        _skill("jumps over the lazy dog", 2),
        *(_effect(demo, f"unsafe-{number}", delay_ms=LATER_MS) for number in range(4, 9)),
    )


def _submit(name: str, kind: str, payload: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"kind": kind, "payload": payload, "idempotency_key": f"demo-{name}", **more}


def _exec(demo: DemoHome, name: str, seconds: str, kind: str, effect: str, **more: Any) -> dict[str, Any]:
    argv = ["sh", LEDGER_SCRIPT, str(demo.ledger), name, seconds, kind]
    return _submit(name, "exec", {"argv": argv, "effect": effect}, **more)


def _effect(demo: DemoHome, name: str, delay_ms: int = 0) -> Job:
    params = _exec(demo, name, "0", "plain", "unsafe", delay_ms=delay_ms)
    group = "unsafe effects, waiting at the kill" if delay_ms else "unsafe effects, before the kill"
    return Job(name=name, group=group, params=params, begins=(1, 1), may_be_cut=True)


def _cut(demo: DemoHome) -> Job:
    return Job(
        name=CUT,
        group="unsafe effect, cut by the kill",
        params=_exec(demo, CUT, "60", "plain", "unsafe"),
        state="FAILED",
        error_code="OUTCOME_UNKNOWN",
        begins=(1, 1),
    )


def _slow(demo: DemoHome) -> Job:
    params = _exec(demo, SLOW, "1", "plain", "pure")
    return Job(name=SLOW, group="harmless effect, cut by the kill", params=params, begins=(1, 2))


def _flaky(demo: DemoHome) -> Job:
    params = _exec(demo, "flaky", "0", "flaky", "pure")
    return Job(name="flaky", group="program that fails, then works", params=params, begins=(2, 3))


def _hash(demo: DemoHome, number: int) -> Job:
    path = demo.sources[number]
    argv = ["sha256sum", str(path.relative_to(demo.home.workspace))]
    name = f"hash-{number}"
    return Job(
        name=name,
        group="hashes of real files",
        params=_submit(name, "exec", {"argv": argv, "effect": "pure"}),
        answer=hashlib.sha256(path.read_bytes()).hexdigest(),
    )


def _turn(demo: DemoHome, number: int) -> Job:
    path = demo.sources[number]
    directive = f"/read_file file_path={path.relative_to(demo.home.workspace)}"
    return Job(
        name=f"turn-{number}",
        group="agent turns that call a tool",
        method="agent.chat",
        params={"content": directive, "idempotency_key": f"demo-turn-{number}"},
        answer=path.read_text("utf-8").splitlines()[0],
    )


def _skill(text: str, number: int) -> Job:
    name = f"skill-{number}"
    return Job(
        name=name,
        group="WASM skill calls",
        params=_submit(name, "skill", {"skill": "sha256", "input": {"text": text}}),
        answer=hashlib.sha256(text.encode()).hexdigest(),
    )


def _refused() -> Job:
    return Job(
        name="fails",
        group="task that fails for good",
        params=_submit("fails", "noop", {"fail": "this one is meant to fail", "permanent": True}),
        state="FAILED",
        error_code="NOOP_FAILED",
    )


def _dead_letter() -> Job:
    return Job(
        name="dead-letter",
        group="task whose retries run out",
        params=_submit("dead-letter", "noop", {"fail": "this one never works"}, max_attempts=2),
        state="DEAD_LETTER",
        error_code="NOOP_FAILED",
    )
