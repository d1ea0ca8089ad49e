"""`goclaw tui`: the chat on the terminal."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from goclaw.cli.app import place, single
from goclaw.cli.ensure import ensure_daemon
from goclaw.errors import BadRequest

app = single("Open the chat on this terminal; starts a background daemon if none runs.")


@app.command()
def tui(
    ctx: typer.Context,
    agent: Annotated[str | None, typer.Option("-a", "--agent", help="The agent to talk to.")] = None,
    session: Annotated[str | None, typer.Option("-s", "--session", help="The session to go on in.")] = None,
) -> int:
    """Open the chat on this terminal; starts a background daemon if none runs."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise BadRequest("the chat needs a terminal; `goclaw ask` does not")
    here = place(ctx)
    ensure_daemon(here)
    from goclaw.tui import run

    return run(here.find, agent, session)
