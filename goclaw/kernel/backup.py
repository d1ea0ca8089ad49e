"""Making a backup: one file with a consistent copy of the database and everything that gives it its meaning.

In it: the database; config.yaml, policy.yaml, SOUL.md, AGENTS.md; skills/ and installed/; the artifacts that the
database refers to; secrets/ as it lies on the disk, encrypted. With `secrets` also .env, which holds keys in plain
text. Never the bearer token and never a master key: a file that was taken away opens nothing.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from goclaw import __version__
from goclaw.config.files import sync_folder, write_atomic
from goclaw.config.home import Home
from goclaw.db.archive import ArchiveWriter, Member, check_name, read_body, read_members
from goclaw.db.backup import check_integrity, copy_database, open_read_only, schema_of
from goclaw.db.room import free_bytes
from goclaw.errors import BackupDamaged, BadRequest, Conflict, NotFound, StoreCorrupt, StoreFull
from goclaw.store import chains, meta, references
from goclaw.store.chains import Head
from goclaw.store.sessions import NEWEST
from goclaw.store.verify import Anchor

FORMAT = 1
DATABASE = "goclaw.db"
MANIFEST = "manifest.json"
DOTENV = ".env"
FILES = ("config.yaml", "policy.yaml", "SOUL.md", "AGENTS.md")
FOLDERS = ("skills", "installed", "secrets")
ARTIFACTS = "artifacts"
MANIFEST_BYTES = 32 * 1024 * 1024
SPARE_BYTES = 64 * 1024 * 1024
"""What a backup leaves free on its disk."""
MOST_LISTED = 1_000
_ARTIFACT = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a backup says of itself. `left_out` names files that were not regular ones or could not be named."""

    created_at: int
    version: str
    schema: int
    log_id: str
    event: Head
    audit: Head
    secrets: bool
    files: tuple[Member, ...]
    left_out: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """As it stands in manifest.json."""
        return {
            "format": FORMAT,
            "created_at": self.created_at,
            "goclaw": self.version,
            "schema": self.schema,
            "log_id": self.log_id,
            "event": {"id": self.event.id, "chain": self.event.chain.hex()},
            "audit": {"id": self.audit.id, "chain": self.audit.chain.hex()},
            "secrets": self.secrets,
            "files": [{"name": one.name, "size": one.size, "sha256": one.sha256} for one in self.files],
            "left_out": list(self.left_out),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """One backup file: where it is, its bytes, and what it says of itself."""

    path: Path
    bytes: int
    manifest: Manifest

    def as_json(self) -> dict[str, Any]:
        """As the wire and the command line show it."""
        told = self.manifest
        return {
            "path": str(self.path),
            "bytes": self.bytes,
            "created_at": told.created_at,
            "goclaw": told.version,
            "schema": told.schema,
            "log_id": told.log_id,
            "event_id": told.event.id,
            "files": len(told.files),
            "secrets": told.secrets,
            "left_out": list(told.left_out),
        }


def folder_of(home: Home) -> Path:
    """Where backups lie that were given no other place."""
    return home.root / "backups"


def default_path(home: Home, now: int) -> Path:
    """The name of a backup made now in that folder."""
    from datetime import UTC, datetime

    return folder_of(home) / f"goclaw-{datetime.fromtimestamp(now / 1000, UTC):%Y%m%dT%H%M%S.%fZ}.tar"


def create(home: Home, target: Path, now: int, *, secrets: bool = False) -> Backup:
    """Write a backup of `home` to the new file `target`, durably; a failure leaves nothing. Blocks.

    It holds everything acknowledged before the call. Raises as `check_target`, and StoreCorrupt or StoreOpen.
    """
    check_target(home, target)
    try:
        made = _create(home, target, now, secrets)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFull(f"the disk of {target.parent} is full; no backup was made") from None
        raise BadRequest(f"{error.filename or target}: {error.strerror}", field="path") from None
    _remember(home, made)
    return made


def _create(home: Home, target: Path, now: int, secrets: bool) -> Backup:
    _sweep(home, target.parent)
    work = Path(tempfile.mkdtemp(prefix=_prefix(home), suffix=".part", dir=target.parent))
    try:
        copy_database(home.database, work / DATABASE)
        if problems := check_integrity(work / DATABASE):
            raise StoreCorrupt(f"{home.database.name} is damaged ({problems[0]})")
        manifest = _pack(home, work, now, secrets)
        if os.path.lexists(target):
            raise Conflict(f"there is a file {target} already")
        os.rename(work / "backup", target)
        sync_folder(target.parent)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return Backup(path=target, bytes=target.stat().st_size, manifest=manifest)


def read_backup(path: Path) -> Backup:
    """What a backup says of itself, its structure checked, its bytes not. Raises NotFound, BackupDamaged."""
    try:
        with path.open("rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise BackupDamaged(f"{path} is no regular file")
            return Backup(path=path, bytes=os.fstat(file.fileno()).st_size, manifest=read_manifest(file))
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise NotFound(f"there is no backup {path}") from None
    except OSError as error:
        raise BackupDamaged(f"{path} cannot be read: {error.strerror}") from None


def read_manifest(file: BinaryIO) -> Manifest:
    """The manifest, with the members' places in the file. Raises BackupDamaged when it does not fit them."""
    members = list(read_members(file))
    if not members or members[-1].name != MANIFEST or members[-1].size > MANIFEST_BYTES:
        raise BackupDamaged("the backup has no manifest at its end: it is cut off, or is no backup of goclaw")
    try:
        told = json.loads(b"".join(read_body(file, members.pop())))
        return _manifest(told, members)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BackupDamaged("the manifest of the backup makes no sense") from None


def backups(home: Home) -> list[tuple[Path, Backup | BackupDamaged]]:
    """The backups in the home's own folder, newest first; what cannot be read with the reason. Bounded."""
    found = sorted(folder_of(home).glob("*.tar"), key=lambda path: path.name, reverse=True)
    return [(path, _read_or_reason(path)) for path in found[:MOST_LISTED]]


def last_backup(home: Home) -> dict[str, Any] | None:
    """{path, created_at, bytes} of the backup made last, wherever it went; None when there was none."""
    try:
        told = json.loads((folder_of(home) / "last.json").read_text("utf-8"))
        return {"path": str(told["path"]), "created_at": int(told["created_at"]), "bytes": int(told["bytes"])}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def anchors(home: Home, log_id: str) -> list[Anchor]:
    """The heads of the logs that the backups in the home's folder note, of this very log."""
    found = []
    for path, one in backups(home):
        if isinstance(one, Backup) and one.manifest.log_id == log_id:
            found.append(Anchor(by=f"backup {path.name}", event=one.manifest.event, audit=one.manifest.audit))
    return found


# -- writing ----------------------------------------------------------------------------------------------------------


def check_target(home: Home, target: Path) -> None:
    """Whether a backup could be written there. Raises BadRequest, Conflict when the name is taken, NotFound without a
    database, and StoreFull before the disk is full."""
    if not target.is_absolute():
        raise BadRequest("the path of a backup is absolute", field="path")
    if target.parent == folder_of(home):
        target.parent.mkdir(mode=0o700, exist_ok=True)
    if not target.parent.is_dir():
        raise BadRequest(f"there is no folder {target.parent}", field="path")
    if os.path.lexists(target):
        raise Conflict(f"there is a file {target} already; a backup never replaces one")
    if not home.database.is_file():
        raise NotFound(f"{home.root} has no database yet")
    wal = home.database.with_name(f"{DATABASE}-wal")
    wanted = 2 * (home.database.stat().st_size + (wal.stat().st_size if wal.exists() else 0)) + SPARE_BYTES
    free = free_bytes(target.parent)
    if free is not None and free < wanted:
        raise StoreFull(
            f"a backup needs {wanted >> 20} MiB at {target.parent} while it is made, {free >> 20} MiB are free there"
        )


def _prefix(home: Home) -> str:
    return f".goclaw-backup-{home.home_mark[:12]}-"


def _sweep(home: Home, folder: Path) -> None:
    """What a backup of this home that was killed has left there. Only one is made at a time."""
    for left in folder.glob(f"{_prefix(home)}*.part"):
        shutil.rmtree(left, ignore_errors=True)


def _pack(home: Home, work: Path, now: int, secrets: bool) -> Manifest:
    fd = os.open(work / "backup", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as out:
        writer, left_out = ArchiveWriter(out, now), list[str]()
        writer.add(DATABASE, work / DATABASE)
        for name, path in _sources(home, work / DATABASE, secrets, left_out):
            writer.add(name, path)
        manifest = _describe(work / DATABASE, now, secrets, (tuple(writer.members), tuple(left_out)))
        writer.add_bytes(MANIFEST, json.dumps(manifest.as_json(), indent=1).encode())
        writer.close()
        out.flush()
        os.fsync(fd)
    return manifest


def _describe(database: Path, now: int, secrets: bool, files: tuple[tuple[Member, ...], tuple[str, ...]]) -> Manifest:
    with open_read_only(database) as conn:
        return Manifest(
            created_at=now,
            version=__version__,
            schema=schema_of(database),
            log_id=meta.get(conn, "log_id") or "",
            event=chains.head(conn, chains.EVENTS),
            audit=chains.head(conn, chains.AUDIT),
            secrets=secrets,
            files=files[0],
            left_out=files[1],
        )


def _sources(home: Home, copy: Path, secrets: bool, left_out: list[str]) -> Iterator[tuple[str, Path]]:
    """Every file but the database: its name in the backup and where it is."""
    for name in (*FILES, *((DOTENV,) if secrets else ())):
        path = home.root / name
        if path.is_file():  # a link to a file counts: dotfiles are often kept elsewhere
            yield name, path.resolve()
    for folder in FOLDERS:
        yield from _below(home.root / folder, folder, left_out)
    for name in sorted(_referred(copy, home.artifacts)):
        yield f"{ARTIFACTS}/{name}", home.artifacts / name


def _below(folder: Path, name: str, left_out: list[str]) -> Iterator[tuple[str, Path]]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    for entry in entries:
        inside = f"{name}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            yield from _below(Path(entry.path), inside, left_out)
        elif entry.is_file(follow_symlinks=False) and _fits(inside):
            yield inside, Path(entry.path)
        else:
            left_out.append(inside.encode("utf-8", "backslashreplace").decode())


def _fits(name: str) -> bool:
    if name.startswith("secrets/") and name.endswith(".key"):
        return False  # a key beside what it opens would make the encryption worth nothing
    try:
        check_name(name)
    except BackupDamaged:
        return False
    return True


def _referred(copy: Path, folder: Path) -> set[str]:
    """The artifacts there are that the copied database refers to."""
    with suppress(FileNotFoundError):
        left = {entry.name for entry in os.scandir(folder) if _ARTIFACT.fullmatch(entry.name)}
        there = frozenset(left)
        with open_read_only(copy) as conn:
            for where in references.WHERE:
                below: int | None = NEWEST
                while left and below is not None:
                    found, below = references.referred(conn, where, left, below)
                    left -= found
        return set(there - left)
    return set()


def _remember(home: Home, made: Backup) -> None:
    """Note where the last backup went, for `backup list` and `doctor`. A note that cannot be written harms nothing."""
    told = {"path": str(made.path), "created_at": made.manifest.created_at, "bytes": made.bytes}
    with suppress(OSError):
        folder_of(home).mkdir(mode=0o700, exist_ok=True)
        write_atomic(folder_of(home) / "last.json", json.dumps(told) + "\n")


# -- reading ----------------------------------------------------------------------------------------------------------


def _manifest(told: Any, members: list[Member]) -> Manifest:
    if told["format"] != FORMAT:
        raise BackupDamaged(f"the backup has format {told['format']!r}; this goclaw knows {FORMAT}")
    known = {one["name"]: one for one in told["files"]}
    files = []
    for member in members:
        one = known.pop(member.name, None)
        if one is None or one["size"] != member.size or not _ARTIFACT.fullmatch(one["sha256"]):
            raise BackupDamaged(f"the backup holds {member.name}, which does not fit its manifest")
        files.append(Member(member.name, member.size, member.mode, member.offset, one["sha256"]))
    if known or not files or files[0].name != DATABASE:
        raise BackupDamaged(f"the backup lacks {next(iter(known), DATABASE)}, which its manifest names")
    return Manifest(
        created_at=int(told["created_at"]),
        version=str(told["goclaw"]),
        schema=int(told["schema"]),
        log_id=str(told["log_id"]),
        event=Head(int(told["event"]["id"]), bytes.fromhex(told["event"]["chain"])),
        audit=Head(int(told["audit"]["id"]), bytes.fromhex(told["audit"]["chain"])),
        secrets=bool(told["secrets"]),
        files=tuple(files),
        left_out=tuple(str(one) for one in told["left_out"]),
    )


def _read_or_reason(path: Path) -> Backup | BackupDamaged:
    try:
        return read_backup(path)
    except NotFound as error:
        return BackupDamaged(error.message)
    except BackupDamaged as error:
        return error
