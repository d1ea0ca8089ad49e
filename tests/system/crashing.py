"""`goclaw`, killed by SIGKILL at a commit of its choice: the launcher of the kill matrix.

GOCLAW_CRASH_AT=N:before kills the process when the Nth commit that changes something (counted from `ready`) is about to
be made, N:after when it is durable and nobody has been told. With words of an SQL statement instead of N it is the
first commit that holds such a statement. The process, the signal and the file are real; only the moment is chosen.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from typing import Any

from goclaw.__main__ import main
from goclaw.db import migrate
from goclaw.log import StartupPhases


class CrashingConnection(sqlite3.Connection):
    """Counts the commits of the writer that change rows."""

    armed = False
    count = 0
    target = ""
    moment = ""
    begun = 0
    met = False

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        """As the real one, but for the chosen commit."""
        if sql.startswith("BEGIN"):
            self.begun, self.met = self.total_changes, False
        chosen = CrashingConnection.target
        self.met = self.met or (not chosen.isdecimal() and chosen in sql)
        if sql != "COMMIT" or not CrashingConnection.armed or self.total_changes == self.begun:
            return super().execute(sql, *args)
        CrashingConnection.count += 1
        hit = self.met or str(CrashingConnection.count) == CrashingConnection.target
        if hit and CrashingConnection.moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        cursor = super().execute(sql, *args)
        if hit:
            os.kill(os.getpid(), signal.SIGKILL)
        return cursor


def install() -> None:
    """Make the writer's connection a crashing one, armed when the daemon is ready."""
    CrashingConnection.target, _, CrashingConnection.moment = os.environ["GOCLAW_CRASH_AT"].rpartition(":")
    connect = sqlite3.connect

    def crashing(*args: Any, **options: Any) -> sqlite3.Connection:
        return connect(*args, factory=CrashingConnection, **options)

    migrate.sqlite3.connect = crashing  # type: ignore[attr-defined]
    reached = StartupPhases.reached

    def arming(self: StartupPhases, phase: str, **fields: Any) -> None:
        reached(self, phase, **fields)
        CrashingConnection.armed = CrashingConnection.armed or phase == "ready"

    StartupPhases.reached = arming  # type: ignore[method-assign]


if __name__ == "__main__":
    install()
    sys.exit(main())
