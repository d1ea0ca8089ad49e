"""One SQLite file, one writer thread, a few readers.

A transaction is a plain function `f(conn, ...)`: `Database.write` runs it inside BEGIN IMMEDIATE on the one thread that
owns the read-write connection, and returns after a synchronous=FULL commit; `Database.read` runs it on a read-only
connection. It may import only `errors` and `core`.
"""

from sqlite3 import Connection

from goclaw.db.database import Database
from goclaw.db.migrate import open_checked
from goclaw.db.queries import Queries, load_queries

__all__ = ["Connection", "Database", "Queries", "load_queries", "open_checked"]
