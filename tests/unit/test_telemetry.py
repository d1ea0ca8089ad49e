"""Counts, levels and durations."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading

import pytest

from goclaw.telemetry import Family, Metrics, Sample, watch_loop_lag
from tests.fakes_clock import FakeClock

DEPTH = Family(
    name="goclaw_queue_depth",
    type="gauge",
    help="Tasks that wait.",
    label_names=("agent",),
    samples=(Sample(("default",), 5),),
)


@pytest.mark.spec("GC-OBS-009")
def test_the_text_for_prometheus_holds_what_was_counted_and_what_was_collected() -> None:
    metrics = Metrics()
    metrics.counter("goclaw_requests_total", "Requests.", "method").add("task.submit", by=2)
    metrics.gauge("goclaw_lanes", "Lanes in use.").set(3)
    turns = metrics.histogram("goclaw_turn_seconds", "Turns.", bounds=(0.1, 1))
    for value in (0.1, 0.5, 2):
        turns.observe(value)
    lines = metrics.render([DEPTH]).splitlines()
    for line in (
        "# TYPE goclaw_requests_total counter",
        'goclaw_requests_total{method="task.submit"} 2.0',
        "goclaw_lanes 3.0",
        'goclaw_queue_depth{agent="default"} 5.0',
        'goclaw_turn_seconds_bucket{le="0.1"} 1.0',
        'goclaw_turn_seconds_bucket{le="1"} 2.0',
        'goclaw_turn_seconds_bucket{le="+Inf"} 3.0',
        "goclaw_turn_seconds_count 3.0",
        "goclaw_turn_seconds_sum 2.6",
    ):
        assert line in lines


@pytest.mark.spec("GC-OBS-009")
def test_the_json_says_the_same() -> None:
    metrics = Metrics()
    metrics.counter("goclaw_requests_total", "Requests.", "method").add("m")
    metrics.histogram("goclaw_turn_seconds", "Turns.", bounds=(1,)).observe(2)
    shown = json.loads(json.dumps(metrics.as_json([DEPTH])))
    assert shown["goclaw_requests_total"] == {
        "type": "counter",
        "help": "Requests.",
        "samples": [{"labels": {"method": "m"}, "value": 1}],
    }
    assert shown["goclaw_queue_depth"]["samples"] == [{"labels": {"agent": "default"}, "value": 5}]
    assert shown["goclaw_turn_seconds"]["samples"] == [
        {"labels": {}, "value": {"count": 1, "sum": 2.0, "buckets": {"1": 0, "+Inf": 1}}}
    ]


def test_an_unlabelled_metric_is_there_before_it_is_counted() -> None:
    metrics = Metrics()
    metrics.counter("goclaw_starts_total", "Starts.")
    assert "goclaw_starts_total 0.0" in metrics.render().splitlines()


def test_the_process_is_measured_by_the_system() -> None:
    shown = Metrics().as_json()
    assert shown["goclaw_process_cpu_seconds_total"]["samples"][0]["value"] > 0
    assert shown["goclaw_process_max_resident_memory_bytes"]["samples"][0]["value"] > 5_000_000
    if sys.platform == "linux":
        assert shown["goclaw_process_resident_memory_bytes"]["samples"][0]["value"] > 5_000_000
        assert shown["goclaw_process_open_fds"]["samples"][0]["value"] >= 3


def test_label_sets_are_bounded_and_the_rest_is_counted_together() -> None:
    counter = Metrics().counter("goclaw_x_total", "X.", "who")
    for number in range(1_000):
        counter.add(str(number))
    samples = {sample.labels: sample.value for sample in counter.family().samples}
    assert len(samples) == 201
    assert samples[("other",)] == 800


def test_wrong_names_and_labels_are_refused() -> None:
    metrics = Metrics()
    metrics.gauge("goclaw_x", "X.")
    for make in (
        lambda: metrics.counter("goclaw_y", "Y."),
        lambda: metrics.gauge("goclaw_y_total", "Y."),
        lambda: metrics.gauge("y", "Y."),
        lambda: metrics.gauge("goclaw_x", "X again."),
        lambda: metrics.counter("goclaw_z_total", "Z.", "a").add("1", "2"),
    ):
        with pytest.raises(ValueError, match="goclaw_"):
            make()


def test_a_gauge_rises_and_falls() -> None:
    gauge = Metrics().gauge("goclaw_x", "X.")
    gauge.set(5)
    gauge.add(-2)
    assert gauge.family().samples == (Sample((), 3),)


def test_threads_may_count_at_once() -> None:
    counter = Metrics().counter("goclaw_x_total", "X.")

    def count() -> None:
        for _ in range(10_000):
            counter.add()

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.family().samples == (Sample((), 40_000),)


async def test_the_lag_of_the_loop_is_how_late_it_woke() -> None:
    clock, gauge = FakeClock(), Metrics().gauge("goclaw_loop_lag_seconds", "Lag.")
    async with asyncio.TaskGroup() as group:
        watcher = group.create_task(watch_loop_lag(clock, gauge))
        await clock.asleep()
        clock.advance(1_250)
        await asyncio.sleep(0)  # the sleeper wakes
        await clock.asleep()
        assert gauge.family().samples == (Sample((), 0.25),)
        clock.advance(1_000)
        await asyncio.sleep(0)
        await clock.asleep()
        assert gauge.family().samples == (Sample((), 0.0),)
        watcher.cancel()
    assert clock.asked == [1_000] * 3


@pytest.mark.spec("GC-OBS-010")
def test_counting_and_logging_load_no_library() -> None:
    code = (
        "import sys, goclaw.telemetry, goclaw.log, goclaw.secrets, goclaw.config\n"
        "heavy = {'prometheus_client', 'structlog', 'rich', 'pydantic', 'attr', 'asyncio', 'watchfiles'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
