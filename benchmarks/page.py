"""The figures of a run as the tables of docs/performance.md, between two marks in that page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from benchmarks import report
from benchmarks.plan import AIMS, RATIOS, Cell, Goal
from benchmarks.report import Samples

BEGIN = "<!-- figures of benchmarks.kernel: begin -->\n"
END = "<!-- figures of benchmarks.kernel: end -->"


def write(page: Path, machine: str, cells: Sequence[Cell], samples: Samples) -> None:
    """Put the tables where the old ones stand. Raises ValueError when the page has no such place."""
    text = page.read_text("utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no lines {BEGIN.strip()} and {END}")
    figures = "\n".join(_tables(machine, cells, samples))
    page.write_text(f"{before}{BEGIN}\n{figures}\n\n{END}{after}", "utf-8")


def _tables(machine: str, cells: Sequence[Cell], samples: Samples) -> Iterator[str]:
    yield f"{machine}."
    yield from _goals("to hold", RATIOS, samples)
    yield from _goals("aim", AIMS, samples)
    yield from _rates("full tasks/s", "workers", "tasks", cells, samples)
    yield from _rates("durable submits/s", "callers", "submits", cells, samples)
    yield from _processor(cells, samples)
    yield ""
    yield from (f"* {text}" for text in report.sentences(samples))


def _goals(title: str, goals: Sequence[Goal], samples: Samples) -> Iterator[str]:
    yield from ("", f"| {title} | goal | seen (lowest-highest round) | |", "|---|---|---|---|")
    for goal in goals:
        seen = report.against(goal, samples)
        if seen:
            shown, wanted = report.shown(goal, seen), report.wanted(goal)
            yield f"| {goal.text} | {wanted} | {shown} | {report.verdict(goal, median(seen))} |"


def _rates(title: str, size: str, group: str, cells: Sequence[Cell], samples: Samples) -> Iterator[str]:
    yield from ("", f"| {title}, {size} | raw ceiling | goclaw | huey | PgQueuer |", "|---|---|---|---|---|")
    for number, shown in report.rates(group, cells, samples):
        yield f"| {number} | {' | '.join(shown)} |"


def _processor(cells: Sequence[Cell], samples: Samples) -> Iterator[str]:
    yield from ("", f"| {report.PROCESSOR} | raw ceiling | goclaw | huey |", "|---|---|---|---|")
    for group, size in (("tasks", "workers"), ("submits", "callers")):
        for number, shown in report.processor(group, cells, samples):
            yield f"| {group}, {size}: {number} | {' | '.join(shown)} |"
