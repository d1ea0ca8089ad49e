"""The short form of the drill with clocks that jump; the long one is `just drill-clock --rounds 40`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system import drill_clock
from tests.system.drills.command import Bounds
from tests.system.drills.short import assert_no_fault, need_layer


@pytest.mark.slow
@pytest.mark.spec("GC-REL-114")
def test_clocks_that_jump_move_no_lease_repeat_no_work_and_double_no_schedule(tmp_path: Path) -> None:
    need_layer()
    verdict = drill_clock.drill(tmp_path, Bounds(rounds=3, seconds=30, seed=11))
    assert_no_fault(verdict)
    assert verdict.facts["planned instants"] > drill_clock.JUMP_S
