"""`goclaw init`: a home, ready to be looked at and changed before the first start."""

from __future__ import annotations

import typer

from goclaw.cli import exits, screen
from goclaw.cli.app import JsonFlag, place, single
from goclaw.config.home import lock_home, prepare_home
from goclaw.errors import HomeLocked

app = single("Create the home with its starter files.")


@app.command()
def init(ctx: typer.Context, as_json: JsonFlag = False) -> int:
    """Create the home with its starter files; what is there already stays as it is."""
    from goclaw.policy.live import write_starter
    from goclaw.secrets.token import ensure_token

    here = place(ctx)
    home, first = here.home, False
    try:
        with lock_home(home):
            first = prepare_home(home)
            if first:
                write_starter(home.policy)
            ensure_token(home.token, here.environ)
    except HomeLocked:
        screen.say(f"a daemon serves {home.root} already; there is nothing to create")
    if as_json:
        screen.data({"home": str(home.root), "first": first})
        return exits.OK
    screen.text(str(home.root))
    for path in (home.config, home.policy, home.soul, home.skills, home.workspace):
        screen.say(f"  {path.relative_to(home.root)}")
    screen.say('next: goclaw ask "/list_directory path=."   or, with ANTHROPIC_API_KEY set, any question')
    return exits.OK
