"""The JSON-RPC client: how the terminal screen, the command line and the bridges ask the daemon.

`Client` asks and follows; `find_daemon` says where the daemon of a home is. It knows the wire and the core's
values and nothing of how a daemon works inside.
"""

from goclaw.client.asking import Client
from goclaw.client.stream import ChatEnd, Link, event_of
from goclaw.client.target import DEFAULT_BIND, Find, Target, find_daemon, serving, url_of

__all__ = [
    "DEFAULT_BIND",
    "ChatEnd",
    "Client",
    "Find",
    "Link",
    "Target",
    "event_of",
    "find_daemon",
    "serving",
    "url_of",
]
