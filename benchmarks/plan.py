"""What a run measures, how much of it, and the goals it is held against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Group = Literal["tasks", "submits", "pickup", "depth", "recovery", "bytes"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One measurement: `name` of benchmarks.cell, `size` (workers, callers, group), how many tasks it takes.

    `rounds` other than None: it is measured that often whatever the run says.
    """

    name: str
    size: int
    count: int
    group: Group
    rounds: int | None = None

    @property
    def key(self) -> str:
        """How the report refers to it; of pickup, depth and recovery a run has one each."""
        return f"{self.name}.{self.size}" if self.group in {"tasks", "submits", "bytes"} else self.name

    @property
    def system(self) -> str:
        """raw, ours, huey or postgres."""
        return self.name.partition(".")[0]


FULL: tuple[Cell, ...] = (
    Cell("raw.tasks", 1, 2_000, "tasks"),
    Cell("ours.tasks", 1, 2_000, "tasks"),
    Cell("huey.tasks", 1, 2_000, "tasks"),
    Cell("postgres.tasks", 1, 500, "tasks"),
    Cell("raw.tasks", 50, 20_000, "tasks"),
    Cell("ours.tasks", 50, 20_000, "tasks"),
    Cell("huey.tasks", 50, 3_000, "tasks"),
    Cell("postgres.tasks", 50, 5_000, "tasks"),
    Cell("raw.tasks", 200, 20_000, "tasks"),
    Cell("ours.tasks", 200, 20_000, "tasks"),
    Cell("raw.submits", 1, 2_000, "submits"),
    Cell("ours.submits", 1, 2_000, "submits"),
    Cell("huey.submits", 1, 2_000, "submits"),
    Cell("postgres.submits", 1, 1_000, "submits"),
    Cell("raw.submits", 50, 20_000, "submits"),
    Cell("ours.submits", 50, 20_000, "submits"),
    Cell("huey.submits", 50, 3_000, "submits"),
    Cell("postgres.submits", 50, 2_000, "submits"),
    Cell("raw.submits", 500, 40_000, "submits"),
    Cell("ours.submits", 500, 40_000, "submits"),
    Cell("ours.pickup", 16, 300, "pickup"),
    Cell("ours.bytes", 1, 500, "bytes", 1),
    Cell("ours.bytes", 50, 10_000, "bytes", 1),
    Cell("ours.turns", 1, 50, "bytes", 1),
    Cell("ours.depth", 1_000_000, 4_000, "depth", 1),
    Cell("ours.recovery", 0, 100_000, "recovery"),
)
SHORT: tuple[Cell, ...] = (
    Cell("raw.tasks", 1, 300, "tasks"),
    Cell("ours.tasks", 1, 300, "tasks"),
    Cell("huey.tasks", 1, 300, "tasks"),
    Cell("raw.tasks", 50, 3_000, "tasks"),
    Cell("ours.tasks", 50, 3_000, "tasks"),
    Cell("huey.tasks", 50, 500, "tasks"),
    Cell("postgres.tasks", 50, 1_000, "tasks"),
    Cell("raw.submits", 1, 300, "submits"),
    Cell("ours.submits", 1, 300, "submits"),
    Cell("huey.submits", 1, 300, "submits"),
    Cell("raw.submits", 50, 5_000, "submits"),
    Cell("ours.submits", 50, 5_000, "submits"),
    Cell("huey.submits", 50, 500, "submits"),
    Cell("postgres.submits", 50, 500, "submits"),
    Cell("ours.pickup", 16, 100, "pickup"),
    Cell("ours.bytes", 50, 2_000, "bytes", 1),
    Cell("ours.depth", 20_000, 1_000, "depth", 1),
    Cell("ours.recovery", 0, 10_000, "recovery", 1),
)
ROUNDS, SHORT_ROUNDS = 5, 2
DEPTH_ROUNDS, SHORT_DEPTH_ROUNDS = 9, 4


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure of ours, over a peer's where `over` names one, and what it should come to. `None`: shown, no goal."""

    text: str
    figure: str
    goal: float | None
    over: str | None = None
    at_most: bool = False
    unit: str = ""


RATIOS: tuple[Goal, ...] = (
    Goal("of the raw ceiling, 50 workers", "ours.tasks.50:rate", 0.60, "raw.tasks.50:rate"),
    Goal("of the raw ceiling, 200 workers", "ours.tasks.200:rate", None, "raw.tasks.200:rate"),
    Goal("of the raw ceiling, one worker", "ours.tasks.1:rate", None, "raw.tasks.1:rate"),
    Goal("of the raw ceiling, submits from 50 callers", "ours.submits.50:rate", None, "raw.submits.50:rate"),
    Goal("over huey, 50 workers", "ours.tasks.50:rate", 6.0, "huey.tasks.50:rate"),
    Goal("over huey, submits from 50 callers", "ours.submits.50:rate", 10.0, "huey.submits.50:rate"),
    Goal("over huey, a lone submit", "ours.submits.1:rate", 0.9, "huey.submits.1:rate"),
    Goal("over huey, a lone task (it keeps no history)", "ours.tasks.1:rate", None, "huey.tasks.1:rate"),
    Goal("over PgQueuer, 50 workers", "ours.tasks.50:rate", None, "postgres.tasks.50:rate"),
    Goal("over PgQueuer, submits from 50 callers", "ours.submits.50:rate", None, "postgres.submits.50:rate"),
    Goal("slower with the long queue", "ours.depth:slower", 0.05, at_most=True),
)
AIMS: tuple[Goal, ...] = (
    Goal("tasks, 1 worker", "ours.tasks.1:rate", 2_500, unit="/s"),
    Goal("tasks, 50 workers", "ours.tasks.50:rate", 30_000, unit="/s"),
    Goal("tasks, 200 workers", "ours.tasks.200:rate", 40_000, unit="/s"),
    Goal("submits, 50 callers", "ours.submits.50:rate", 45_000, unit="/s"),
    Goal("submits, 500 callers", "ours.submits.500:rate", 100_000, unit="/s"),
    Goal("pickup p50", "ours.pickup:p50_ms", 0.6, at_most=True, unit=" ms"),
    Goal("pickup p99", "ours.pickup:p99_ms", 2.0, at_most=True, unit=" ms"),
    Goal("recovery: ready", "ours.recovery:ready_ms", 1_000, at_most=True, unit=" ms"),
    Goal("recovery: first claim", "ours.recovery:first_claim_ms", 1_500, at_most=True, unit=" ms"),
    Goal("recovery: peak memory", "ours.recovery:peak_mb", 120, at_most=True, unit=" MB"),
)
