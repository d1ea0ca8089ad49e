"""write_file and edit_file: whole-file replacement that a crash finds either done or not done."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from goclaw.core.access import Access
from goclaw.core.chat import ToolSpec
from goclaw.core.step import Effect
from goclaw.core.tool import CallContext, CannotTell, DidNotHappen, Happened, Probe, ToolOutput
from goclaw.errors import ToolFailed
from goclaw.sandbox.beneath import open_file_in, open_folder
from goclaw.sandbox.finish import finish
from goclaw.tools.workspace import Workspace, granted, parameters, subject

MAX_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Change:
    """New content for a file, made from the old one (None: there is no file)."""

    body: bytes
    told: str


class _Replacing(ABC):
    """What both tools have in common: one file is replaced by one computed from its present content."""

    capability = "tools.write_file"
    effect = Effect.VERIFIABLE

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    async def accesses(self, arguments: Mapping[str, Any], context: CallContext) -> Sequence[Access]:
        """Writing the file."""
        path = await asyncio.to_thread(self._workspace.resolve, arguments["file_path"])
        return (Access(subject(context), self.capability, path),)

    async def run(self, arguments: Mapping[str, Any], context: CallContext) -> ToolOutput:
        """Replace the file: temporary file beside it, synced, renamed, folder synced. Raises ToolFailed."""
        path = granted(context).resource
        return await finish(asyncio.to_thread(self._replace, path, arguments, context.effect_key))

    async def evidence(self, arguments: Mapping[str, Any], context: CallContext) -> dict[str, str | None]:
        """The hashes before and after; `post_sha256` is None when the change will be refused."""
        path = granted(context).resource

        def look() -> dict[str, str | None]:
            before = _present(path)
            try:
                after = _sha256(self._change(path, before, arguments).body)
            except ToolFailed:
                after = None
            return {"path": path, "pre_sha256": _sha256(before), "post_sha256": after}

        return await asyncio.to_thread(look)

    async def probe(self, arguments: Mapping[str, Any], evidence: Any, context: CallContext) -> Probe:
        """Compare what is there with both hashes."""
        path = granted(context).resource
        if not isinstance(evidence, Mapping) or evidence.get("path") != path:
            return CannotTell("the record says nothing about this file")
        current = _sha256(await asyncio.to_thread(_present, path))
        if current is not None and current == evidence["post_sha256"]:
            return Happened(self._done(path, current, "already done before the interruption"))
        if current == evidence["pre_sha256"]:
            return DidNotHappen()
        return CannotTell(f"{path} is neither what it was before nor what was to be written")

    def _replace(self, path: str, arguments: Mapping[str, Any], key: str) -> ToolOutput:
        told = ""

        def make(before: bytes | None) -> bytes:
            nonlocal told
            change = self._change(path, before, arguments)
            told = change.told
            return change.body

        return self._done(path, _sha256(_replace(path, make, key)), told)

    def _done(self, path: str, sha256: str | None, told: str) -> ToolOutput:
        return ToolOutput(f"{self._workspace.show(path)}: {told}", data={"path": path, "sha256": sha256})

    @abstractmethod
    def _change(self, path: str, before: bytes | None, arguments: Mapping[str, Any]) -> _Change:
        """The new content. Raises ToolFailed when there is none."""


class WriteFile(_Replacing):
    """Writes a whole file."""

    spec = ToolSpec(
        "write_file",
        "Write a file, creating it and its folders or replacing all of its content. To change a part of a "
        "file use edit_file. Relative paths start in the workspace.",
        parameters(
            ("file_path", "content"),
            file_path={"type": "string", "description": "The file to write."},
            content={"type": "string", "description": "The whole new content."},
        ),
    )

    def _change(self, path: str, before: bytes | None, arguments: Mapping[str, Any]) -> _Change:
        body = arguments["content"].encode("utf-8", "surrogatepass")
        return _Change(body, f"{'created' if before is None else 'replaced'}, {len(body)} bytes")


class EditFile(_Replacing):
    """Replaces a text in a file."""

    spec = ToolSpec(
        "edit_file",
        "Replace old_string by new_string in a text file. old_string must be exactly what the file contains, "
        "white space included and without line numbers, and must occur once, unless replace_all is true.",
        parameters(
            ("file_path", "old_string", "new_string"),
            file_path={"type": "string", "description": "The file to change."},
            old_string={"type": "string", "minLength": 1, "description": "The text to replace."},
            new_string={"type": "string", "description": "The text to put in its place."},
            replace_all={"type": "boolean", "description": "Replace every occurrence; false if left out."},
        ),
    )

    def _change(self, path: str, before: bytes | None, arguments: Mapping[str, Any]) -> _Change:
        if before is None:
            raise ToolFailed(f"{path} does not exist")
        old = arguments["old_string"].encode("utf-8", "surrogatepass")
        new = arguments["new_string"].encode("utf-8", "surrogatepass")
        count = before.count(old)
        if old == new:
            raise ToolFailed("old_string and new_string are the same")
        if count == 0:
            raise ToolFailed(f"old_string does not occur in {path}")
        if count > 1 and not arguments.get("replace_all", False):
            raise ToolFailed(f"old_string occurs {count} times in {path}; make it longer or set replace_all")
        return _Change(before.replace(old, new), f"{count} replaced")


def _sha256(body: bytes | None) -> str | None:
    return None if body is None else hashlib.sha256(body).hexdigest()


def _present(path: str) -> bytes | None:
    """What the file holds; None when it or its folder does not exist."""
    try:
        folder = open_folder(os.path.dirname(path))
    except ToolFailed:
        if not os.path.lexists(os.path.dirname(path)):
            return None
        raise
    try:
        return _content(folder, os.path.basename(path), path)
    finally:
        os.close(folder)


def _content(folder: int, name: str, path: str) -> bytes | None:
    try:
        there = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    _refuse_odd(there, path)
    with os.fdopen(open_file_in(folder, name, path), "rb") as file:
        body = file.read(MAX_BYTES + 1)
    if len(body) > MAX_BYTES:
        raise ToolFailed(f"{path} is larger than {MAX_BYTES} bytes")
    return body


def _refuse_odd(there: os.stat_result, path: str) -> None:
    if not stat.S_ISREG(there.st_mode):
        raise ToolFailed(f"{path} is not a regular file")
    if there.st_nlink != 1:
        raise ToolFailed(f"{path} has {there.st_nlink} names (hard links) and is not written through one of them")


def _replace(path: str, make: Callable[[bytes | None], bytes], key: str) -> bytes:
    name = os.path.basename(path)
    if not name:
        raise ToolFailed(f"{path} is a folder")
    folder = open_folder(os.path.dirname(path), create=True)
    # One name for each effect: what an interrupted run left behind is taken away by the next one.
    temporary = f".goclaw-{hashlib.sha256(key.encode()).hexdigest()[:16]}.tmp"
    try:
        body = make(_content(folder, name, path))
        if len(body) > MAX_BYTES:
            raise ToolFailed(f"{path} would become larger than {MAX_BYTES} bytes")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)
        try:
            _write(folder, temporary, body, name)
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=folder)
            raise
        os.fsync(folder)
    except OSError as error:
        raise ToolFailed(f"{path} cannot be written: {error.strerror}") from None
    finally:
        os.close(folder)
    return body


def _write(folder: int, temporary: str, body: bytes, name: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(temporary, flags, 0o666, dir_fd=folder), "wb") as file:
        with contextlib.suppress(FileNotFoundError):
            mode = stat.S_IMODE(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
            os.fchmod(file.fileno(), mode & 0o777)
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
