"""Open the file only if it is ours, whole and not newer; bring it up to date.

The order matters: nothing is written, and no SQLite connection is opened for writing, before the file's own header and
ledger have been checked. A refused file keeps every byte.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import struct
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from goclaw.core.ports import Clock
from goclaw.errors import SchemaChecksum, SchemaNewer, StoreCorrupt, StoreForeign, StoreOpen

APPLICATION_ID = 0x676F634C
"""Bytes 68-71 of the file header (SQLite file format, 1.3.17): "gocL"."""
PAGE_SIZE = 2048
"""Half the WAL volume of the default 4096 per transition, measured (docs/why.md)."""
BUSY_MS = 5_000
_MAGIC = b"SQLite format 3\x00"


@dataclass(frozen=True, slots=True)
class Migration:
    """One shipped file `NNNN_verb_noun.sql`."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the file's bytes."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def shipped_migrations() -> tuple[Migration, ...]:
    """All migrations in order: from the wheel, or from the checkout beside the package."""
    folder = resources.files("goclaw").joinpath("migrations")
    if not folder.is_dir():
        folder = Path(__file__).parents[2] / "migrations"
    found = sorted((item for item in folder.iterdir() if item.name.endswith(".sql")), key=lambda item: item.name)
    return tuple(Migration(int(item.name[:4]), item.name[5:-4], item.read_bytes().decode("utf-8")) for item in found)


def connect(path: Path) -> sqlite3.Connection:
    """The read-write connection: WAL, synchronous=FULL, checkpoints by hand."""
    conn = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
    conn.row_factory = sqlite3.Row
    conn.execute("PRAGMA foreign_keys = ON")
    conn.execute("PRAGMA synchronous = FULL")
    conn.execute("PRAGMA fullfsync = ON")
    conn.execute("PRAGMA wal_autocheckpoint = 0")
    conn.execute(f"PRAGMA journal_size_limit = {128 * 1024 * 1024}")
    conn.execute("PRAGMA cache_size = -16384")
    conn.execute("PRAGMA temp_store = MEMORY")
    # What is deleted is overwritten with zeros. Some builds of SQLite do it by default, and so every build does.
    conn.execute("PRAGMA secure_delete = ON")
    conn.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
    return conn


def open_checked(path: Path, clock: Clock, migrations: tuple[Migration, ...] | None = None) -> sqlite3.Connection:
    """The migrated read-write connection to `path`, made if absent.

    Raises StoreForeign, SchemaNewer, SchemaChecksum or StoreCorrupt without having changed a byte of the file, and
    StoreOpen when it cannot be opened. The caller holds the lock of the home: nobody else has the file open.
    """
    migrations = shipped_migrations() if migrations is None else migrations
    try:
        fresh = not path.exists() or path.stat().st_size == 0
        if not fresh:
            fresh = _inspect_header(path, migrations) or _inspect_ledger(path, migrations)
        return _open(path, fresh, clock, migrations)
    except sqlite3.DatabaseError as error:
        text = str(error)
        if "not a database" in text or "malformed" in text:
            raise StoreCorrupt(f"{path.name} is damaged ({text}); restore a backup into a fresh GOCLAW_HOME") from None
        raise StoreOpen(f"{path} cannot be opened: {text}") from None
    except OSError as error:
        raise StoreOpen(f"{path} cannot be opened: {error.strerror}") from None


def _open(path: Path, fresh: bool, clock: Clock, migrations: tuple[Migration, ...]) -> sqlite3.Connection:
    old_mask = os.umask(0o077)
    try:
        conn = connect(path)
    finally:
        os.umask(old_mask)
    try:
        if fresh:
            conn.execute(f"PRAGMA page_size = {PAGE_SIZE}")
            # Free pages can be given back in steps (docs/data.md). It can only be set before anything is written.
            conn.execute("PRAGMA auto_vacuum = INCREMENTAL")
            conn.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        conn.execute("PRAGMA journal_mode = WAL")
        _apply(conn, path, fresh, clock, migrations)
    except BaseException:
        conn.close()
        raise
    return conn


