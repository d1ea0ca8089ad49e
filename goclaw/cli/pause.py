"""`goclaw pause`: hold the queue; what runs goes on."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from goclaw.cli import exits, screen
from goclaw.cli.app import JsonFlag, place, single
from goclaw.errors import BadRequest

app = single("Hold the queue, an agent's tasks, or those of a kind; what runs goes on.")

AgentScope = Annotated[str | None, typer.Option("--agent", "-a", help="Only the tasks of this agent.")]
KindScope = Annotated[str | None, typer.Option("--kind", help="Only tasks of this kind.")]


@app.command()
def pause(
    ctx: typer.Context,
    agent: AgentScope = None,
    kind: KindScope = None,
    kill: Annotated[bool, typer.Option("--kill", help="Also end what runs now.")] = False,
    as_json: JsonFlag = False,
) -> int:
    """Hold the queue, an agent's tasks, or those of a kind; what runs goes on. It outlasts restarts."""
    answer = place(ctx).call("system.pause", scope_of(agent, kind) | {"kill": kill})
    if as_json:
        screen.data(answer)
    else:
        ended = f"; {answer['killed']} tasks were ended" if kill else ""
        screen.say(f"{in_words(answer)} paused{ended}; `goclaw resume` goes on")
    return exits.OK


def scope_of(agent: str | None, kind: str | None) -> dict[str, Any]:
    """The scope that the options name. Raises BadRequest."""
    if agent is not None and kind is not None:
        raise BadRequest("name --agent or --kind, not both")
    if agent is not None:
        return {"scope": "agent", "agent_id": agent}
    return {"scope": "all"} if kind is None else {"scope": "kind", "kind": kind}


def in_words(answer: dict[str, Any]) -> str:
    """The scope as a person calls it."""
    return "everything is" if answer["scope"] == "all" else f"{answer['scope']} {answer['name']} is"
