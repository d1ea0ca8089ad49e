"""`goclaw status`: how the daemon is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from goclaw.cli import exits, screen
from goclaw.cli.app import JsonFlag, place, single

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
        "workers": f"{told['active_lanes']} of {told['worker_count']} busy",
        "agents": ", ".join(str(one["agent_id"]) for one in told["agents"]),
        "providers": ", ".join(str(one["name"]) for one in told["providers"]),
        "policy": str(told["policy_version"])[:12],
        "database": str(told["db"].get("path", "")),
        "last error": str(told.get("last_error") or ""),
    }


def _span(ms: int) -> str:
    minutes, seconds = divmod(ms // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
