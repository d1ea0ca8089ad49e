"""`goclaw tools`: what models can call, and one call by hand."""

from __future__ import annotations

from typing import Annotated

import typer

from goclaw.cli import exits, screen
from goclaw.cli.app import JsonFlag, group, place
from goclaw.cli.reading import json_object
from goclaw.cli.results import show_result
from goclaw.cli.submission import finished
from goclaw.client import Client

app = group("List the tools, and call one by hand through the same gate.")


@app.command("list")
def list_(ctx: typer.Context, as_json: JsonFlag = False) -> int:
    """List the tools that the policy offers."""
    found = place(ctx).call("tools.list")
    if as_json:
        screen.data(found)
    else:
        rows = [(one["name"], screen.short(one["description"], 100)) for one in found["tools"]]
        screen.table(("tool", "what it does"), rows)
    return exits.OK


@app.command()
def run(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="TOOL", help="The tool.")],
    arguments: Annotated[str, typer.Argument(metavar="[JSON]", help="JSON, @file, or - for stdin.")] = "{}",
    session: Annotated[str | None, typer.Option("--session", help="The session it belongs to.")] = None,
    as_json: JsonFlag = False,
) -> int:
    """Call a tool once, as a durable task; its text goes to stdout."""
    params = {"name": name, "arguments": json_object(arguments, "JSON"), "session_id": session}

    async def call(client: Client) -> int:
        answer = await client.call("tools.execute", params)
        return show_result(await finished(client, answer["task_id"]), as_json)

    return place(ctx).run(call)
