"""`goclaw skill`: the skills of this home, and one call by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from goclaw.cli import exits, screen
from goclaw.cli.app import JsonFlag, group, place
from goclaw.cli.reading import json_value
from goclaw.cli.results import show_result
from goclaw.cli.submission import Submission
from goclaw.errors import GoclawError

app = group("List, check and run the skills in skills/ of the home.")

Name = Annotated[str, typer.Argument(metavar="SKILL", help="The skill.")]


@app.command("list")
def list_(ctx: typer.Context, as_json: JsonFlag = False) -> int:
    """List the skills, those that were refused too."""
    found = place(ctx).call("skill.list")
    if as_json:
        screen.data(found)
    else:
        rows = [
            (one["name"], one["state"], one["effect"], one["reason"] or screen.short(one["description"], 80))
            for one in found["skills"]
        ]
        screen.table(("skill", "state", "effect", "what it does"), rows)
    return exits.OK


@app.command()
def info(ctx: typer.Context, name: Name, as_json: JsonFlag = False) -> int:
    """Show one skill."""
    found = place(ctx).call("skill.info", {"name": name})
    screen.data(found) if as_json else screen.fields(found)
    return exits.OK


@app.command()
def run(
    ctx: typer.Context,
    name: Name,
    given: Annotated[str, typer.Argument(metavar="[JSON]", help="Its input: JSON, @file, or -.")] = "{}",
    function: Annotated[str | None, typer.Option("--function", help="The function of the skill.")] = None,
    as_json: JsonFlag = False,
) -> int:
    """Run a skill once, as a durable task in the sandbox; its text goes to stdout."""
    payload = {"skill": name, "input": json_value(given, "JSON")}
    new = Submission(kind="skill", payload=payload | ({"function": function} if function else {}))
    return show_result(place(ctx).run(new.done), as_json)


@app.command()
def enable(ctx: typer.Context, name: Name, as_json: JsonFlag = False) -> int:
    """Let a skill run again that was set aside after repeated faults."""
    answer = place(ctx).call("skill.enable", {"name": name})
    screen.data(answer) if as_json else screen.say(f"{name} is enabled")
    return exits.OK


@app.command()
def validate(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A skill's folder.")],
    as_json: JsonFlag = False,
) -> int:
    """Check a skill's folder before it is put into skills/. Needs no daemon."""
    from goclaw.skills.folder import read_skill

    try:
        skill = read_skill(folder.absolute())
    except GoclawError as error:
        told = {"valid": False, "path": str(folder), "error": error.message}
        screen.data(told) if as_json else screen.say(f"goclaw: {folder}: {error.message}")
        return exits.FAILURE
    told = {"valid": True, "path": str(folder), "name": skill.name, "callable": skill.module is not None}
    screen.data(told | {"warnings": list(skill.manifest.warnings)}) if as_json else screen.say(
        f"{skill.name} is in order" + "".join(f"\nwarning: {one}" for one in skill.manifest.warnings)
    )
    return exits.OK
