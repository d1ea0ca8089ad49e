"""The short forms of the kill drill; the long ones: `just drill-kill --rounds 200`, `just drill-kill --points`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.drill_kill import at_points, at_random
from tests.system.drills.command import Bounds
from tests.system.drills.short import assert_no_fault, need_layer

pytestmark = pytest.mark.slow


@pytest.mark.spec("GC-PER-026")
def test_kills_under_load_lose_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    verdict = at_random(tmp_path, Bounds(rounds=7, seconds=25, seed=11))
    assert_no_fault(verdict)
    assert verdict.facts["acknowledged"] > 50
    assert verdict.facts["effects in the outside ledger"] > 10


@pytest.mark.spec("GC-REL-110")
def test_a_kill_at_any_write_sync_truncation_or_removal_of_the_database_loses_and_repeats_nothing(
    tmp_path: Path,
) -> None:
    need_layer()
    verdict = at_points(tmp_path, Bounds(rounds=6, seconds=25, seed=11), stride=1_000)
    assert_no_fault(verdict)
    assert verdict.facts["killed at their point"] >= 4, verdict.table()
