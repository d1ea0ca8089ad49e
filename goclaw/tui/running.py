"""From the terminal to the screen and back."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from goclaw.client import Client, Find
from goclaw.clock import SystemClock
from goclaw.core.ports import Clock
from goclaw.errors import BadRequest
from goclaw.tui.app import ChatApp
from goclaw.tui.desk import Desk, Start
from goclaw.tui.reach import Reach

TERMINATED = 128 + signal.SIGTERM
HUNG_UP = 128 + signal.SIGHUP
TERMINAL_CHECK_MS = 2_000


async def chat(find: Find, start: Start) -> int:
    """Run the screen; the exit code. What it raises: see `goclaw.tui.run`."""
    if not sys.stderr.isatty():
        raise BadRequest("the chat is drawn through stderr; do not redirect it")
    clock = SystemClock()
    async with Client(find, clock, "goclaw-tui") as client:
        reach = Reach(client=client, clock=clock, gone=lambda: find().guessed)
        desk = Desk(reach)
        app = ChatApp(reach, desk, await desk.first(start), color="NO_COLOR" not in os.environ)
        # A terminal must be put back in order whoever ends this process.
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, app.exit, TERMINATED)
        loop.add_signal_handler(signal.SIGHUP, app.exit, HUNG_UP)
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(_leave_with_the_terminal(app, clock))
            ended = await app.run_async()
            watching.cancel()
        code = app.return_code if ended is None else ended
    sys.stderr.write(farewell(app.place.session_id, app.unsent))
    return code or 0


async def _leave_with_the_terminal(app: ChatApp, clock: Clock) -> None:
    """End with a terminal that closed without a signal: its driver would read end-of-file for ever, at full speed."""
    while os.isatty(sys.stdin.fileno()):
        await clock.sleep(TERMINAL_CHECK_MS)
    app.exit(HUNG_UP)


def farewell(session_id: str, unsent: int) -> str:
    """What is said when the screen is closed."""
    lost = f"{unsent} of your messages could not be sent and are lost.\n" if unsent else ""
    return f"{lost}The daemon goes on in the background; `goclaw` opens session {session_id} again.\n"
