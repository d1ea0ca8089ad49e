"""The ring over a log with holes, and what it forgets."""

from __future__ import annotations

from dataclasses import replace

import pytest

from goclaw.bus import Bus
from goclaw.core.event import Event

PLAIN = Event(
    event_id=0,
    event_type="task.progress",
    task_id=None,
    session_id=None,
    state_from=None,
    state_to=None,
    run_id=None,
    trace_id=None,
    payload={"said": "once"},
    created_at=0,
)


class Log:
    """Events by id, some of them gone."""

    def __init__(self, *ids: int) -> None:
        self.ids = list(ids)
        self.said = "once"
        self.reads = 0

    async def read(self, cursor: int, limit: int) -> list[Event]:
        self.reads += 1
        found = [one for one in self.ids if one > cursor][:limit]
        return [replace(PLAIN, event_id=one, payload={"said": self.said}) for one in found]


def told(events: list[Event]) -> list[int]:
    return [event.event_id for event in events]


async def all_behind(bus: Bus, cursor: int) -> list[int]:
    """Everything behind a cursor, page by page, as a reader asks."""
    found: list[int] = []
    while page := told(await bus.after(cursor)):
        found += page
        cursor = page[-1]
    return found


@pytest.mark.spec("GC-DATA-317")
@pytest.mark.parametrize("ids", [(3, 4, 9, 10, 20, 21, 22), (22,), (1, 22), tuple(range(1, 23)), (20, 22)])
async def test_every_cursor_is_told_all_that_is_kept_behind_it(ids: tuple[int, ...]) -> None:
    log = Log(*ids)
    bus = Bus(log.read)
    with bus.subscribe(lambda _: False):
        for cursor in (0, *ids, *ids, 0):
            assert await all_behind(bus, cursor) == [one for one in ids if one > cursor]
        log.ids += [30, 31]
        bus.ring()
        for cursor in (0, *ids, 30, 31):
            assert await all_behind(bus, cursor) == [one for one in log.ids if one > cursor]


@pytest.mark.spec("GC-DATA-317")
async def test_after_a_purge_the_ring_tells_what_the_table_says_now() -> None:
    log = Log(1, 2, 3)
    bus = Bus(log.read)
    with bus.subscribe(lambda _: False):
        assert [event.payload["said"] for event in await bus.after(0)] == ["once"] * 3
        log.said = "gone"
        await bus.forget()
        assert [event.payload["said"] for event in await bus.after(0)] == ["gone"] * 3
        assert await bus.after(3) == []
        log.ids.append(4)
        bus.ring()
        assert told(await bus.after(3)) == [4]
