"""Progress for somebody who sits there: what a task does while one waits for it, on stderr."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import aclosing
from typing import TypeVar

from goclaw.cli import screen
from goclaw.client import Client, event_of
from goclaw.core.event import Event
from goclaw.errors import ClientError

T = TypeVar("T")


async def told_while(client: Client, task_id: str, work: Awaitable[T]) -> T:
    """The outcome of `work`; meanwhile the steps of `task_id` are told, when somebody sits there."""
    if not screen.talkative():
        return await work
    failure: ClientError | None = None
    async with asyncio.TaskGroup() as group:
        telling = group.create_task(_tell(client, task_id))
        try:
            return await work
        except ClientError as error:
            failure = error  # raised below: a task group would wrap it
        finally:
            telling.cancel()
    raise failure


async def _tell(client: Client, task_id: str) -> None:
    try:
        known = [event_of(one) for one in (await client.call("task.events", {"task_id": task_id}))["events"]]
        for event in known:
            _say(event)
        async with aclosing(client.subscribe("*", known[-1].event_id if known else "latest")) as stream:
            async for item in stream:
                if isinstance(item, Event) and item.task_id == task_id:
                    _say(item)
    except ClientError:
        return  # progress is a courtesy; the answer comes another way


def _say(event: Event) -> None:
    if words := sentence(event):
        screen.say(words)


def sentence(event: Event) -> str | None:
    """An event of a task in words; None when it says nothing to a person who waits."""
    told = event.payload
    tool = told.get("tool")
    match event.event_type:
        case "step.running" if tool:
            return f"  \u00b7 {tool} ..."
        case "step.failed" if tool:
            return f"  \u00b7 {tool} failed"
        case "step.unknown" if tool:
            return f"  \u00b7 {tool}: whether it happened is not known"
        case "task.retry_wait":
            return f"  \u00b7 waiting ({told.get('wait_reason')}): {screen.short(told.get('error') or '')}"
        case "task.recovered":
            return "  \u00b7 taken up again after the daemon stopped"
    return None
