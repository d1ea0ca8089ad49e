"""A budget that does not hold is said not to hold."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace

import pytest

from goclaw.cli.bench import Measured
from tests.unit.cli.conftest import Goclaw

bench = importlib.import_module("goclaw.cli.bench")
GOOD = Measured(name="cold start to ready", unit="ms", median=400, runs=(400,), budget=500, bare_python=10, holds=True)


@pytest.mark.spec("GC-PERF-101")
@pytest.mark.parametrize("holds", [True, False])
async def test_the_verdict_is_the_exit_code(goclaw: Goclaw, monkeypatch: pytest.MonkeyPatch, holds: bool) -> None:
    monkeypatch.setattr(bench, "measure", lambda *_: (GOOD, replace(GOOD, holds=holds)))
    ended = await goclaw("bench", "--json")
    assert (ended.code, json.loads(ended.out)["holds"]) == (0 if holds else 1, holds)
    plain = await goclaw("bench")
    assert ("DOES NOT HOLD" in plain.out) is not holds
    assert "40.0x" in plain.out
