"""The terminal: a chat with the daemon's agents.

A client and nothing more: all it shows came over the daemon's socket, all it does goes there, and leaving it
stops nothing. It survives a restart of the daemon and never shows a traceback for one.
"""

from __future__ import annotations

from goclaw.client import Find


def run(find: Find, agent: str | None = None, session: str | None = None) -> int:
    """Open the chat on this terminal until the person leaves; the exit code.

    `find` says where the daemon is. Begins in `session`, else in the one in which `agent` was last spoken to.
    Raises Unreachable, NotAuthorized and RpcError where the daemon does not answer at the start, NotFound for
    an unknown agent, BadRequest for a session id that is none, a session of another agent, and where there is
    no terminal to draw on.
    """
    import asyncio

    from goclaw.tui.desk import Start
    from goclaw.tui.running import chat

    return asyncio.run(chat(find, Start(agent=agent, session=session)))
