"""`goclaw` with synchronous=NORMAL: what the power drill must find losses with, or it proves nothing."""

from __future__ import annotations

import sqlite3
import sys
from typing import Any

from goclaw.__main__ import main

STRONG, WEAK = "PRAGMA synchronous = FULL", "PRAGMA synchronous = NORMAL"


class WeakConnection(sqlite3.Connection):
    """Asks for less durability than it is told to."""

    asked = 0

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        """As the real one, but for one statement."""
        weakened = sql.replace(STRONG, WEAK)
        WeakConnection.asked += weakened != sql
        return super().execute(weakened, *args)


def install() -> None:
    """Every connection that is opened from now on is weak, whoever opens it."""
    connect = sqlite3.connect

    def weak(*args: Any, **options: Any) -> sqlite3.Connection:
        made: sqlite3.Connection = connect(*args, **{"factory": WeakConnection, **options})
        return made

    sqlite3.connect = weak  # type: ignore[assignment]


if __name__ == "__main__":
    install()
    sys.exit(main())
