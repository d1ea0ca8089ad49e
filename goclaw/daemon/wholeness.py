"""A damaged database is never served: looked at before the start, checked to its end behind it, remembered.

What was found is kept in a note beside the file, so that the next start looks at all of it before it serves anybody.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from goclaw.config.home import Home
from goclaw.errors import RESTORE, StoreCorrupt, StoreDamaged
from goclaw.store import integrity
from goclaw.store.integrity import Found


def inspect(home: Home) -> Found:
    """How the database of a locked home was left. Raises StoreCorrupt, having changed no byte of it. Blocks."""
    suspect = home.damage_note.exists()
    found = integrity.look(home.database, suspect=suspect)
    if found.damage is not None:
        raise StoreCorrupt(f"{home.database.name} is damaged ({found.damage}) and was left untouched; {RESTORE}")
    if suspect:
        with suppress(OSError):
            home.damage_note.unlink()
    return found


def remember(home: Home, error: StoreDamaged) -> None:
    """Leave the note for the next start; on a disk that takes no note, that start looks as after any unclean stop."""
    with suppress(OSError):
        home.damage_note.write_text(f"{error.message}\n", "utf-8")


class BackgroundCheck:
    """The rest of a check that would have held up the start, table by table on a thread of its own."""

    def __init__(self, path: Path, found: Found, damaged: Callable[[StoreDamaged], None]) -> None:
        self._path = path
        self._damaged = damaged
        self._found = found
        self._done = found.checked

    @property
    def state(self) -> str:
        """`clean` (nothing had to be checked), `checked` or `checking`."""
        if not self._done:
            return "checking"
        return "clean" if self._found.clean else "checked"

    async def run(self) -> None:
        """Check what is left to be checked; `damaged` is called with what is broken."""
        if self._done:
            return
        damage = await _on_a_thread(lambda stopped: integrity.check_by_table(self._path, stopped))
        self._done = True
        if damage is not None:
            self._damaged(StoreDamaged(f"{StoreDamaged.__doc__} ({damage}) {RESTORE}"))


async def _on_a_thread(work: Callable[[Callable[[], bool]], str | None]) -> str | None:
    """The result of `work(stopped)`. The thread is nobody's: a process that ends does not wait for it."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[str | None] = loop.create_future()
    stopped = threading.Event()

    def settle(result: str | None) -> None:
        if not ended.done():
            ended.set_result(result)

    def run() -> None:
        result: str | None = None
        try:
            result = work(stopped.is_set)
        finally:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(settle, result)

    threading.Thread(target=run, name="goclaw-integrity", daemon=True).start()
    try:
        return await ended
    finally:
        stopped.set()
