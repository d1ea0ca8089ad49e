"""The short form of the drill on disks that fail and fill; the long one is `just drill-io --rounds 40`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system import drill_io
from tests.system.drills.command import Bounds
from tests.system.drills.short import assert_no_fault, need_layer


@pytest.mark.slow
@pytest.mark.spec("GC-REL-112")
@pytest.mark.spec("GC-REL-113")
def test_a_disk_that_fails_or_fills_costs_nothing_acknowledged_and_is_told(tmp_path: Path) -> None:
    need_layer()
    verdict = drill_io.drill(tmp_path, Bounds(rounds=5, seconds=40, seed=11), pretend=True)
    assert_no_fault(verdict)
    assert verdict.facts["full disks"] >= 1
    assert verdict.facts[f"refused with {drill_io.FULL}"] > 0
