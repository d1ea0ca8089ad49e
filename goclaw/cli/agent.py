"""`goclaw agent`: who answers."""

from __future__ import annotations

from typing import Annotated

import typer

from goclaw.cli import exits, screen
from goclaw.cli.app import JsonFlag, group, place

app = group("Look at the agents; they are configured in config.yaml.")


@app.command("list")
def list_(ctx: typer.Context, as_json: JsonFlag = False) -> int:
    """List the agents."""
    found = place(ctx).call("agent.list")
    if as_json:
        screen.data(found)
    else:
        rows = [
            (
                one["agent_id"],
                one["display_name"],
                one["model"],
                ", ".join(one["providers"]),
                one["worker_count"],
            )
            for one in found["agents"]
        ]
        screen.table(("agent", "name", "model", "providers", "workers"), rows)
    return exits.OK


@app.command()
def show(
    ctx: typer.Context,
    agent_id: Annotated[str, typer.Argument(metavar="AGENT_ID", help="The agent.")],
    as_json: JsonFlag = False,
) -> int:
    """Show one agent: its model, its tools, its work."""
    found = place(ctx).call("agent.status", {"agent_id": agent_id})
    screen.data(found) if as_json else screen.fields(found)
    return exits.OK
