"""A disk that forgets what was not synced, made again from what a layer has recorded.

The rules are those that POSIX and journaling file systems give a program, no better: a write is on the disk once a sync
of its file that began after it has come back. What was written since then may be there or not, in any order, torn at
512 or 4,096 bytes. A new, renamed or removed name is on the disk once its folder was synced; names changed since then
are there up to some point of their order. On a `lenient` disk (ext4) the sync of a new file holds its name too.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_HEAD = struct.Struct("=IIQQ")
_OPEN, _WRITE, _SIZE, _SYNC_BEGIN, _SYNC_END, _RENAME, _UNLINK, _VOID, _LINK = range(1, 10)
_UNSEEN = ("goclaw.db-shm",)
"""Memory, not disk."""
_OUTSIDE = ("workspace",)
TEARS = (512, 4096)
MODES = ("synced", "prefix", "scrambled")


@dataclass
class _Change:
    """A write, or (data None) a new size."""

    offset: int
    data: bytes | None

    def apply(self, body: bytearray) -> None:
        if self.data is None:
            del body[self.offset :]
            body.extend(bytes(max(0, self.offset - len(body))))
        else:
            body.extend(bytes(max(0, self.offset - len(body))))
            body[self.offset : self.offset + len(self.data)] = self.data


@dataclass(eq=False)
class _File:
    """What is on the disk for certain, and what has changed since."""

    body: bytearray = field(default_factory=bytearray)
    changes: list[_Change] = field(default_factory=list)
    settled: int = 0
    """How many changes are in `body` already."""

    def mark(self) -> int:
        return self.settled + len(self.changes)

    def settle(self, mark: int) -> None:
        count = max(0, mark - self.settled)
        for change in self.changes[:count]:
            change.apply(self.body)
        del self.changes[:count]
        self.settled += count

    def all(self) -> bytes:
        body = bytearray(self.body)
        for change in self.changes:
            change.apply(body)
        return bytes(body)


@dataclass
class _Naming:
    """A name given (`file`) or taken away (None)."""

    path: str
    file: _File | None


class _Folder:
    """The changes of names in one folder that are not on the disk for certain."""

    def __init__(self) -> None:
        self.changes: list[list[_Naming]] = []
        self.settled = 0

    def mark(self) -> int:
        return self.settled + len(self.changes)


class Disk:
    """The files below one home from a moment when nobody writes, and all that a record says has happened to them."""

    def __init__(self, home: Path) -> None:
        """Take what is there now as synced."""
        self._home = home.resolve()
        self._held = {str(path): _File(bytearray(path.read_bytes())) for path in self._files()}
        """Names on the disk for certain."""
        self._names = dict(self._held)
        """Names as processes see them."""
        self._folders: dict[str, _Folder] = {}
        self._handles: dict[int, _File | _Folder] = {}
        self._folder_paths: dict[int, str] = {}
        self._marks: dict[int, list[int]] = {}
        self._last: tuple[_File, _Change] | None = None
        self.forgotten = 0
        """Bytes of unsynced writes that the last cut has dropped."""

    def replay(self, record: Path, *, lenient: bool) -> None:
        """Follow a record to its end; a piece of it that the kill cut short has not happened."""
        for kind, handle, offset, data in _records(record.read_bytes()):
            self._follow(kind, handle, offset, data, lenient)

    def unseen(self) -> list[str]:
        """The files that differ from what the record explains: changed behind the layer's back. None, or the drill
        proves nothing. The last write may have been recorded and not made."""
        found = []
        for path in {*self._names, *map(str, self._files())}:
            file, real = self._names.get(path), Path(path)
            body = real.read_bytes() if real.exists() else None
            if file is None or body is None:
                found += [path] if (file is None) != (body is None) else []
            elif body != file.all() and not self._is_last(file, body):
                found.append(path)
        return sorted(found)

    def cut(self, chance: random.Random, mode: str) -> None:
        """The power goes: make the home what the disk may hold, and drop what it does not."""
        self.forgotten = 0
        names = dict(self._held)
        for folder in self._folders.values():
            kept = 0 if mode == "synced" else chance.randint(0, len(folder.changes))
            for changes in folder.changes[:kept]:
                _rename(names, changes)
        bodies = {path: self._body(file, chance, mode) for path, file in names.items()}
        modes = {str(path): path.stat().st_mode & 0o777 for path in self._files()}
        for path in self._files():
            path.unlink()
        (self._home / _UNSEEN[0]).unlink(missing_ok=True)
        for name, body in bodies.items():
            Path(name).write_bytes(body)
            Path(name).chmod(modes.get(name, 0o600))

    def _body(self, file: _File, chance: random.Random, mode: str) -> bytes:
        body = bytearray(file.body)
        kept: list[_Change] = []
        if mode == "prefix":
            kept = file.changes[: chance.randint(0, len(file.changes))]
        elif mode == "scrambled":
            tear = chance.choice(TEARS)
            kept = [part for change in file.changes for part in _parts(change, tear) if chance.random() < 0.5]
            chance.shuffle(kept)
        for change in kept:
            change.apply(body)
        written = sum(len(change.data or b"") for change in file.changes)
        self.forgotten += written - sum(len(change.data or b"") for change in kept)
        return bytes(body)

    def _follow(self, kind: int, handle: int, offset: int, data: bytes, lenient: bool) -> None:
        target = self._handles.get(handle)
        match kind:
            case 1:
                self._open(handle, data.decode(), fresh=bool(offset & 1), folder=bool(offset & 2))
            case 2 | 3 if isinstance(target, _File):
                change = _Change(offset, data if kind == _WRITE else None)
                target.changes.append(change)
                self._last = target, change
            case 8 if isinstance(target, _File):
                change = target.changes[-1]
                change.data = (change.data or b"")[:offset]
            case 4 if target is not None:
                self._marks.setdefault(handle, []).append(target.mark())
            case 5 if target is not None:
                self._synced(target, self._marks[handle].pop(0), lenient)
            case 6 | 9:
                old, _, new = data.decode().partition("\0")
                given = _Naming(new, self._names.get(old))
                self._change_names(_parent(new), [given] if kind == _LINK else [_Naming(old, None), given])
            case 7:
                self._change_names(_parent(data.decode()), [_Naming(data.decode(), None)])

    def _open(self, handle: int, path: str, *, fresh: bool, folder: bool) -> None:
        if folder:
            self._handles[handle] = self._folders.setdefault(path.rstrip("/"), _Folder())
            return
        if fresh or path not in self._names:
            self._change_names(_parent(path), [_Naming(path, _File())])
        self._handles[handle] = self._names[path]

    def _change_names(self, folder: str, changes: list[_Naming]) -> None:
        self._folders.setdefault(folder, _Folder()).changes.append(changes)
        _rename(self._names, changes)

    def _synced(self, target: _File | _Folder, mark: int, lenient: bool) -> None:
        if isinstance(target, _Folder):
            self._hold(target, mark)
            return
        target.settle(mark)
        for folder in self._folders.values() if lenient else ():
            about = [i for i, changes in enumerate(folder.changes) if any(one.file is target for one in changes)]
            if about:
                self._hold(folder, folder.settled + about[-1] + 1)

    def _hold(self, folder: _Folder, mark: int) -> None:
        count = max(0, mark - folder.settled)
        for changes in folder.changes[:count]:
            _rename(self._held, changes)
        del folder.changes[:count]
        folder.settled += count

    def _is_last(self, file: _File, body: bytes) -> bool:
        if self._last is None or self._last[0] is not file or not file.changes:
            return False
        without = _File(bytearray(file.body), file.changes[:-1])
        return body == without.all()

    def _files(self) -> Iterator[Path]:
        for path in self._home.rglob("*"):
            inside = path.relative_to(self._home)
            if path.is_file() and path.name not in _UNSEEN and inside.parts[0] not in _OUTSIDE:
                yield path


def _records(text: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    at = 0
    while at + _HEAD.size <= len(text):
        kind, handle, offset, length = _HEAD.unpack_from(text, at)
        at += _HEAD.size
        if at + length > len(text):
            return
        yield kind, handle, offset, text[at : at + length]
        at += length


def _rename(names: dict[str, _File], changes: list[_Naming]) -> None:
    for change in changes:
        if change.file is None:
            names.pop(change.path, None)
        else:
            names[change.path] = change.file


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _parts(change: _Change, tear: int) -> Iterator[_Change]:
    """A write as the sectors it touches; a new size is one part."""
    if change.data is None:
        yield change
        return
    at = change.offset
    end = at + len(change.data)
    while at < end:
        upto = min(end, (at // tear + 1) * tear)
        yield _Change(at, change.data[at - change.offset : upto - change.offset])
        at = upto
