"""A daemon where one is needed: found, or started in the background."""

from __future__ import annotations

import asyncio

from goclaw.cli import background, screen
from goclaw.cli.place import Place
from goclaw.errors import Unreachable


def ensure_daemon(here: Place) -> None:
    """Make sure that a daemon answers, and say so when one had to be started.

    Starts none where an address was named on the command line or a daemon of this home runs already. Raises
    Unreachable, NotAuthorized, StartupError, WaitTimeout.
    """
    try:
        here.call("system.ping")
    except Unreachable:
        if here.bind is not None:
            raise
        info, started = asyncio.run(background.start(here.home, here.environ, here.clock))
        if started:
            screen.say(f"started a daemon in the background at {info.url} (`goclaw daemon stop` ends it)")
