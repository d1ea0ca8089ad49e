"""`goclaw` alone: the chat on a terminal, the daemon otherwise."""

from __future__ import annotations

import os
import sys


def bare() -> int:
    """Open the chat where somebody sits, serve where nobody does; the exit code."""
    seated = sys.stdin.isatty() and sys.stdout.isatty()
    if not seated or os.environ.get("GOCLAW_NO_TUI"):
        from goclaw.cli.foreground import serve

        return serve([])
    from goclaw.cli.app import run

    return run(["tui"])
