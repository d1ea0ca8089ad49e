"""`goclaw status`: how the daemon is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import typer

from goclaw.cli import exits, screen
from goclaw.cli.app import JsonFlag, place, single
from goclaw.cli.screen import moment

SHOWN = 5
app = single("Show how the daemon is: work, agents, providers, policy.")


@app.command()
def status(ctx: typer.Context, as_json: JsonFlag = False) -> int:
    """Show how the daemon is: work, agents, providers, policy. Exit code 1 when it is not healthy."""
    told = place(ctx).call("system.status")
    if as_json:
        screen.data(told)
    else:
        screen.fields(_summary(told))
    return exits.OK if told["healthy"] else exits.FAILURE


def _summary(told: Mapping[str, Any]) -> dict[str, str]:
    work = (
        f"{told['running_tasks']} running, {told['queue_depth']} queued, {told['retry_wait']} waiting to retry, "
        f"{told['dead_letters']} dead letters"
    )
    held = ", ".join(f"{one['scope']} {one['name']}".strip() for one in told.get("paused") or [])
    return {
        "daemon": f"{'healthy' if told['healthy'] else 'not healthy'}, goclaw {told['version']}",
        "up": _span(told["uptime_ms"]),
        "work": work,
        "paused": held,
        "names": _names(told["concurrency"]),
        "rates": _rates(told["rates"]),
        "workers": f"{told['active_lanes']} of {told['worker_count']} busy",
        "agents": ", ".join(str(one["agent_id"]) for one in told["agents"]),
        "providers": ", ".join(str(one["name"]) for one in told["providers"]),
        "policy": str(told["policy_version"])[:12],
        "database": f"{told['db'].get('path', '')} ({told['db']['integrity']})",
        "disk": _disk(told["storage"]),
        "starts": _starts(told["starts"]),
        "last error": str(told.get("last_error") or ""),
    }


def _names(names: Sequence[Mapping[str, Any]]) -> str:
    """The names that somebody waits for, the fullest first."""
    full = sorted((one for one in names if one["waiting"]), key=lambda one: -one["waiting"])
    shown = [f"{one['name']} {one['running']} of {one['limit']} running, {one['waiting']} waiting" for one in full]
    return "; ".join(shown[:SHOWN]) + (f"; and {len(shown) - SHOWN} more" if len(shown) > SHOWN else "")


def _rates(rates: Sequence[Mapping[str, Any]]) -> str:
    """The rates that are used up."""
    used = [one for one in rates if not one["room"]]
    shown = [f"{one['agent_id']} {one['kind']} at {one['per_minute']} a minute" for one in used]
    return f"used up: {'; '.join(shown[:SHOWN])}" if shown else ""


def _disk(storage: Mapping[str, Any]) -> str:
    free = storage["free_bytes"]
    room = "" if free is None else f"{free / 1024**2:,.0f} MiB free"
    if storage["state"] == "full":
        return f"FULL since {moment(storage['full_since'])}: new work is refused until there is room ({room})"
    return f"low: {room}" if storage["state"] == "low" else room


def _starts(starts: Mapping[str, Any]) -> str:
    if not starts["crash_loop"]:
        return ""
    held = f"; schedules, and tasks that ran at one, wait until {moment(starts['held_until'])}"
    return f"CRASH LOOP: {starts['unclean_stops']} unclean stops within ten minutes{held if starts['hold_ms'] else ''}"


def _database(told: Mapping[str, Any]) -> str:
    size, free = (told.get(name, 0) / 1024**2 for name in ("file_bytes", "free_bytes"))
    left = told.get("unscrubbed_purges")
    rest = f"; {left} purged sessions not overwritten, run `goclaw compact`" if left else ""
    return f"{told.get('path', '')} ({size:.1f} MiB, {free:.1f} free inside){rest}"


def _span(ms: int) -> str:
    minutes, seconds = divmod(ms // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
