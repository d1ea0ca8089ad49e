"""The file a backup is: a plain tar that any `tar` lists, written in one pass, read by rules stricter than tar's.

Such a file may come from elsewhere, so reading takes regular files only, with relative names of ordinary parts, each
name once: no links, no devices, nothing absolute, no `..`, no extended headers. Nothing is compressed, so what it holds
is never larger than the file itself.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from goclaw.errors import BackupDamaged, Conflict

BLOCK = 512
CHUNK = 1024 * 1024
MOST_MEMBERS = 100_000
DEEPEST = 32
_USTAR_BYTES = 8 * 1024**3
"""The largest size that fits into a header's octal field; larger ones are written as binary, as GNU tar does."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file: its name, mode bits, size, SHA-256, and where its bytes begin in the archive."""

    name: str
    size: int
    mode: int
    offset: int
    sha256: str = ""


class ArchiveWriter:
    """Appends files to an archive that is being written."""

    def __init__(self, out: BinaryIO, now: int) -> None:
        self._out = out
        self._mtime = now // 1000
        self.members: list[Member] = []

    def add(self, name: str, path: Path) -> Member:
        """Append the regular file at `path`. Raises Conflict when it shrinks meanwhile, OSError."""
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            about = os.fstat(fd)
            mode = 0o700 if about.st_mode & 0o100 else 0o600
            offset = self._begin(name, about.st_size, mode)
            digest, left = hashlib.sha256(), about.st_size
            while left:
                block = file.read(min(CHUNK, left))
                if not block:
                    raise Conflict(f"{path} was changed while it was copied; try again")
                digest.update(block)
                self._out.write(block)
                left -= len(block)
        return self._end(Member(name, about.st_size, mode, offset, digest.hexdigest()))

    def add_bytes(self, name: str, body: bytes) -> Member:
        """Append a file made of `body`."""
        offset = self._begin(name, len(body), 0o600)
        self._out.write(body)
        return self._end(Member(name, len(body), 0o600, offset, hashlib.sha256(body).hexdigest()))

    def close(self) -> None:
        """Write the end mark. The file is the caller's to sync."""
        self._out.write(bytes(2 * BLOCK))

    def _begin(self, name: str, size: int, mode: int) -> int:
        check_name(name)
        head = tarfile.TarInfo(name)
        head.size, head.mode, head.mtime = size, mode, self._mtime
        try:
            if size < _USTAR_BYTES:
                header = head.tobuf(tarfile.USTAR_FORMAT, "utf-8", "surrogateescape")
            else:
                header = head.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
        except ValueError:
            raise Conflict(f"the path {name} is too long for a backup; shorten it") from None
        self._out.write(header)
        return self._out.tell()

    def _end(self, member: Member) -> Member:
        self._out.write(bytes(-member.size % BLOCK))
        self.members.append(member)
        return member


def read_members(file: BinaryIO) -> Iterator[Member]:
    """The members in order, by their headers alone. Raises BackupDamaged for what `ArchiveWriter` would not write."""
    end = file.seek(0, os.SEEK_END)
    position, seen = 0, set[str]()
    while True:
        file.seek(position)
        header = file.read(BLOCK)
        if len(header) == BLOCK and not header.strip(b"\0"):
            return
        member = _parse(header, position + BLOCK)
        if member.offset + member.size > end:
            raise BackupDamaged(f"the backup is cut off within {member.name}")
        if member.name in seen:
            raise BackupDamaged(f"the backup holds {member.name} twice")
        if len(seen) == MOST_MEMBERS:
            raise BackupDamaged(f"the backup holds more than {MOST_MEMBERS} files")
        seen.add(member.name)
        yield member
        position = member.offset + member.size + -member.size % BLOCK


def read_body(file: BinaryIO, member: Member) -> Iterator[bytes]:
    """The bytes of a member, in pieces. Raises BackupDamaged when the archive ends before them."""
    file.seek(member.offset)
    left = member.size
    while left:
        block = file.read(min(CHUNK, left))
        if not block:
            raise BackupDamaged(f"the backup is cut off within {member.name}")
        left -= len(block)
        yield block


def extract(file: BinaryIO, member: Member, target: Path) -> None:
    """Write a member to the new file `target`, synced; folders above it are made, mode 0700. Raises OSError."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    mode = 0o700 if member.mode & 0o100 else 0o600
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with open(fd, "wb") as out:
        for block in read_body(file, member):
            out.write(block)
        out.flush()
        os.fsync(fd)


def check_name(name: str) -> None:
    """Raises BackupDamaged unless the name is relative and made of ordinary parts."""
    parts = name.split("/")
    strange = any(part in ("", ".", "..") or not part.isprintable() or "\\" in part for part in parts)
    if strange or len(parts) > DEEPEST or PurePosixPath(name).is_absolute():
        raise BackupDamaged(f"a backup cannot hold a file named {name[:100]!r}")


def _parse(header: bytes, offset: int) -> Member:
    try:
        head = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    except tarfile.HeaderError:
        raise BackupDamaged("the backup is cut off, or is no backup at all") from None
    except UnicodeDecodeError:
        raise BackupDamaged("the backup holds a file whose name is not UTF-8") from None
    if head.type != tarfile.REGTYPE or head.linkname or head.size < 0:
        raise BackupDamaged(f"the backup holds {head.name[:100]!r}, which is no regular file")
    check_name(head.name)
    return Member(head.name, head.size, head.mode, offset)