def _inspect_header(path: Path, migrations: tuple[Migration, ...]) -> bool:
    """True for a file in which nothing has ever been made: a first start was killed before it had put our name in."""
    with path.open("rb") as file:
        header = file.read(100)
    if len(header) < 100 or not header.startswith(_MAGIC):
        raise StoreCorrupt(f"{path.name} is not a SQLite database; restore a backup into a fresh GOCLAW_HOME")
    (schema_cookie,) = struct.unpack(">I", header[40:44])
    (user_version,) = struct.unpack(">I", header[60:64])
    (application,) = struct.unpack(">I", header[68:72])
    if application == user_version == schema_cookie == 0:
        return True
    if application != APPLICATION_ID:
        raise StoreForeign
    if user_version > migrations[-1].version:
        raise SchemaNewer(f"{path.name} has schema {user_version}, this goclaw knows {migrations[-1].version}")
    return False


def _inspect_ledger(path: Path, migrations: tuple[Migration, ...]) -> bool:
    """True for a file of ours that is empty: a first start was killed before its first migration."""
    # With no WAL beside it the file is complete in itself; `immutable` then keeps SQLite from making one.
    alone = not path.with_name(path.name + "-wal").exists()
    uri = f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if alone else ''}"
    conn = sqlite3.connect(uri, uri=True, isolation_level=None)
    try:
        names = {row[0] for row in conn.execute("SELECT name FROM sqlite_master")}
        if not names:
            return True
        if "schema_migrations" not in names:
            raise StoreForeign
        applied = conn.execute("SELECT version, name, checksum FROM schema_migrations ORDER BY version").fetchall()
    finally:
        conn.close()
    known = {migration.version: migration for migration in migrations}
    for version, name, checksum in applied:
        if version not in known:
            raise SchemaNewer(f"{path.name} holds migration {version:04d}_{name}, which this goclaw does not know")
        if known[version].checksum != checksum:
            raise SchemaChecksum(f"migration {version:04d}_{name} differs from the one recorded in {path.name}")
    return False


def _apply(conn: sqlite3.Connection, path: Path, fresh: bool, clock: Clock, migrations: tuple[Migration, ...]) -> None:
    applied: set[int] = set()
    if not fresh:
        applied = {row[0] for row in conn.execute("SELECT version FROM schema_migrations")}
    pending = [migration for migration in migrations if migration.version not in applied]
    if not pending:
        return
    if applied:
        _copy_before(conn, path, max(applied))
    conn.execute("BEGIN IMMEDIATE")
    try:
        conn.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations (version INTEGER PRIMARY KEY, name TEXT NOT NULL,"
            " checksum TEXT NOT NULL, applied_at INTEGER NOT NULL) STRICT"
        )
        for migration in pending:
            for statement in split_statements(migration.sql):
                conn.execute(statement)
            conn.execute(
                "INSERT INTO schema_migrations VALUES (?, ?, ?, ?)",
                (migration.version, migration.name, migration.checksum, clock.wall()),
            )
        conn.execute(f"PRAGMA user_version = {pending[-1].version}")
        conn.execute("COMMIT")
    except BaseException:
        if conn.in_transaction:
            conn.execute("ROLLBACK")
        raise
    conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _copy_before(conn: sqlite3.Connection, path: Path, version: int) -> None:
    """A copy of the file as it was, beside it. The WAL is empty after the checkpoint and nobody writes."""
    conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    copy = path.with_name(f"{path.name}.before-{version + 1:04d}")
    target = sqlite3.connect(copy)
    try:
        conn.backup(target)
    finally:
        target.close()
    shutil.copymode(path, copy)


def split_statements(script: str) -> list[str]:
    """The statements of a script; `executescript` would commit before it, which a migration must not."""
    statements, pending = [], ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            statements.append(pending.strip())
            pending = ""
    if "\n".join(line for line in pending.splitlines() if not line.lstrip().startswith("--")).strip():
        raise ValueError(f"unfinished statement: {pending.strip()[:80]}")
    return statements
