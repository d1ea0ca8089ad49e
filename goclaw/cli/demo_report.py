"""The proof of the demo: what was acknowledged against what came of it, and against the ledger outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from goclaw.cli.demo_home import Line
from goclaw.cli.demo_work import Job
from goclaw.cli.results import result_text
from goclaw.core.task import TERMINAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One job at the end: its task, its events, and its lines in the ledger."""

    job: Job
    task: Mapping[str, Any] | None
    events: Sequence[Mapping[str, Any]]
    lines: Sequence[Line]

    @property
    def ends(self) -> int:
        """How often the task came to rest; FAILED on the way to DEAD_LETTER is one rest."""
        states = [event["state_to"] for event in self.events]
        return sum(state in TERMINAL for state in states) - int("DEAD_LETTER" in states)

    @property
    def begins(self) -> int:
        """How often its effect began, by the ledger."""
        return sum(line.word == "begin" for line in self.lines)

    def faults(self) -> list[str]:
        """What is not as it must be; empty when all is well."""
        job, task = self.job, self.task
        if task is None:
            return [f"{job.name}: acknowledged and lost"]
        found = []
        cut = job.may_be_cut and task.get("error_code") == "OUTCOME_UNKNOWN"
        as_meant = task["state"] == job.state and job.error_code in (None, task.get("error_code"))
        if not (as_meant or cut):
            found.append(f"{job.name}: ended {task['state']} {task.get('error_code') or ''}, not {job.state}".rstrip())
        if job.state in ("SUCCEEDED", "FAILED") and self.ends != 1:
            found.append(f"{job.name}: came to an end {self.ends} times")
        if job.answer and job.answer not in result_text(task):
            found.append(f"{job.name}: its result is not the right one")
        if job.begins is not None and not job.begins[0] <= self.begins <= job.begins[1]:
            found.append(f"{job.name}: its effect began {self.begins} times")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One line of the table."""

    name: str
    acknowledged: int
    ended: str
    effects: str
    right: bool


def groups(outcomes: Sequence[Outcome]) -> tuple[Group, ...]:
    """The table, a line for each kind of work."""
    names = list(dict.fromkeys(one.job.group for one in outcomes))
    return tuple(_group(name, [one for one in outcomes if one.job.group == name]) for name in names)


def _group(name: str, outcomes: Sequence[Outcome]) -> Group:
    states = [str(one.task["state"]) if one.task else "LOST" for one in outcomes]
    ended = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    codes = {str(one.task["error_code"]) for one in outcomes if one.task and one.task.get("error_code")}
    told = [one for one in outcomes if one.job.begins is not None]
    begun = sum(one.begins for one in told)
    again = " (harmless: may run again)" if begun > len(told) else ""
    return Group(
        name=name,
        acknowledged=len(outcomes),
        ended=f"{ended} ({', '.join(sorted(codes))})" if codes else ended,
        effects=f"{begun}{again}" if told else "",
        right=not any(one.faults() for one in outcomes),
    )
