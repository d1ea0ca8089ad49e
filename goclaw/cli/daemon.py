"""`goclaw daemon`: the daemon in the background."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from goclaw.cli import background, exits, screen
from goclaw.cli.app import JsonFlag, group, place
from goclaw.cli.place import Place
from goclaw.client import serving

app = group("Start, stop and look at the daemon in the background.")

NowFlag = Annotated[bool, typer.Option("--now", help="Kill it after one second; nothing acknowledged is lost.")]


@app.command()
def start(ctx: typer.Context, as_json: JsonFlag = False) -> int:
    """Start it, wait until it is ready, and print its url."""
    return _start(place(ctx), as_json)


@app.command()
def stop(ctx: typer.Context, now: NowFlag = False, as_json: JsonFlag = False) -> int:
    """Stop it: running work gets its drain time, the rest stays queued."""
    here = place(ctx)
    pid = asyncio.run(background.stop(here.home, here.clock, now))
    if as_json:
        screen.data({"stopped": pid is not None, "pid": pid})
    else:
        screen.say("stopped" if pid is not None else f"no daemon serves {here.home.root}")
    return exits.OK


@app.command()
def restart(ctx: typer.Context, now: NowFlag = False, as_json: JsonFlag = False) -> int:
    """Stop it and start it again."""
    here = place(ctx)
    asyncio.run(background.stop(here.home, here.clock, now))
    return _start(here, as_json)


@app.command()
def status(ctx: typer.Context, as_json: JsonFlag = False) -> int:
    """Say whether it runs, and where; exit code 3 when it does not."""
    here = place(ctx)
    pid = background.daemon_pid(here.home)
    info = serving(here.home) if pid is not None else None
    why = background.unreadiness(info.url) if info is not None else "it says nothing of itself yet"
    ready = why is None
    told = {
        "running": pid is not None,
        "ready": ready,
        "pid": pid,
        "url": info.url if info else None,
        "home": str(here.home.root),
        "boot_id": info.boot_id if info else None,
        "started_at": info.started_at if info else None,
        "reason": why if pid is not None else None,
    }
    if as_json:
        screen.data(told)
    elif pid is None:
        screen.text(f"not running (home {here.home.root})")
    else:
        state = "ready" if ready else f"running, not ready ({why})"
        screen.text(f"{state}  {told['url'] or ''}  pid {pid}  home {here.home.root}")
    return exits.OK if pid is not None else exits.UNREACHABLE


def _start(here: Place, as_json: bool) -> int:
    info, started = asyncio.run(background.start(here.home, here.environ, here.clock, here.bind))
    if as_json:
        screen.data({"started": started, "url": info.url, "pid": info.pid, "home": str(here.home.root)})
    else:
        screen.say("started" if started else "already running")
        screen.text(info.url)
    return exits.OK
