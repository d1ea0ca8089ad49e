"""`goclaw cron`: work that comes back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from goclaw.cli import exits, screen
from goclaw.cli.app import JsonFlag, group, place
from goclaw.cli.reading import json_object, moment_of, span_of
from goclaw.errors import BadRequest

app = group("List and change schedules; those of config.yaml are changed there.")

JobId = Annotated[str, typer.Argument(metavar="ID", help="The schedule.")]
LimitFlag = Annotated[int, typer.Option("--limit", help="At most so many.")]


@app.command("list")
def list_(ctx: typer.Context, limit: LimitFlag = 100, as_json: JsonFlag = False) -> int:
    """List the schedules."""
    page = place(ctx).call("cron.list", {"limit": limit})
    if as_json:
        screen.data(page)
    else:
        screen.table(("id", "when", "enabled", "next", "last", "kind"), [_row(job) for job in page["schedules"]])
    return exits.OK


@app.command()
def add(  # noqa: PLR0913 - each is an option
    ctx: typer.Context,
    job_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="Its id; one is made up without.")] = None,
    cron: Annotated[str | None, typer.Option("--cron", help='Five fields or an @alias: "0 8 * * 1-5".')] = None,
    every: Annotated[str | None, typer.Option("--every", help="An interval: 90s, 15m, 6h, 1d.")] = None,
    at: Annotated[str | None, typer.Option("--at", help="One moment: 2026-01-31T08:00, or ms since 1970.")] = None,
    zone: Annotated[str, typer.Option("--zone", help="The IANA time zone that --cron is read in.")] = "UTC",
    kind: Annotated[str, typer.Option("--kind", help="The kind of its tasks.")] = "chat",
    payload: Annotated[str | None, typer.Option("--payload", help="Their payload: JSON, @file, or -.")] = None,
    prompt: Annotated[str | None, typer.Option("--prompt", help="Short for --payload '{\"content\": ...}'.")] = None,
    agent: Annotated[str | None, typer.Option("--agent", help="The agent that does them.")] = None,
    session: Annotated[str | None, typer.Option("--session", help="The session they belong to.")] = None,
    priority: Annotated[int, typer.Option("--priority", help="-10 to 10.")] = 0,
    missed: Annotated[str, typer.Option("--missed", help="skip, coalesce or catch_up(N).")] = "coalesce",
    overlap: Annotated[str, typer.Option("--overlap", help="skip or allow.")] = "skip",
    as_json: JsonFlag = False,
) -> int:
    """Add a schedule. Exactly one of --cron, --every and --at says when."""
    if sum(one is not None for one in (cron, every, at)) != 1:
        raise BadRequest("give exactly one of --cron, --every and --at")
    params = {
        "id": job_id,
        "cron": cron,
        "every_ms": span_of(every, "--every") if every is not None else None,
        "at": moment_of(at) if at is not None else None,
        "zone": zone,
        "kind": kind,
        "payload": _payload(payload, prompt),
        "agent_id": agent,
        "session_id": session,
        "priority": priority,
        "missed": missed,
        "overlap": overlap,
    }
    return _changed(place(ctx).call("cron.add", params), as_json)


@app.command()
def remove(ctx: typer.Context, job_id: JobId, as_json: JsonFlag = False) -> int:
    """Remove a schedule; what it submitted stays."""
    answer = place(ctx).call("cron.remove", {"id": job_id})
    screen.data(answer) if as_json else screen.say(f"{job_id} is removed")
    return exits.OK


@app.command()
def enable(ctx: typer.Context, job_id: JobId, as_json: JsonFlag = False) -> int:
    """Let a schedule fire again, from now on."""
    return _changed(place(ctx).call("cron.enable", {"id": job_id}), as_json)


@app.command()
def disable(ctx: typer.Context, job_id: JobId, as_json: JsonFlag = False) -> int:
    """Let a schedule not fire until it is enabled."""
    return _changed(place(ctx).call("cron.disable", {"id": job_id}), as_json)


@app.command()
def run(ctx: typer.Context, job_id: JobId, as_json: JsonFlag = False) -> int:
    """Submit a run now, outside of the plan; print the task's id."""
    answer = place(ctx).call("cron.run", {"id": job_id})
    screen.data(answer) if as_json else screen.text(answer["task_id"])
    return exits.OK


@app.command("next")
def next_(ctx: typer.Context, job_id: JobId, limit: LimitFlag = 5, as_json: JsonFlag = False) -> int:
    """Show when a schedule will fire."""
    answer = place(ctx).call("cron.next", {"id": job_id, "limit": limit})
    if as_json:
        screen.data(answer)
    else:
        for one in answer["next"]:
            screen.text(_instant(one))
    return exits.OK


@app.command()
def history(ctx: typer.Context, job_id: JobId, limit: LimitFlag = 50, as_json: JsonFlag = False) -> int:
    """Show what became of past occurrences, newest first."""
    answer = place(ctx).call("cron.history", {"id": job_id, "limit": limit})
    if as_json:
        screen.data(answer)
    else:
        rows = [
            (
                screen.moment(one["planned_at"]),
                one["outcome"],
                one["count"],
                one.get("reason"),
                one.get("task_id"),
            )
            for one in answer["occurrences"]
        ]
        screen.table(("planned", "outcome", "count", "reason", "task"), rows)
    return exits.OK


def _payload(payload: str | None, prompt: str | None) -> Mapping[str, Any]:
    if payload is not None and prompt is not None:
        raise BadRequest("give --payload or --prompt, not both")
    if prompt is not None:
        return {"content": prompt}
    return json_object(payload, "--payload") if payload is not None else {}


def _changed(answer: Mapping[str, Any], as_json: bool) -> int:
    job = answer["schedule"]
    if as_json:
        screen.data(answer)
    else:
        screen.text(str(job["id"]))
        due = screen.moment(job.get("next_at"))
        screen.say(f"next at {due}" if due else "it will not fire")
    return exits.OK


def _row(job: Mapping[str, Any]) -> tuple[Any, ...]:
    due, last = screen.moment(job.get("next_at")), screen.moment(job.get("last_at"))
    return job["id"], _when(job), job["enabled"], due, last, job.get("kind")


def _when(job: Mapping[str, Any]) -> str:
    if job.get("cron"):
        return f"{job['cron']} {job.get('zone') or ''}".strip()
    if job.get("every_ms"):
        return f"every {job['every_ms'] / 1000:g} s"
    return f"at {screen.moment(job.get('at'))}"


def _instant(one: Any) -> str:
    if isinstance(one, Mapping):
        return str(one.get("local") or screen.moment(one.get("at")) or json.dumps(one))
    return screen.moment(one)
