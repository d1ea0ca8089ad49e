"""`goclaw session`: conversations."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from goclaw.cli import exits, screen
from goclaw.cli.app import JsonFlag, group, place
from goclaw.errors import BadRequest

PAGE = 200
app = group("Look at conversations, take them along, delete them.")


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


@app.command()
def export(
    ctx: typer.Context,
    session_id: Annotated[str, typer.Argument(metavar="SESSION_ID", help="The session.")],
    markdown: Annotated[bool, typer.Option("--markdown", help="As a page to read, not as JSON.")] = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Into this new file, mode 0600.")] = None,
) -> int:
    """Write out everything that was said in a session, oldest first: JSON, a message a line, or Markdown."""
    here = place(ctx)
    asked = {"session_id": session_id, "format": "markdown" if markdown else "json", "limit": PAGE}
    page = here.call("session.export", asked)
    with _opened(output) as write:
        if not markdown:
            write(json.dumps({"session": page["session"]}, ensure_ascii=False) + "\n")
        while True:
            write(page["markdown"] if markdown else _lines(page["items"]))
            if "next_cursor" not in page:
                return exits.OK
            page = here.call("session.export", {**asked, "cursor": page["next_cursor"]})


@app.command()
def purge(
    ctx: typer.Context,
    session_id: Annotated[str, typer.Argument(metavar="SESSION_ID", help="The session.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonFlag = False,
) -> int:
    """Delete for good what was said and done in a session: messages, inputs, results, steps, decisions, log lines.

    Only that something happened, and when, is kept. Exit code 1 when bytes of it may be left in the database file.
    """
    here = place(ctx)
    if not yes:
        here.call("session.get", {"session_id": session_id})
        typer.confirm(f"Everything that was said and done in {session_id} is deleted for good. Go on?", abort=True)
    told = here.call("session.purge", {"session_id": session_id})
    if as_json:
        screen.data(told)
    else:
        screen.fields(_purged(told))
    if not told["scrubbed"]:
        screen.say(
            "the database is large or in use: stop the daemon and run `goclaw compact` to overwrite what is left"
        )
    return exits.OK if told["scrubbed"] else exits.FAILURE


def _purged(told: dict[str, Any]) -> dict[str, str]:
    rows = told["rows"]
    return {
        "session": told["session_id"],
        "deleted": f"{rows['messages']} messages, {rows['decisions']} decisions, {told['artifacts']} artifacts, "
        f"{told['prompt_parts']} prompt parts, {told['log_lines']} log lines",
        "emptied": f"{rows['tasks']} tasks, {rows['steps']} steps, {rows['events']} events",
        "looked for": f"{told['samples']} pieces of it in the bytes of the database: {told['found']} found",
        "not covered": ", ".join(told["copies"]) or "no copies of the database lie in this home",
    }


def _lines(items: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items)


@contextmanager
def _opened(output: Path | None) -> Iterator[Callable[[str], object]]:
    """Where the words go: stdout, or a new file for this user alone."""
    if output is None:
        yield lambda text: screen.text(text.rstrip("\n")) if text else None
        return
    try:
        fd = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise BadRequest(f"{output}: {error.strerror}") from None
    with os.fdopen(fd, "w", encoding="utf-8", errors="backslashreplace") as file:
        yield file.write


def _words(item: dict[str, Any]) -> str:
    if item.get("text"):
        return str(item["text"])
    return screen.short(item.get("content") or "", 500)
