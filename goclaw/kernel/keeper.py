"""Backups and verification beside the work of a daemon: one of each at a time, never in anybody's way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from goclaw.config.home import Home, lock_home
from goclaw.core.ports import Clock, Emit
from goclaw.db import Database
from goclaw.db.backup import check_integrity, open_read_only, schema_of
from goclaw.db.migrate import shipped_migrations
from goclaw.errors import BadRequest, Conflict, GoclawError, NotFound, SchemaNewer
from goclaw.kernel.backup import Backup, anchors, backups, check_target, create, default_path, last_backup
from goclaw.kernel.restore import Checked, check_backup
from goclaw.log import get_logger
from goclaw.sandbox.finish import finish
from goclaw.store import heads, meta
from goclaw.store.chains import Finding
from goclaw.store.verify import Report, Verification, damaged

BREATH_S = 0.005
"""Between two pages of a backup that is verified: others get the interpreter for about as long as a page takes."""
TOLD = 10
"""How many findings an event names."""


class Keeper:
    """One per daemon. `count` is told how each backup ended: `made` or `failed`."""

    def __init__(
        self, home: Home, database: Database, clock: Clock, log_id: str, emit: Emit, count: Callable[[str], None]
    ) -> None:
        self._home = home
        self._database = database
        self._clock = clock
        self._log_id = log_id
        self._emit = emit
        self._count = count
        self._busy: set[str] = set()

    async def create(self, path: str | None, secrets: bool) -> Backup:
        """Make a backup at the absolute `path`, else under a new name in backups/ of the home.

        Both heads are noted first, so the backup holds the note. Raises as `kernel.backup.create`, and Conflict while
        another one is made.
        """
        now = self._clock.wall()
        target = default_path(self._home, now) if path is None else Path(path)
        with self._alone("a backup is being made"):
            check_target(self._home, target)
            try:
                await self._database.write(heads.note, "backup", now)
                made = await finish(asyncio.to_thread(create, self._home, target, now, secrets=secrets))
            except GoclawError as error:
                self._count("failed")
                self._emit("backup.failed", {"path": str(target), "error_code": error.code, "error": error.message})
                raise
            self._count("made")
            told = {"path": str(target), "bytes": made.bytes, "event_id": made.manifest.event.id}
            self._emit("backup.created", told)
            return made

    async def listed(self) -> dict[str, Any]:
        """The backups in the home's folder, newest first, and the one that was made last, wherever it is."""
        found = await asyncio.to_thread(backups, self._home)
        shown = [
            one.as_json() if isinstance(one, Backup) else {"path": str(path), "error": one.message}
            for path, one in found
        ]
        return {"backups": shown, "last": await asyncio.to_thread(last_backup, self._home)}

    async def check(self, path: str) -> Checked:
        """Look at all of a backup. Raises BadRequest, NotFound, BackupDamaged, SchemaNewer."""
        if not Path(path).is_absolute():
            raise BadRequest("the path of a backup is absolute", field="path")
        rest = threading.Event()
        with self._alone("a backup is being verified"):
            try:
                looking = asyncio.to_thread(check_backup, Path(path), self._clock, lambda: rest.wait(BREATH_S))
                return await finish(looking)
            except OSError as error:
                raise BadRequest(f"{error.filename or path}: {error.strerror}", field="path") from None

    async def verify(self) -> Report:
        """Verify the database while it works, page by page, resting after each as long as it took.

        What is found is told as an event too. Raises Conflict while another verification is under way.
        """
        with self._alone("a verification is under way"):
            verification = Verification(await asyncio.to_thread(anchors, self._home, self._log_id))
            began = self._clock.monotonic()
            while await self._database.read(verification.step):
                await self._clock.sleep(self._clock.monotonic() - began)
                began = self._clock.monotonic()
            report = verification.report
            if not report.ok:
                kind = "security.chain_broken" if report.chain_broken else "security.state_unexplained"
                self._tell(kind, report.findings, report.found)
            return report

    async def begin(self) -> None:
        """At the start: look whether the heads noted last are still there, then note those of today."""
        found = await self._database.read(heads.check)
        if found:
            self._tell("security.chain_broken", found, len(found))
        self._database.post(heads.note, "boot", self._clock.wall())

    def _tell(self, kind: str, findings: tuple[Finding, ...] | list[Finding], found: int) -> None:
        told = [str(one) for one in findings[:TOLD]]
        get_logger("verify").error("not explained", kind=kind, found=found, findings=told)
        self._emit(kind, {"found": found, "findings": told})

    @contextmanager
    def _alone(self, what: str) -> Iterator[None]:
        if what in self._busy:
            raise Conflict(f"{what}; try again when it is done")
        self._busy.add(what)
        try:
            yield
        finally:
            self._busy.discard(what)


def verify_stopped(home: Home) -> Report:
    """Verify the database of a home that nobody serves; SQLite's own integrity check comes first. Blocks.

    Changes no byte of it. Raises NotFound, HomeLocked, SchemaNewer, and Conflict for an older schema.
    """
    if not home.database.is_file():
        raise NotFound(f"{home.root} has no database")
    with lock_home(home):
        if problems := check_integrity(home.database):
            return damaged(problems)
        _refuse_other_schema(schema_of(home.database))
        with open_read_only(home.database) as conn:
            verification = Verification(anchors(home, meta.get(conn, "log_id") or ""))
            while verification.step(conn):
                pass
        return verification.report


def _refuse_other_schema(found: int) -> None:
    newest = shipped_migrations()[-1].version
    if found > newest:
        raise SchemaNewer
    if found < newest:
        raise Conflict(f"the database has schema {found} of {newest}: start goclaw once, or verify a backup of it")
