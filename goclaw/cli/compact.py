"""`goclaw compact`: the database rewritten without its free space."""

from __future__ import annotations

import typer

from goclaw.cli import exits, screen
from goclaw.cli.app import JsonFlag, place, single
from goclaw.errors import NotFound

app = single("Rewrite the database without its free space. The daemon must not run.")


@app.command()
def compact(ctx: typer.Context, as_json: JsonFlag = False) -> int:
    """Rewrite the database without its free space, and without what purges left for later.

    The daemon must not run. It takes as much room on the disk again while it works, about 1 s for 100 MB.
    """
    from goclaw.config.home import lock_home
    from goclaw.store.compact import compact as rewrite

    here = place(ctx)
    if not here.home.database.exists():
        raise NotFound(f"there is no database in {here.home.root}")
    with lock_home(here.home):
        before, after = rewrite(here.home.database, here.clock)
    if as_json:
        screen.data({"before_bytes": before, "after_bytes": after})
    else:
        screen.text(f"{here.home.database}: {before:,} bytes before, {after:,} now")
    return exits.OK
