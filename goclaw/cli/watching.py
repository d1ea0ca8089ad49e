"""Events as they happen, a line each."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import asdict
from typing import Any, Literal

from goclaw.cli import exits, screen
from goclaw.client import Client, Link, event_of
from goclaw.core.event import Event
from goclaw.core.task import TERMINAL


async def watch_tasks(client: Client, task_id: str | None, as_json: bool) -> int:
    """Show the events of one task until it is terminal (the exit code says how it ended), or all of them."""
    cursor: int | Literal["latest"] = "latest"
    if task_id is not None:
        known = [event_of(one) for one in (await client.call("task.events", {"task_id": task_id}))["events"]]
        for event in known:
            _show(event, as_json)
        moves = [event.state_to for event in known if event.state_to is not None]
        if not moves or moves[-1] in TERMINAL:
            return exits.of_task(await client.call("task.get", {"task_id": task_id}))
        cursor = known[-1].event_id
    async with aclosing(client.subscribe("*", cursor, on_link=_tell_link)) as stream:
        async for item in stream:
            if not isinstance(item, Event) or task_id not in (None, item.task_id):
                continue
            _show(item, as_json)
            if task_id is not None and item.state_to in TERMINAL:
                task = await client.call("task.get", {"task_id": task_id})
                if task["state"] in TERMINAL:
                    return exits.of_task(task)
    return exits.OK


def line(event: Event) -> str:
    """An event on one line."""
    moved = f"{event.state_from or '-'} -> {event.state_to}" if event.state_to else ""
    about = event.task_id or event.session_id or ""
    told = screen.short(dict(event.payload), 100) if event.payload else ""
    parts = (screen.moment(event.created_at), str(event.event_id), event.event_type, moved, about, told)
    return "  ".join(part for part in parts if part)


def _show(event: Event, as_json: bool) -> None:
    if as_json:
        shown: dict[str, Any] = asdict(event)
        screen.data(shown)
    else:
        screen.text(line(event))


def _tell_link(link: Link) -> None:
    if not link.up:
        screen.say(f"{link.reason}; trying again")
