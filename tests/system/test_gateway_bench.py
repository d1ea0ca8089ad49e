"""The bench of the gateway runs, verifies its counts and prints its figures; no figure is a test."""

from __future__ import annotations

import pytest

from benchmarks import gateway_fanout, gateway_idle, gateway_submits
from benchmarks.gateway import Figure


@pytest.mark.spec("GC-PERF-202")
def test_what_clients_were_told_is_stored_is_in_the_database_after_a_kill() -> None:
    rate = gateway_submits.submits(4, 5, working=True)
    assert rate.per_second > 0


@pytest.mark.spec("GC-PERF-203")
def test_readers_are_told_everything_live_and_replayed() -> None:
    assert gateway_fanout.written(3, 600).per_second > 0
    taken, _ = gateway_fanout.replay(1_000, 2)
    assert len(taken) == 2


@pytest.mark.spec("GC-PERF-204")
def test_an_idle_connection_is_weighed() -> None:
    seen = gateway_idle.idle(50, subscribed=True)
    assert 0 < seen.added < 1_000_000


@pytest.mark.spec("GC-PERF-201")
def test_a_figure_stands_beside_its_goal() -> None:
    assert "| reached |" in Figure("x", 3_001, "/s", 3_000).row()
    assert "| missed |" in Figure("x", 51, "ms", 50, most=True).row()
    assert "| at most 36 KB | 19.9 KB | reached |" in Figure("x", 19.9, "KB", 36, most=True).row()
