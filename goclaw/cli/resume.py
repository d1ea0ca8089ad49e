"""`goclaw resume`: end a pause."""

from __future__ import annotations

import typer

from goclaw.cli import exits, screen
from goclaw.cli.app import JsonFlag, place, single
from goclaw.cli.pause import AgentScope, KindScope, in_words, scope_of

app = single("End a pause.")


@app.command()
def resume(ctx: typer.Context, agent: AgentScope = None, kind: KindScope = None, as_json: JsonFlag = False) -> int:
    """End a pause; name the scope that was paused. Other pauses stay: `goclaw status` lists them."""
    answer = place(ctx).call("system.resume", scope_of(agent, kind))
    screen.data(answer) if as_json else screen.say(f"{in_words(answer)} no longer paused")
    return exits.OK
