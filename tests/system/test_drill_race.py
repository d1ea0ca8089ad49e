"""The short form of the drill with two of what there must be one of; the long one is `just drill-race --rounds 40`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system import drill_race
from tests.system.drills.command import Bounds
from tests.system.drills.short import assert_no_fault, need_layer


@pytest.mark.slow
@pytest.mark.spec("GC-REL-115")
def test_a_second_daemon_touches_nothing_and_a_zombie_counts_for_nothing(tmp_path: Path) -> None:
    need_layer()
    verdict = drill_race.drill(tmp_path, Bounds(rounds=4, seconds=40, seed=11))
    assert_no_fault(verdict)
    assert verdict.facts["second daemons refused"] >= 3
