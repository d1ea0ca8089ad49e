"""The short form of the soak, and what it takes for growth; the long one is `just drill-soak --minutes 60`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system import drill_soak
from tests.system.drills.books import Verdict
from tests.system.drills.command import Bounds
from tests.system.drills.short import assert_no_fault


@pytest.mark.slow
@pytest.mark.spec("GC-REL-116")
def test_under_mixed_load_nothing_grows_beyond_its_limit(tmp_path: Path) -> None:
    verdict = drill_soak.drill(tmp_path, Bounds(rounds=1, seconds=6, seed=11))
    assert_no_fault(verdict)
    assert verdict.facts["events followed"] > 100


def judged(*sizes: int) -> Verdict:
    verdict = Verdict(drill_soak.UNBOUNDED)
    samples = [drill_soak.Sample(rss_kib=size, files=20, threads=9, wal_kib=0, ping_ms=1.0) for size in sizes]
    drill_soak.judge(drill_soak.LIMITS[0], samples, verdict)
    return verdict


def test_memory_that_keeps_growing_is_a_fault_long_before_its_limit() -> None:
    assert judged(*range(50_000, 150_000, 1_000)).found


def test_memory_that_grows_while_it_settles_and_then_stays_is_none() -> None:
    assert not judged(*range(50_000, 75_000, 1_000), *[75_000] * 75).found


def test_one_sample_above_the_limit_is_a_fault() -> None:
    assert judged(50_000, 300_000, 50_000).found
