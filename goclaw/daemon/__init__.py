"""The composition root: every organ is built, started and stopped here, and nowhere else.

`process` is one run of the daemon (its start order is SPEC's), `furnish` builds the organs and joins them through the
ports. Nothing in this package decides anything about work.
"""

from goclaw.daemon.process import serve

__all__ = ["serve"]
