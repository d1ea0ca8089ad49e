"""`goclaw task`: submit work, look at it, wait for it, settle it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from goclaw.cli import exits, screen
from goclaw.cli.app import JsonFlag, group, place
from goclaw.cli.batches import submissions, submit_batches
from goclaw.cli.place import Place
from goclaw.cli.reading import json_object, json_value, milliseconds, since
from goclaw.cli.submission import Submission
from goclaw.cli.telling import told_while
from goclaw.cli.watching import watch_tasks
from goclaw.client import Client
from goclaw.errors import BadRequest

app = group("Submit tasks, look at them, wait for them, retry them.")

TaskId = Annotated[str, typer.Argument(metavar="TASK_ID", help="The task.")]
StateFilter = Annotated[str | None, typer.Option("--state", help="QUEUED, RUNNING, FAILED, ...")]
KindFilter = Annotated[str | None, typer.Option("--kind", help="chat, exec, skill, tool or noop.")]
SessionFilter = Annotated[str | None, typer.Option("--session", help="The session.")]
AgentFilter = Annotated[str | None, typer.Option("--agent", help="The agent.")]
SinceFilter = Annotated[str | None, typer.Option("--since", help="Created since: 90s, 2h, 3d ago, or a date.")]
COLUMNS = ("id", "kind", "state", "attempt", "agent", "created", "note")


@app.command()
def submit(  # noqa: PLR0913 - each is an option
    ctx: typer.Context,
    kind: Annotated[str, typer.Option("--kind", help="chat, exec, skill, tool or noop.")],
    payload: Annotated[str | None, typer.Option("--payload", help="JSON, @file, or - for stdin.")] = None,
    session: Annotated[str | None, typer.Option("--session", help="The session it belongs to.")] = None,
    agent: Annotated[str | None, typer.Option("--agent", help="The agent that does it.")] = None,
    key: Annotated[str | None, typer.Option("--key", help="Idempotency key: same key, same task.")] = None,
    priority: Annotated[int, typer.Option("--priority", help="-10 to 10.")] = 0,
    delay: Annotated[float, typer.Option("--delay", min=0, help="Seconds before it may start.")] = 0,
    deadline: Annotated[float | None, typer.Option("--deadline", min=0, help="Seconds until it must be over.")] = None,
    concurrency_key: Annotated[
        str | None, typer.Option("--concurrency-key", help="Tasks with this name run so many at once as configured.")
    ] = None,
    unique_key: Annotated[
        str | None, typer.Option("--unique-key", help="One unfinished task with this name at most.")
    ] = None,
    parent: Annotated[
        str | None, typer.Option("--parent", help="The task it stands below and is canceled with.")
    ] = None,
    max_attempts: Annotated[int, typer.Option("--max-attempts", help="Attempts in all.")] = 3,
    timeout: Annotated[float | None, typer.Option("--timeout", min=0, help="Seconds an attempt may take.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end and print the task.")] = False,
    argv: Annotated[list[str] | None, typer.Argument(help="After --: the program and its arguments.")] = None,
    as_json: JsonFlag = False,
) -> int:
    """Submit a task; print its id when it is stored."""
    given = json_object(payload, "--payload") if payload is not None else {}
    new = Submission(
        kind=kind,
        payload=_with_argv(kind, given, argv or []),
        session_id=session,
        agent_id=agent,
        idempotency_key=key,
        priority=priority,
        delay_ms=milliseconds(delay) or 0,
        max_attempts=max_attempts,
        timeout_ms=milliseconds(timeout),
        deadline_ms=milliseconds(deadline),
        concurrency_key=concurrency_key,
        unique_key=unique_key,
        parent_task_id=parent,
    )
    here = place(ctx)
    if wait:
        return _finished(here.run(new.done), as_json)
    answer = here.call(new.method, new.params())
    if as_json:
        screen.data(answer)
    else:
        screen.text(answer["task_id"])
        if answer["deduplicated"]:
            screen.say(f"known by its key; it is {answer['state']}")
    return exits.OK


@app.command("list")
def list_(  # noqa: PLR0913 - each is an option
    ctx: typer.Context,
    state: StateFilter = None,
    kind: KindFilter = None,
    session: SessionFilter = None,
    agent: AgentFilter = None,
    created: SinceFilter = None,
    limit: Annotated[int, typer.Option("--limit", help="At most so many, newest first.")] = 50,
    as_json: JsonFlag = False,
) -> int:
    """List tasks, newest first."""
    here = place(ctx)
    params = _filters(here, state, kind, session, agent, created) | {"limit": limit}
    page = here.call("task.list", params)
    if as_json:
        screen.data(page)
    else:
        screen.table(COLUMNS, [_row(task) for task in page["tasks"]])
        if page.get("next_cursor"):
            screen.say(f"there are more; --limit {min(limit * 10, 500)} shows more")
    return exits.OK


@app.command()
def show(ctx: typer.Context, task_id: TaskId, as_json: JsonFlag = False) -> int:
    """Show one task."""
    task = place(ctx).call("task.get", {"task_id": task_id})
    screen.data(task) if as_json else screen.fields(task)
    return exits.OK


@app.command()
def steps(ctx: typer.Context, task_id: TaskId, as_json: JsonFlag = False) -> int:
    """Show the journal of a task: what was begun, and how it ended."""
    found = place(ctx).call("task.steps", {"task_id": task_id})
    if as_json:
        screen.data(found)
    else:
        rows = [
            (one["id"], one["seq"], one["kind"], one["state"], one.get("effect"), one.get("tool"))
            for one in found["steps"]
        ]
        screen.table(("id", "seq", "kind", "state", "effect", "tool"), rows)
    return exits.OK


@app.command()
def events(
    ctx: typer.Context,
    task_id: TaskId,
    start: Annotated[int | None, typer.Option("--from", help="Only events behind this id.")] = None,
    as_json: JsonFlag = False,
) -> int:
    """Show what happened to a task."""
    found = place(ctx).call("task.events", {"task_id": task_id, "from_event_id": start})
    if as_json:
        screen.data(found)
    else:
        screen.table(("event", "type", "from", "to", "at", "told"), [_event_row(one) for one in found["events"]])
    return exits.OK


@app.command()
def cancel(
    ctx: typer.Context,
    task_id: TaskId,
    reason: Annotated[str | None, typer.Option("--reason", help="Why; shown in the task.")] = None,
    as_json: JsonFlag = False,
) -> int:
    """Cancel a task and all below it; running ones are waited for. Exit code 1 when it had ended otherwise."""
    answer = place(ctx).call("task.cancel", {"task_id": task_id, "reason": reason})
    if as_json:
        screen.data(answer)
    else:
        below = f", and {answer['descendants']} below it" if answer.get("descendants") else ""
        screen.say(("canceled" if answer["canceled"] else f"not canceled: it is {answer['state']}") + below)
    return exits.OK if answer["canceled"] else exits.FAILURE


@app.command()
def retry(  # noqa: PLR0913 - each is an option
    ctx: typer.Context,
    task_ids: Annotated[list[str] | None, typer.Argument(metavar="[TASK_ID]...", help="The tasks.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every resting task that the filters name.")] = False,
    state: StateFilter = None,
    kind: KindFilter = None,
    session: SessionFilter = None,
    agent: AgentFilter = None,
    created: SinceFilter = None,
    as_json: JsonFlag = False,
) -> int:
    """Put failed, canceled or dead tasks back into the queue; what they have done is not done again.

    Exit code 1 when one that was named could not be put back.
    """
    here = place(ctx)
    filters = _filters(here, state, kind, session, agent, created)
    if every == bool(task_ids) or (task_ids and filters):
        raise BadRequest("name tasks, or --all with filters")
    if task_ids and len(task_ids) == 1:
        task = here.call("task.retry", {"task_id": task_ids[0]})
        screen.data(task) if as_json else screen.say(f"{task['state']} again")
        return exits.OK
    if not task_ids and not filters:
        raise BadRequest("--all needs a filter: --state, --kind, --session, --agent or --since")
    answer = here.call("task.retry_many", {"task_ids": task_ids} if task_ids else filters)
    if as_json:
        screen.data(answer)
    else:
        screen.say(f"{answer['count']} tasks are queued again, {answer['skipped']} could not be")
        screen.table(("id", "why"), [(one["task_id"], one["message"]) for one in answer["refused"]])
    return exits.FAILURE if task_ids and answer["skipped"] else exits.OK


@app.command()
def snooze(
    ctx: typer.Context,
    task_id: TaskId,
    delay: Annotated[float, typer.Option("--delay", min=0, help="Seconds to wait from now on.")],
    as_json: JsonFlag = False,
) -> int:
    """Let a task that waits in the queue wait for so long from now on. A running one cannot."""
    task = place(ctx).call("task.snooze", {"task_id": task_id, "delay_ms": milliseconds(delay)})
    screen.data(task) if as_json else screen.say(f"waits until {screen.moment(task['available_at'])}")
    return exits.OK


@app.command("submit-many")
def submit_many(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(metavar="FILE|-", help="JSON lines, each as task.submit takes it.")],
    as_json: JsonFlag = False,
) -> int:
    """Submit a task for each line; print their ids. Up to 1,000 lines are stored all or none."""
    batches = submissions(source)
    return place(ctx).run(lambda client: submit_batches(client, batches, as_json))


@app.command()
def resolve(
    ctx: typer.Context,
    task_id: TaskId,
    outcome: Annotated[str, typer.Argument(metavar="done|not_done", help="What really happened.")],
    step: Annotated[int | None, typer.Option("--step", help="The step, where several are unknown.")] = None,
    result: Annotated[str | None, typer.Option("--result", help="Its result: JSON, @file, or -.")] = None,
    as_json: JsonFlag = False,
) -> int:
    """Say how an effect ended whose outcome is unknown. Changes no state; `task retry` goes on from there."""
    if outcome not in ("done", "not_done"):
        raise BadRequest(f"the outcome is done or not_done, not {outcome!r}")
    told = json_value(result, "--result") if result is not None else None
    params = {"task_id": task_id, "outcome": outcome, "step_id": step, "result": told}
    task = place(ctx).call("task.resolve", params)
    screen.data(task) if as_json else screen.say(f"noted; the task is {task['state']}")
    return exits.OK


@app.command()
def wait(
    ctx: typer.Context,
    task_id: TaskId,
    timeout: Annotated[float | None, typer.Option("--timeout", min=0, help="Seconds to wait.")] = None,
    as_json: JsonFlag = False,
) -> int:
    """Wait for the end of a task. Exit code 7 when the time is over; the task goes on."""

    async def ended(client: Client) -> Mapping[str, Any]:
        return await told_while(client, task_id, client.wait(task_id, milliseconds(timeout)))

    return _finished(place(ctx).run(ended), as_json)


@app.command()
def watch(
    ctx: typer.Context,
    task_id: Annotated[str | None, typer.Argument(metavar="[TASK_ID]", help="One task; without, all.")] = None,
    as_json: JsonFlag = False,
) -> int:
    """Show events as they happen: of one task until its end, of all until Ctrl-C."""
    return place(ctx).run(lambda client: watch_tasks(client, task_id, as_json))


def _with_argv(kind: str, payload: Mapping[str, Any], argv: list[str]) -> Mapping[str, Any]:
    if not argv:
        return payload
    if kind != "exec":
        raise BadRequest(f"words after -- are a program for --kind exec, not for {kind}")
    return {**payload, "argv": argv}


def _filters(
    here: Place,
    state: str | None,
    kind: str | None,
    session: str | None,
    agent: str | None,
    created: str | None,
) -> dict[str, Any]:
    named = {
        "state": state.upper() if state else None,
        "kind": kind,
        "session_id": session,
        "agent_id": agent,
        "since": since(created, here.clock.wall()),
    }
    return {name: value for name, value in named.items() if value is not None}


def _finished(task: Mapping[str, Any], as_json: bool) -> int:
    screen.data(task) if as_json else screen.fields(task)
    return exits.of_task(task)


def _row(task: Mapping[str, Any]) -> tuple[Any, ...]:
    note = task.get("error_code") or task.get("wait_reason") or ""
    attempt = f"{task['attempt']}/{task['max_attempts']}"
    created = screen.moment(task["created_at"])
    return task["id"], task["kind"], task["state"], attempt, task["agent_id"], created, note


def _event_row(event: Mapping[str, Any]) -> tuple[Any, ...]:
    told = screen.short(event["payload"]) if event["payload"] else ""
    at = screen.moment(event["created_at"])
    return event["event_id"], event["event_type"], event["state_from"], event["state_to"], at, told
