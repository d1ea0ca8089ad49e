"""One skill folder, read once and without following a link: what was read is what is checked, hashed and
run."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from goclaw.errors import SkillFault, SkillRejected
from goclaw.sandbox.wasm import MODULE_BYTES, WasmModule
from goclaw.skills.manifest import SCHEMA_FILE, SKILL_FILE, Manifest, read_manifest

_TEXT_BYTES = 256 * 1024
_ENTRIES = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Skill:
    """A skill in order. `module` is None for one that only instructs; `version` is a SHA-256 over all that
    was read, so any change of text, schema or module makes another version."""

    manifest: Manifest
    path: Path
    module: WasmModule | None
    version: str

    @property
    def name(self) -> str:
        """The name of the folder, of the skill and of its tool."""
        return self.manifest.name


def read_skill(path: Path) -> Skill:
    """Read the folder `path`. Raises SkillRejected with the reason; nothing of the folder is kept open.

    Only SKILL.md, the schema file and the one .wasm at the top of the folder are read. A symbolic link beside
    them is refused: what it leads to could change after the look at it, or lie outside.
    """
    try:
        with _opened(path) as folder:
            names = _names(folder)
            manifest_bytes = _read(folder, SKILL_FILE, _TEXT_BYTES)
            schema_bytes = _read(folder, SCHEMA_FILE, _TEXT_BYTES) if SCHEMA_FILE in names else None
            code = _module_bytes(folder, names)
    except OSError as error:
        raise SkillRejected(f"the folder cannot be read: {error.strerror}") from error
    schema = None if schema_bytes is None else _decoded(schema_bytes, SCHEMA_FILE)
    manifest = read_manifest(_decoded(manifest_bytes, SKILL_FILE), path.name, schema)
    return Skill(
        manifest=manifest,
        path=path,
        module=_module(code),
        version=_version(manifest_bytes, schema_bytes, code),
    )


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield folder
    finally:
        os.close(folder)


def _names(folder: int) -> list[str]:
    names: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink():
                raise SkillRejected(f"{entry.name!r} is a symbolic link; copy the file into the folder")
            names.append(entry.name)
            if len(names) > _ENTRIES:
                raise SkillRejected(f"the folder has more than {_ENTRIES:,} entries")
    if SKILL_FILE not in names:
        raise SkillRejected(f"there is no {SKILL_FILE}")
    return sorted(names)


def _read(folder: int, name: str, limit: int) -> bytes:
    # O_NONBLOCK: opening a named pipe must not wait for its writer. O_NOFOLLOW: it may have become a link by
    # now.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with open(os.open(name, flags, dir_fd=folder), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise SkillRejected(f"{name} is not a regular file")
        body = file.read(limit + 1)
    if len(body) > limit:
        raise SkillRejected(f"{name} has more than {limit:,} bytes")
    return body


def _module_bytes(folder: int, names: list[str]) -> bytes | None:
    found = [name for name in names if name.endswith(".wasm")]
    if len(found) > 1:
        raise SkillRejected(f"there is more than one module: {', '.join(found[:3])}")
    return _read(folder, found[0], MODULE_BYTES) if found else None


def _module(code: bytes | None) -> WasmModule | None:
    try:
        return None if code is None else WasmModule(code)
    except SkillFault as fault:
        raise SkillRejected(fault.message) from fault


def _decoded(body: bytes, name: str) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SkillRejected(f"{name} is not UTF-8") from error


def _version(*parts: bytes | None) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(b"-" if part is None else b"%d:" % len(part) + part)
    return whole.hexdigest()
