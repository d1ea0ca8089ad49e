"""`goclaw serve` for the help, and for flags that stand before the word; parsed in `goclaw.cli.foreground`."""

from __future__ import annotations

import typer

from goclaw.cli.app import single
from goclaw.cli.foreground import serve as serve_now

app = single("Serve in the foreground.")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def serve(ctx: typer.Context) -> int:
    """Serve in the foreground."""
    before = ctx.find_root().params
    return serve_now(ctx.args, before.get("home"), before.get("bind"))
