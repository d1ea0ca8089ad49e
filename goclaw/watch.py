"""Files that change on disk call back.

On Linux this listens to inotify and sleeps until something happens. The watchfiles library serves the other
systems: it looks at its own queue once every step (measured: 199 wake-ups in 4 s at a step of 20 ms, 8 at
one of 500 ms) and hears every write to the database in the same folder, which an idle daemon cannot afford.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import struct
import sys
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

OnChange = Callable[[frozenset[Path]], Awaitable[None]]
DEBOUNCE_MS = 30
MAX_FOLDERS = 1_000

_ATTRIB, _CLOSE_WRITE, _MOVED, _CREATE, _DELETE, _SELF = 0x4, 0x8, 0xC0, 0x100, 0x200, 0xC00
_MASK = _ATTRIB | _CLOSE_WRITE | _MOVED | _CREATE | _DELETE | _SELF
_OVERFLOW, _ONLYDIR = 0x4000, 0x01000000
_HEAD = struct.Struct("iIII")


async def watch(paths: Iterable[Path], on_change: OnChange) -> None:
    """Call `on_change` with those of `paths` that changed, until canceled.

    A path may be a file or a folder (then everything below it counts) and need not exist; the folder above
    it must. It is the name that is watched, so a file that an editor replaces by renaming, one created
    later and one deleted are all seen. The first call comes as soon as the watch stands, with every path,
    so that nothing that happened before it is missed. Calls never overlap, and changes within 30 ms share
    one. Not promised: one call per change, or that the file is complete when the call comes; another call
    follows then. Raises OSError when a folder cannot be watched, and whatever `on_change` raises.
    """
    watched = tuple(dict.fromkeys(path.absolute() for path in paths))
    if sys.platform == "linux":
        await _watch_inotify(watched, on_change)
    else:
        await _watch_portable(watched, on_change)


async def _watch_inotify(watched: tuple[Path, ...], on_change: OnChange) -> None:
    with contextlib.closing(_Inotify(watched)) as notify:
        loop = asyncio.get_running_loop()
        bell = asyncio.Event()
        loop.add_reader(notify.fd, bell.set)
        try:
            changed = frozenset(watched)
            while True:
                if changed:
                    await on_change(changed)
                await bell.wait()
                await asyncio.sleep(DEBOUNCE_MS / 1000)
                bell.clear()
                changed = notify.drain()
        finally:
            loop.remove_reader(notify.fd)


async def _watch_portable(watched: tuple[Path, ...], on_change: OnChange) -> None:
    from watchfiles import awatch

    def covers(path: Path, name: str) -> bool:
        return Path(name) == path or path in Path(name).parents

    await on_change(frozenset(watched))
    folders = {path if path.is_dir() else path.parent for path in watched}
    async for changes in awatch(*folders, debounce=200, step=500, watch_filter=None):
        names = [name for _, name in changes]
        changed = frozenset(path for path in watched if any(covers(path, name) for name in names))
        if changed:
            await on_change(changed)


class _Inotify:
    """One inotify descriptor: the folders that hold the watched names, and the watched folders themselves."""

    def __init__(self, watched: tuple[Path, ...]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd: int = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "inotify is not available")
        self._watched = watched
        self._folders: dict[int, Path] = {}
        try:
            for folder in {path.parent for path in watched}:
                self._add(folder)
            for path in watched:
                self._descend(path)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop listening."""
        os.close(self.fd)

    def drain(self) -> frozenset[Path]:
        """The watched paths that were touched since the last call."""
        touched: set[Path] = set()
        while True:
            try:
                data = os.read(self.fd, 65_536)
            except BlockingIOError:
                return frozenset(touched)
            touched |= self._read(data)

    def _read(self, data: bytes) -> set[Path]:
        touched: set[Path] = set()
        offset = 0
        while offset < len(data):
            wd, mask, _, length = _HEAD.unpack_from(data, offset)
            name = data[offset + _HEAD.size : offset + _HEAD.size + length].rstrip(b"\0")
            offset += _HEAD.size + length
            if mask & _OVERFLOW:
                return set(self._watched)
            folder = self._folders.get(wd)
            if folder is None:
                continue
            changed = folder / os.fsdecode(name) if name else folder
            owners = {path for path in self._watched if changed == path or path in changed.parents}
            if owners and mask & (_CREATE | _MOVED):
                self._descend(changed)
            touched |= owners
        return touched

    def _descend(self, top: Path) -> None:
        if top.is_symlink() or not top.is_dir():
            return
        for folder, _, _ in os.walk(top):
            if len(self._folders) >= MAX_FOLDERS:
                raise OSError(f"more than {MAX_FOLDERS} folders to watch below {top}")
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                self._add(Path(folder))

    def _add(self, folder: Path) -> None:
        wd = self._libc.inotify_add_watch(self.fd, os.fsencode(folder), _MASK | _ONLYDIR)
        if wd < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(folder))
        self._folders[wd] = folder
