"""A part that fails is started again; one that is needed ends the daemon."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from goclaw.daemon.supervisor import Supervisor
from goclaw.errors import GoclawError
from goclaw.log import get_logger
from tests.fakes_clock import FakeClock


class Told:
    """What the supervisor said."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []
        self.given_up: list[GoclawError] = []
        self.judged: list[str] = []

    def judge(self, error: BaseException) -> None:
        self.judged.append(str(error))

    def emit(self, event_type: str, payload: Any, *, task_id: str | None = None, session_id: str | None = None) -> None:
        self.events.append((event_type, payload))


def _supervisor(clock: FakeClock, told: Told) -> Supervisor:
    return Supervisor(
        clock, get_logger("test"), told.emit, told.given_up.append, lambda one: told.judged.append(str(one))
    )


@pytest.mark.spec("GC-RUN-020")
async def test_a_part_that_fails_is_started_again_after_a_wait_that_doubles() -> None:
    clock, told, starts = FakeClock(), Told(), []

    async def part() -> None:
        starts.append(clock.monotonic())
        raise ValueError("broken")

    running = asyncio.get_running_loop().create_task(_supervisor(clock, told).keep("part", part))
    for wait in (1_000, 2_000, 4_000):
        await clock.asleep()
        clock.advance(wait)
    await clock.asleep()
    running.cancel()
    assert [later - earlier for earlier, later in pairwise(starts)] == [1_000, 2_000, 4_000]
    assert [event for event, _ in told.events] == ["system.part_failed"] * 4
    assert told.events[0][1] == {"part": "part", "error": "ValueError", "restart_in_ms": 1_000}


@pytest.mark.spec("GC-RUN-020")
async def test_a_part_that_is_needed_ends_the_daemon() -> None:
    told = Told()

    async def part() -> None:
        raise ValueError("broken")

    await _supervisor(FakeClock(), told).need("workers", part)
    assert [error.message for error in told.given_up] == ["workers failed: ValueError"]


@pytest.mark.spec("GC-REL-208")
async def test_every_failure_is_judged_for_one_that_must_not_be_outlived() -> None:
    clock, told = FakeClock(), Told()

    async def part() -> None:
        raise ValueError("damaged")

    running = asyncio.get_running_loop().create_task(_supervisor(clock, told).keep("part", part))
    await clock.asleep()
    running.cancel()
    await _supervisor(clock, told).need("workers", part)
    assert told.judged == ["damaged", "damaged"]
