"""The short form of the kill drill; the long one is `just drill-kill --rounds 200`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.drill_kill import Drill


@pytest.mark.slow
@pytest.mark.spec("GC-PER-026")
def test_ten_kills_under_load_lose_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    verdict = Drill(tmp_path, seed=11).run(rounds=10, seconds=30)
    assert verdict.faults == {name: [] for name in verdict.faults}, verdict.table()
    assert verdict.acknowledged > 100
    assert verdict.effects > 20
