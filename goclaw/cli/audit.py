"""`goclaw audit`: what was allowed and refused."""

from __future__ import annotations

from typing import Annotated

import typer

from goclaw.cli import exits, screen
from goclaw.cli.app import JsonFlag, group, place

app = group("Look at what was allowed and refused, and by which policy.")


@app.command()
def tail(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option("-n", "--limit", help="The newest so many.")] = 50,
    as_json: JsonFlag = False,
) -> int:
    """Show the newest decisions, oldest first; with --json a decision a line."""
    rows = place(ctx).call("audit.tail", {"limit": limit})["rows"]
    if as_json:
        for row in rows:
            screen.data(row)
    else:
        shown = [
            (
                screen.moment(row["at"]),
                row["verdict"],
                row["subject"],
                row["capability"],
                screen.short(" ".join(row["argv"]) or row["resource"]),
                screen.short(row["reason"]),
            )
            for row in rows
        ]
        screen.table(("at", "verdict", "subject", "capability", "about", "reason"), shown)
    return exits.OK
