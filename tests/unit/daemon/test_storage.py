"""What goes on while the disk is full, and who is told."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from goclaw.core.access import Access, Decision, Verdict
from goclaw.core.agent import Agent
from goclaw.daemon import storage as storage_module
from goclaw.daemon.storage import ENDING, GLANCE_MS, Storage
from goclaw.errors import StoreFull
from goclaw.log import get_logger
from goclaw.telemetry import Metrics
from tests.fakes_clock import START, FakeClock

MARK = 1_000


class Place:
    """A storage on a disk of which the test says how full it is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.free: int | None = 1_000_000
        monkeypatch.setattr(storage_module, "free_bytes", lambda _: self.free)
        self.clock = FakeClock()
        self.events: list[tuple[str, Any]] = []
        self.metrics = Metrics()
        self.storage = Storage(tmp_path, self.clock, get_logger("test"), self.metrics, lambda: MARK)

    def emit(self, event_type: str, payload: Any, *, task_id: str | None = None, session_id: str | None = None) -> None:
        self.events.append((event_type, payload))

    @property
    def told(self) -> list[str]:
        return [event_type for event_type, _ in self.events]


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Place:
    made = Place(monkeypatch, tmp_path)
    made.storage.open(made.emit)
    return made


def allow(access: Access, *, pinned: str | None = None, task_id: str | None = None) -> Decision:
    return Decision(Verdict.ALLOW, "", "p")


@pytest.mark.spec("GC-REL-203")
async def test_a_full_disk_is_told_once_with_the_instant_and_so_is_its_end(place: Place) -> None:
    place.storage.told(True)
    place.clock.advance(5_000)
    place.storage.told(True)
    now = place.storage.now
    assert (now.state, now.full_since) == ("full", START)
    assert now.as_json()["full_since"] == START
    rung: list[int] = []
    place.storage.listen(lambda: rung.append(1))
    place.storage.told(False)
    assert (place.storage.now.state, rung) == ("ample", [1])
    assert place.told == ["storage.full", "storage.room"]
    assert place.events[-1][1]["full_ms"] == 5_000
    place.storage.told(False)
    assert len(place.events) == 2


@pytest.mark.spec("GC-REL-203")
async def test_a_disk_that_was_full_before_events_could_be_told_is_told_then(place: Place) -> None:
    place.events.clear()
    early = Storage(Path(), place.clock, get_logger("test"), Metrics(), lambda: MARK)
    early.told(True)
    assert place.events == []
    early.open(place.emit)
    assert place.told == ["storage.full"]


@pytest.mark.spec("GC-REL-205")
async def test_low_space_is_told_when_it_comes_and_when_it_is_well_over(place: Place) -> None:
    place.free = MARK - 1
    place.storage.glance()
    assert (place.told, place.storage.now.state) == (["storage.low"], "low")
    place.free = MARK
    place.clock.advance(GLANCE_MS)
    place.storage.glance()
    assert place.told == ["storage.low"], "hardly above its mark it may come back at once"
    place.free = 2 * MARK
    place.storage.glance()
    assert place.told == ["storage.low"], "looked at just now"
    place.clock.advance(GLANCE_MS)
    place.storage.glance()
    assert place.told == ["storage.low", "storage.ample"]


@pytest.mark.spec("GC-REL-205")
async def test_where_the_system_does_not_tell_nothing_is_low(place: Place) -> None:
    place.free = None
    place.storage.look()
    assert (place.told, place.storage.now.state, place.storage.now.as_json()["free_bytes"]) == ([], "ample", None)


@pytest.mark.spec("GC-REL-201")
@pytest.mark.parametrize("method", ["task.submit", "task.submit_many", "agent.chat", "session.create", "cron.run"])
async def test_on_a_full_disk_a_client_that_would_start_something_is_refused(place: Place, method: str) -> None:
    door = place.storage.door(allow)
    assert door(Access("client", "acp.mutate", method)).allowed
    place.storage.told(True)
    with pytest.raises(StoreFull) as refused:
        door(Access("client", "acp.mutate", method))
    assert refused.value.data == {"since": START, "retry_after_ms": 5_000}
    assert refused.value.retryable
    place.storage.told(False)
    assert door(Access("client", "acp.mutate", method)).allowed


@pytest.mark.spec("GC-REL-202")
async def test_on_a_full_disk_reading_ending_and_running_work_pass_the_door(place: Place) -> None:
    door = place.storage.door(allow)
    place.storage.told(True)
    assert {"task.cancel", "agent.abort", "system.pause", "session.purge"} <= ENDING
    for method in ENDING:
        assert door(Access("client", "acp.mutate", method)).allowed
    assert door(Access("client", "acp.read", "task.list")).allowed
    assert door(Access("agent:default", "tools.exec", "ls")).allowed


@pytest.mark.spec("GC-REL-204")
async def test_on_a_full_disk_no_lane_has_a_worker(place: Place) -> None:
    agents = {"default": Agent(id="default", display_name="", soul="", worker_count=4)}
    assert place.storage.lanes(agents) is agents
    place.storage.told(True)
    assert [agent.worker_count for agent in place.storage.lanes(agents).values()] == [0]
    place.storage.told(False)
    assert place.storage.lanes(agents) is agents


@pytest.mark.spec("GC-REL-204")
async def test_schedules_stand_still_on_a_full_disk_and_go_on_after_it(place: Place) -> None:
    runs: asyncio.Queue[str] = asyncio.Queue()

    async def part() -> None:
        runs.put_nowait("begun")
        try:
            await asyncio.Event().wait()
        finally:
            runs.put_nowait("ended")

    async with asyncio.TaskGroup() as group:
        keeping = group.create_task(place.storage.while_room(part))
        assert await runs.get() == "begun"
        place.storage.told(True)
        assert await runs.get() == "ended"
        place.storage.told(False)
        assert await runs.get() == "begun"
        keeping.cancel()
    assert runs.get_nowait() == "ended"


@pytest.mark.spec("GC-REL-204")
async def test_a_part_that_fails_or_ends_is_not_held_by_the_disk(place: Place) -> None:
    async def failing() -> None:
        raise ValueError("broken")

    async def ending() -> None:
        return None

    with pytest.raises(ValueError, match="broken"):
        await place.storage.while_room(failing)
    await place.storage.while_room(ending)
