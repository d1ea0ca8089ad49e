"""`goclaw tui`: the chat on the terminal."""

from __future__ import annotations

import typer

from goclaw.cli.app import place, single
from goclaw.cli.ensure import ensure_daemon

app = single("Open the chat on this terminal; starts a background daemon if none runs.")


@app.command()
def tui(ctx: typer.Context) -> int:
    """Open the chat on this terminal; starts a background daemon if none runs."""
    here = place(ctx)
    ensure_daemon(here)
    from goclaw.tui import run

    return run(here.find)
