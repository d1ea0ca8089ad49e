"""Counts, levels and durations of this process, as plain data until somebody asks for them.

Counting costs a dictionary update and no library. The text for Prometheus is made when it is asked for; what
lives in the database (queue depth, tasks by state) is asked for at that moment too and handed in, never kept
here.
"""

from __future__ import annotations

import bisect
import os
import resource
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from goclaw.core.ports import Clock

PREFIX = "goclaw_"
OTHER = "other"
MAX_SERIES = 200
"""Label sets of one metric; further ones are counted together under `other`."""
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

Type = Literal["counter", "gauge", "histogram"]
Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """One series of a family: its label values in the family's order, and its value."""

    labels: Labels
    value: float


@dataclass(frozen=True, slots=True)
class Distribution:
    """One series of a histogram: how many observations were at most each bound (the last bound is
    infinity).
    """

    labels: Labels
    counts: tuple[int, ...]
    total: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One metric with all its series. The name begins with `goclaw_`; a counter's ends in `_total`."""

    name: str
    type: Type
    help: str
    label_names: tuple[str, ...] = ()
    samples: tuple[Sample, ...] = ()
    distributions: tuple[Distribution, ...] = ()
    bounds: tuple[float, ...] = ()


class _Metric:
    def __init__(self, family: Family) -> None:
        self._family = family
        self._lock = threading.Lock()

    def _labels(self, labels: Labels, known: Mapping[Labels, object]) -> Labels:
        if len(labels) != len(self._family.label_names):
            raise ValueError(f"{self._family.name} has the labels {self._family.label_names}, not {labels}")
        if labels in known or len(known) < MAX_SERIES:
            return labels
        return (OTHER,) * len(labels)


class Counter(_Metric):
    """Something that only grows. Safe to use from any thread."""

    def __init__(self, family: Family) -> None:
        super().__init__(family)
        self._values: dict[Labels, float] = {} if family.label_names else {(): 0}

    def add(self, *labels: str, by: float = 1) -> None:
        """Count `by` more for these label values."""
        with self._lock:
            at = self._labels(labels, self._values)
            self._values[at] = self._values.get(at, 0) + by

    def family(self) -> Family:
        """What has been counted so far."""
        with self._lock:
            samples = tuple(Sample(labels, value) for labels, value in sorted(self._values.items()))
        return _with(self._family, samples=samples)


class Gauge(_Metric):
    """Something that rises and falls. Safe to use from any thread."""

    def __init__(self, family: Family) -> None:
        super().__init__(family)
        self._values: dict[Labels, float] = {}

    def set(self, value: float, *labels: str) -> None:
        """It stands at `value` for these label values now."""
        with self._lock:
            self._values[self._labels(labels, self._values)] = value

    def add(self, by: float, *labels: str) -> None:
        """It rose by `by`, or fell when that is negative."""
        with self._lock:
            at = self._labels(labels, self._values)
            self._values[at] = self._values.get(at, 0) + by

    def family(self) -> Family:
        """Where it stands."""
        with self._lock:
            samples = tuple(Sample(labels, value) for labels, value in sorted(self._values.items()))
        return _with(self._family, samples=samples)


class Histogram(_Metric):
    """How often something took how long (or was how large). Safe to use from any thread."""

    def __init__(self, family: Family) -> None:
        super().__init__(family)
        self._values: dict[Labels, tuple[list[int], float]] = {}

    def observe(self, value: float, *labels: str) -> None:
        """It was `value` once more; durations are seconds."""
        with self._lock:
            at = self._labels(labels, self._values)
            counts, total = self._values.get(at) or ([0] * (len(self._family.bounds) + 1), 0.0)
            counts[bisect.bisect_left(self._family.bounds, value)] += 1
            self._values[at] = (counts, total + value)

    def family(self) -> Family:
        """All observations so far."""
        with self._lock:
            found = sorted((labels, tuple(counts), total) for labels, (counts, total) in self._values.items())
        return _with(self._family, distributions=tuple(Distribution(*one) for one in found))


