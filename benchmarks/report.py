"""Tables of a run: medians with their range, ratios beside their goals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from benchmarks.plan import AIMS, RATIOS, Cell, Goal

Samples = Mapping[str, Sequence[float]]
"""What each figure came to, round by round, by "cell.size:figure"."""

PROCESSOR = "processor us a task, all threads"
SYSTEMS = ("raw", "ours", "huey", "postgres")


def lines(cells: Sequence[Cell], samples: Samples) -> Iterator[str]:
    """The whole report, after the last round."""
    yield from _rates("full tasks/s (workers; raw: tasks a commit)", "tasks", cells, samples)
    yield from _rates("durable submits/s (callers; raw: tasks a commit)", "submits", cells, samples)
    told = list(sentences(samples))
    yield from ["", *told] if told else []
    yield from _goals("ratios, median of the rounds", RATIOS, samples)
    yield from _goals("absolute aims (disks and neighbours differ; the ratios above are what holds)", AIMS, samples)


def _rates(title: str, group: str, cells: Sequence[Cell], samples: Samples) -> Iterator[str]:
    yield from _table(title, rates(group, cells, samples))
    yield from _table(f"{PROCESSOR}, {group}", processor(group, cells, samples))


def _table(title: str, rows: Sequence[tuple[int, list[str]]]) -> Iterator[str]:
    if rows:
        yield ""
        yield f"{title:<52}" + "".join(f"{system:>24}" for system in SYSTEMS)
    for size, texts in rows:
        yield f"  {size:<50}" + "".join(f"{text:>24}" for text in texts)


def rates(group: str, cells: Sequence[Cell], samples: Samples) -> list[tuple[int, list[str]]]:
    """By size, what each system came to."""
    return _by_size(group, "rate", SYSTEMS, cells, samples)


def processor(group: str, cells: Sequence[Cell], samples: Samples) -> list[tuple[int, list[str]]]:
    """By size, the microseconds each system was on the processors for one task. Postgres works in other processes."""
    return _by_size(group, "processor_us", SYSTEMS[:3], cells, samples)


def _by_size(
    group: str, figure: str, systems: Sequence[str], cells: Sequence[Cell], samples: Samples
) -> list[tuple[int, list[str]]]:
    sizes = sorted({cell.size for cell in cells if cell.group == group})
    return [(size, [_spread(samples.get(f"{name}.{group}.{size}:{figure}")) for name in systems]) for size in sizes]


def _spread(found: Sequence[float] | None) -> str:
    if not found:
        return "-"
    return f"{median(found):,.0f} ({min(found):,.0f}-{max(found):,.0f})"


def sentences(samples: Samples) -> Iterator[str]:
    """What is neither a rate nor a ratio."""
    named = {
        "ours.pickup": (
            "pickup by an idle pool: p50 {p50_ms:.2f} ms, p99 {p99_ms:.2f} ms after the acknowledgement; "
            "p50 {submit_p50_ms:.2f} ms, p99 {submit_p99_ms:.2f} ms after the call of submit"
        ),
        "ours.depth": (
            "depth: {shallow:,.0f}/s ({shallow_min:,.0f}-{shallow_max:,.0f}) with 1,000 queued, "
            "{deep:,.0f}/s ({deep_min:,.0f}-{deep_max:,.0f}) with {queued:,.0f}"
        ),
        "ours.recovery": (
            "recovery of {tasks:,.0f} unfinished tasks: ready {ready_ms:.0f} ms, first claim {first_claim_ms:.0f} ms, "
            "peak memory {peak_mb:.0f} MB"
        ),
        "ours.bytes.1": "written by 1 worker: {passed:,.0f} bytes a task ({charged:,.0f} charged to the disk)",
        "ours.bytes.50": "written by 50 workers: {passed:,.0f} bytes a task ({charged:,.0f} charged to the disk)",
        "ours.turns.1": "written by a turn with a tool call: {passed:,.0f} bytes ({charged:,.0f} charged to the disk)",
    }
    for name, text in named.items():
        found = {key.partition(":")[2]: median(all_) for key, all_ in samples.items() if key.startswith(f"{name}:")}
        if found:
            syncs = f", {found['syncs']:.3f} syncs" if "syncs" in found else ""
            yield text.format(**found) + syncs


def _goals(title: str, goals: Sequence[Goal], samples: Samples) -> Iterator[str]:
    told = [text for goal in goals if (text := line(goal, samples)) is not None]
    if told:
        yield ""
        yield f"{title:<52}{'seen':>28}{'goal':>14}"
        yield from told


def line(goal: Goal, samples: Samples) -> str | None:
    """One goal with what was seen; None when that was not measured."""
    seen = against(goal, samples)
    if not seen:
        return None
    text = f"  {goal.text:<50}{shown(goal, seen):>28}{wanted(goal):>14}  {verdict(goal, median(seen))}"
    return text.rstrip()


def against(goal: Goal, samples: Samples) -> list[float]:
    """The figure, or round by round its ratio to the peer that was measured beside it."""
    ours = samples.get(goal.figure, ())
    if goal.over is None:
        return list(ours)
    return [mine / theirs for mine, theirs in zip(ours, samples.get(goal.over, ()), strict=False)]


def shown(goal: Goal, seen: Sequence[float]) -> str:
    """The median of the rounds, and their range where there were several."""

    def one(value: float) -> str:
        if goal.unit == "/s" or (goal.unit and value >= 100):
            return f"{value:,.0f}"
        return f"{value:.2f}"

    sign = "x" if goal.over else goal.unit
    spread = f" ({one(min(seen))}-{one(max(seen))})" if len(seen) > 1 else ""
    return f"{one(median(seen))}{sign}{spread}"


def wanted(goal: Goal) -> str:
    """What it should come to."""
    if goal.goal is None:
        return "-"
    return f"{'<=' if goal.at_most else '>='} {goal.goal:,g}{'x' if goal.over else goal.unit}"


def verdict(goal: Goal, seen: float) -> str:
    """holds, SHORT, or nothing where there is no goal."""
    if goal.goal is None:
        return ""
    holds = seen <= goal.goal if goal.at_most else seen >= goal.goal
    return "holds" if holds else "SHORT"
