"""`goclaw session`: conversations."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from goclaw.cli import exits, screen
from goclaw.cli.app import JsonFlag, group, place

app = group("Look at conversations.")


@app.command("list")
def list_(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option("--limit", help="At most so many, newest first.")] = 50,
    as_json: JsonFlag = False,
) -> int:
    """List sessions, newest first."""
    page = place(ctx).call("session.list", {"limit": limit})
    if as_json:
        screen.data(page)
    else:
        rows = [
            (
                one["id"],
                one["agent_id"],
                screen.moment(one["created_at"]),
                screen.moment(one.get("updated_at")),
            )
            for one in page["sessions"]
        ]
        screen.table(("id", "agent", "created", "updated"), rows)
    return exits.OK


@app.command()
def show(
    ctx: typer.Context,
    session_id: Annotated[str, typer.Argument(metavar="SESSION_ID", help="The session.")],
    limit: Annotated[int, typer.Option("--limit", help="The newest so many messages.")] = 100,
    as_json: JsonFlag = False,
) -> int:
    """Show what was said in a session, oldest first."""
    here = place(ctx)
    params = {"session_id": session_id, "limit": limit}
    items = here.call("session.history", params)["items"]
    if as_json:
        screen.data(here.call("session.get", {"session_id": session_id}) | {"items": items})
        return exits.OK
    for item in items:
        screen.text(f"[{item['role']}  {screen.moment(item['created_at'])}]")
        screen.text(_words(item))
        screen.text("")
    return exits.OK


def _words(item: dict[str, Any]) -> str:
    if item.get("text"):
        return str(item["text"])
    return screen.short(item.get("content") or "", 500)
