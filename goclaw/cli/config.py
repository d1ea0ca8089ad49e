"""`goclaw config`: the settings of this home. Needs no daemon; a running one takes a saved file up by itself."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from goclaw.cli import exits, screen
from goclaw.cli.app import JsonFlag, group, place
from goclaw.config.edit import get_value, set_value
from goclaw.config.load import check_settings, load_settings

app = group("Look at the settings in config.yaml, change one, check them.")

KeyName = Annotated[str, typer.Argument(metavar="KEY", help="A dotted key such as providers.claude.model.")]


@app.command()
def show(ctx: typer.Context, as_json: JsonFlag = False) -> int:
    """Show every setting and where it comes from; secrets are hidden."""
    here = place(ctx)
    settings = load_settings(here.home, here.environ)
    if as_json:
        screen.data({"settings": settings.redacted(), "sources": dict(settings.sources)})
    else:
        rows = [
            (name, value if isinstance(value, str) else json.dumps(value), settings.sources.get(name, ""))
            for name, value in settings.redacted().items()
        ]
        screen.table(("key", "value", "from"), rows)
    return exits.OK


@app.command()
def get(ctx: typer.Context, key: KeyName, as_json: JsonFlag = False) -> int:
    """Print one setting."""
    here = place(ctx)
    value = get_value(load_settings(here.home, here.environ), key)
    if as_json or not isinstance(value, str):
        screen.data(value)
    else:
        screen.text(value)
    return exits.OK


@app.command("set")
def set_(
    ctx: typer.Context,
    key: KeyName,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="Text, or YAML where the key takes no text.")],
    as_json: JsonFlag = False,
) -> int:
    """Set one key in config.yaml; comments stay, and a result that is not valid is not written."""
    here = place(ctx)
    edited = set_value(here.home, key, value, here.environ)
    if as_json:
        screen.data({"key": edited.key, "live": edited.live})
    else:
        screen.say(f"{key} is set; " + ("a running daemon takes it up" if edited.live else "restart the daemon"))
    return exits.OK


@app.command()
def check(ctx: typer.Context, as_json: JsonFlag = False) -> int:
    """Check config.yaml and what it refers to; exit code 1 when something is wrong."""
    here = place(ctx)
    problems = check_settings(here.home, here.environ)
    if as_json:
        told = [{"source": one.source, "where": one.where, "message": one.message} for one in problems]
        screen.data({"valid": not problems, "problems": told})
    else:
        for problem in problems:
            screen.say(str(problem))
        if not problems:
            screen.say(f"{here.home.config} is in order")
    return exits.FAILURE if problems else exits.OK


@app.command()
def path(ctx: typer.Context, as_json: JsonFlag = False) -> int:
    """Print where config.yaml lies."""
    file = str(place(ctx).home.config)
    screen.data({"path": file}) if as_json else screen.text(file)
    return exits.OK