class Metrics:
    """All metrics of one process. Each is made once, by whoever counts it, and kept there."""

    def __init__(self) -> None:
        self._metrics: dict[str, Counter | Gauge | Histogram] = {}

    def counter(self, name: str, help: str, *labels: str) -> Counter:
        """A new counter. Raises ValueError for a name that is taken or not of the form goclaw_..._total."""
        metric = Counter(self._new(name, "counter", help, labels))
        self._metrics[name] = metric
        return metric

    def gauge(self, name: str, help: str, *labels: str) -> Gauge:
        """A new gauge. Raises ValueError as `counter`."""
        metric = Gauge(self._new(name, "gauge", help, labels))
        self._metrics[name] = metric
        return metric

    def histogram(self, name: str, help: str, *labels: str, bounds: Sequence[float] = SECONDS) -> Histogram:
        """A new histogram. Raises ValueError as `counter`."""
        family = _with(self._new(name, "histogram", help, labels), bounds=tuple(bounds))
        metric = Histogram(family)
        self._metrics[name] = metric
        return metric

    def families(self, collected: Iterable[Family] = ()) -> tuple[Family, ...]:
        """What was counted here, what the system says of the process, and `collected`, by name."""
        own = [metric.family() for metric in tuple(self._metrics.values())]
        return tuple(sorted([*own, *process_families(), *collected], key=lambda family: family.name))

    def as_json(self, collected: Iterable[Family] = ()) -> dict[str, Any]:
        """Every family by name: {type, help, samples: [{labels, value}]}; a histogram's value is {count, sum,
        buckets}.
        """
        return {family.name: _json(family) for family in self.families(collected)}

    def render(self, collected: Iterable[Family] = ()) -> str:
        """The text that Prometheus reads. Loads its library on the first call: make that one in a thread."""
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Rendered(self.families(collected)))
        return generate_latest(registry).decode("utf-8")

    def _new(self, name: str, type_: Type, help_: str, labels: tuple[str, ...]) -> Family:
        if not name.startswith(PREFIX) or (type_ == "counter") != name.endswith("_total"):
            raise ValueError(f"{name}: metrics begin with {PREFIX}, and counters alone end in _total")
        if name in self._metrics:
            raise ValueError(f"{name} exists already")
        return Family(name=name, type=type_, help=help_, label_names=labels)


class _Rendered:
    """Families in the shape of Prometheus's library."""

    def __init__(self, families: tuple[Family, ...]) -> None:
        self._families = families

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        for family in self._families:
            if family.type == "histogram":
                shown = HistogramMetricFamily(family.name, family.help, labels=family.label_names)
                for one in family.distributions:
                    shown.add_metric(one.labels, list(_buckets(family.bounds, one)), one.total)
                yield shown
                continue
            made = CounterMetricFamily if family.type == "counter" else GaugeMetricFamily
            level = made(family.name, family.help, labels=family.label_names)
            for sample in family.samples:
                level.add_metric(sample.labels, sample.value)
            yield level


async def watch_loop_lag(clock: Clock, gauge: Gauge, interval_ms: int = 1000) -> None:
    """Keep `gauge` at how late the event loop woke from its last sleep, in seconds, until canceled.

    One wake-up each interval; a lag shorter than a millisecond reads as zero.
    """
    gauge.set(0.0)
    while True:
        due = clock.monotonic() + interval_ms
        await clock.sleep(interval_ms)
        gauge.set(max(0, clock.monotonic() - due) / 1000)


def process_families() -> tuple[Family, ...]:
    """Memory, open files, threads and processor time, from the system; what it does not tell is left out."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    found = [
        _one(
            "goclaw_process_cpu_seconds_total",
            "Processor time used.",
            usage.ru_utime + usage.ru_stime,
            "counter",
        ),
        _one("goclaw_process_threads", "Threads of Python.", threading.active_count()),
        _one("goclaw_process_max_resident_memory_bytes", "The most memory it had resident.", _peak_bytes(usage)),
    ]
    try:
        with open("/proc/self/statm", "rb") as statm:
            pages = int(statm.read().split()[1])
        resident = pages * os.sysconf("SC_PAGE_SIZE")
        found.append(_one("goclaw_process_resident_memory_bytes", "Memory resident now.", resident))
        found.append(_one("goclaw_process_open_fds", "Open file descriptors.", len(os.listdir("/proc/self/fd")) - 1))
    except OSError:  # no /proc on this system
        pass
    return tuple(found)


def _peak_bytes(usage: resource.struct_rusage) -> int:
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _one(name: str, help_: str, value: float, type_: Type = "gauge") -> Family:
    return Family(name=name, type=type_, help=help_, samples=(Sample((), value),))


def _with(family: Family, **changes: Any) -> Family:
    return replace(family, **changes)


def _buckets(bounds: tuple[float, ...], one: Distribution) -> Iterator[tuple[str, int]]:
    """Pairs of upper bound and the number of observations at or below it."""
    reached = 0
    for bound, count in zip((*map(str, bounds), "+Inf"), one.counts, strict=True):
        reached += count
        yield bound, reached


def _json(family: Family) -> dict[str, Any]:
    samples: list[dict[str, Any]] = [
        {"labels": dict(zip(family.label_names, one.labels, strict=True)), "value": one.value} for one in family.samples
    ]
    for one in family.distributions:
        value = {"count": sum(one.counts), "sum": one.total, "buckets": dict(_buckets(family.bounds, one))}
        samples.append({"labels": dict(zip(family.label_names, one.labels, strict=True)), "value": value})
    return {"type": family.type, "help": family.help, "samples": samples}
