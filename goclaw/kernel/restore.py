"""Reading a backup back: is it whole, and a fresh home made of it."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from goclaw.clock import new_id
from goclaw.config.files import sync_folder
from goclaw.config.home import Home, lock_home
from goclaw.core.event import NewEvent
from goclaw.core.ports import Clock
from goclaw.db.archive import extract, read_body
from goclaw.db.backup import check_integrity, open_read_only, schema_of
from goclaw.db.migrate import open_checked, shipped_migrations
from goclaw.errors import BackupDamaged, Conflict, HomeUnwritable, SchemaNewer
from goclaw.kernel.backup import ARTIFACTS, DATABASE, DOTENV, FILES, FOLDERS, Backup, Manifest, read_backup
from goclaw.store import events, heads, meta, tasks
from goclaw.store.chains import AUDIT, EVENTS, head
from goclaw.store.verify import Report, Verification, damaged

_STAGING = ".restoring"
_ALLOWED = frozenset({DATABASE, DOTENV, *FILES})
_ALLOWED_FOLDERS = frozenset({ARTIFACTS, *FOLDERS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What looking at a backup came to: damage of the file itself, and what its database does not explain."""

    backup: Backup
    damage: tuple[str, ...]
    report: Report | None

    @property
    def ok(self) -> bool:
        """Nothing at all was found."""
        return not self.damage and self.report is not None and self.report.ok

    def as_json(self) -> dict[str, Any]:
        """As the wire and the command line show it."""
        shown = {"ok": self.ok, "backup": self.backup.as_json(), "damage": list(self.damage)}
        return shown if self.report is None else shown | {"report": self.report.as_json()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A home made of a backup. `log_id` is new: cursors of the old log are refused with replay_gap."""

    home: Path
    backup: Backup
    log_id: str
    files: int
    report: Report

    def next_steps(self) -> tuple[str, ...]:
        """What a person does now."""
        return (
            f"goclaw --home {self.home} serve      makes a new auth.token; what was running is judged as after a crash",
            "secrets/ opens with the old GOCLAW_MASTER_KEY; .env is in it only if it was asked for",
            "clients resume from their cursors by the answer to replay_gap (4100): the log has a new id",
            "do not serve the old home beside it: both would fire the same schedules",
        )

    def as_json(self) -> dict[str, Any]:
        """As the command line shows it."""
        return {
            "next_steps": list(self.next_steps()),
            "home": str(self.home),
            "backup": self.backup.as_json(),
            "log_id": self.log_id,
            "files": self.files,
            "report": self.report.as_json(),
        }


def check_backup(path: Path, clock: Clock, pause: Callable[[], object] = lambda: None) -> Checked:
    """Look at all of a backup: its structure, every byte, SQLite's integrity check, both chains, every task. Blocks.

    `pause` is called between pages. Needs the size of the database on the disk of temporary files. Raises NotFound,
    BackupDamaged where it cannot even be read, SchemaNewer, OSError.
    """
    backup = read_backup(path)
    with path.open("rb") as file, tempfile.TemporaryDirectory(prefix="goclaw-verify-") as folder:
        damage = _compare_hashes(file, backup.manifest)
        if damage:
            return Checked(backup=backup, damage=tuple(damage), report=None)
        copy = Path(folder) / DATABASE
        extract(file, backup.manifest.files[0], copy)
        return Checked(backup=backup, damage=(), report=_check_database(copy, backup.manifest, clock, pause))


def restore(path: Path, home: Home, clock: Clock, *, despite_findings: bool = False, paused: bool = False) -> Restored:
    """Make a fresh home of a backup; all is verified before anything is in its place. Blocks.

    The home must be absent or empty, and stays so when it fails. A damaged file is always refused, a database with
    findings unless `despite_findings`. With `paused` nothing runs until it is resumed. Raises Conflict, HomeLocked,
    HomeUnwritable, NotFound, BackupDamaged, SchemaNewer.
    """
    backup = read_backup(path)
    _check_names(backup.manifest)
    _refuse_unless_fresh(home)
    made = not home.root.exists()
    with lock_home(home):
        _refuse_unless_fresh(home)
        try:
            return _restore(backup, home, clock, despite_findings, paused)
        except OSError as error:
            raise HomeUnwritable(f"{error.filename or home.root}: {error.strerror}") from None
        finally:
            shutil.rmtree(home.root / _STAGING, ignore_errors=True)
            if made and not any(home.root.iterdir()):
                with suppress(OSError):
                    home.root.rmdir()


def _restore(backup: Backup, home: Home, clock: Clock, despite_findings: bool, paused: bool) -> Restored:
    staging = home.root / _STAGING
    with backup.path.open("rb") as file:
        if damage := _compare_hashes(file, backup.manifest):
            raise BackupDamaged(f"{backup.path} is damaged: {damage[0]}; nothing was restored")
        for member in backup.manifest.files:
            extract(file, member, staging / member.name)
    report = _check_database(staging / DATABASE, backup.manifest, clock, lambda: None)
    if any(one.table == "file" for one in report.findings) or not (report.ok or despite_findings):
        what = f"{report.findings[0]}" + (f" and {report.found - 1} more" if report.found > 1 else "")
        raise BackupDamaged(f"the database of {backup.path} is not in order: {what}; nothing was restored")
    log_id = _adopt(staging / DATABASE, backup, clock, paused)
    _put_in_place(staging, home.root)
    return Restored(home=home.root, backup=backup, log_id=log_id, files=len(backup.manifest.files), report=report)


def _compare_hashes(file: BinaryIO, manifest: Manifest) -> list[str]:
    damage = []
    for member in manifest.files:
        digest = hashlib.sha256()
        for block in read_body(file, member):
            digest.update(block)
        if digest.hexdigest() != member.sha256:
            damage.append(f"{member.name} is not what the manifest says")
    return damage


def _check_database(copy: Path, manifest: Manifest, clock: Clock, pause: Callable[[], object]) -> Report:
    """The verification of an extracted copy, which is ours to bring to today's schema."""
    if problems := check_integrity(copy):
        return damaged(problems)
    newest = shipped_migrations()[-1].version
    if schema_of(copy) > newest:
        raise SchemaNewer(f"the backup has schema {schema_of(copy)}, this goclaw knows {newest}")
    if schema_of(copy) < newest:
        open_checked(copy, clock).close()
    verification = Verification()
    with open_read_only(copy) as conn:
        while verification.step(conn):
            pause()
        ends = (head(conn, EVENTS), head(conn, AUDIT))
    report = verification.report
    if ends != (manifest.event, manifest.audit):
        raise BackupDamaged("the logs in the backup do not end where its manifest says")
    return report


def _check_names(manifest: Manifest) -> None:
    """Only what `create` would put there: a foreign file brings no token, no running daemon's mark, no log."""
    for member in manifest.files:
        top, _, rest = member.name.partition("/")
        if member.name not in _ALLOWED and not (rest and top in _ALLOWED_FOLDERS):
            raise BackupDamaged(f"the backup holds {member.name}, which belongs into no home")


def _refuse_unless_fresh(home: Home) -> None:
    try:
        there = sorted(path.name for path in home.root.iterdir())
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise Conflict(f"{home.root} is no folder") from None
    if there:
        shown = ", ".join(there[:3]) + (", ..." if len(there) > 3 else "")
        raise Conflict(f"{home.root} is not empty (it holds {shown}); restore into a fresh home")


def _adopt(database: Path, backup: Backup, clock: Clock, paused: bool) -> str:
    """Make the copy a log of its own, and say in it where it comes from. Its new id."""
    log_id, now = new_id(clock), clock.wall()
    with closing(open_checked(database, clock)) as conn:
        told = {
            "from_log_id": backup.manifest.log_id,
            "from_event_id": backup.manifest.event.id,
            "backup_created_at": backup.manifest.created_at,
        }
        conn.execute("BEGIN IMMEDIATE")
        meta.put(conn, "log_id", log_id)
        events.append(conn, [NewEvent(type="log.restored", payload=told)], now)
        if paused:
            tasks.pause(conn, "all", "")
            events.append(conn, [NewEvent(type="system.paused", payload={"scope": "all", "name": ""})], now)
        heads.note(conn, "restore", now)
        conn.execute("COMMIT")
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return log_id


def _put_in_place(staging: Path, root: Path) -> None:
    """Move everything into the home, the database last: without it a home that was left half made holds no state."""
    for folder, _, _ in os.walk(staging):
        sync_folder(Path(folder))
    left = {path.name for path in staging.iterdir()}
    for extra in sorted(name for name in left if name.startswith(f"{DATABASE}.") or name.startswith(f"{DATABASE}-")):
        (staging / extra).unlink()
    for name in sorted(left & (_ALLOWED | _ALLOWED_FOLDERS), key=lambda name: name == DATABASE):
        os.rename(staging / name, root / name)
    sync_folder(root)
