"""Artifacts on disk, and read_artifact."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from goclaw.core.access import Access
from goclaw.core.chat import ToolSpec
from goclaw.core.ports import Artifacts
from goclaw.core.step import Effect
from goclaw.core.tool import CallContext, ToolOutput
from goclaw.errors import NotFound, ToolFailed
from goclaw.policy.rules import ARTIFACT
from goclaw.sandbox.finish import finish
from goclaw.tools.workspace import granted, parameters, subject

MAX_CHARS = 30_000
_SHA256 = re.compile(r"[0-9a-f]{64}")
_BLOCK = 1024 * 1024


class FolderArtifacts:
    """Fits the port Artifacts: one file for each body, named by its SHA-256, written once and synced.

    What is stored again counts as new, so that it is not removed while somebody is about to refer to it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def put(self, body: bytes) -> str:
        """Store `body` durably; its SHA-256. Storing it again changes nothing."""
        return await finish(asyncio.to_thread(self._put, body))

    async def get(self, sha256: str) -> bytes:
        """The body. Raises NotFound, also for one that was altered on disk."""
        return await asyncio.to_thread(self._get, sha256)

    async def older(self, before: int) -> set[str]:
        """Names of the artifacts last stored before an instant (milliseconds since 1970 UTC)."""
        return await asyncio.to_thread(self._older, before)

    async def remove(self, names: Collection[str], before: int) -> int:
        """Overwrite and remove artifacts, but none that was stored again since `before`; how many went."""
        return await finish(asyncio.to_thread(lambda: sum(self._remove(name, before) for name in names)))

    def _older(self, before: int) -> set[str]:
        found = set()
        with contextlib.suppress(FileNotFoundError), os.scandir(self._folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    if _SHA256.fullmatch(entry.name) and _stored_at(entry.stat()) < before:
                        found.add(entry.name)
        return found

    def _remove(self, name: str, before: int) -> bool:
        """Set it aside first: from then on `put` writes it anew, and what it did before shows in the time."""
        aside = self._folder / f".{name}.removed.tmp"
        try:
            (self._folder / name).rename(aside)
        except FileNotFoundError:
            return False
        told = aside.stat()
        if _stored_at(told) >= before:
            aside.rename(self._folder / name)
            return False
        with aside.open("r+b") as file:
            for _ in range(0, told.st_size, _BLOCK):
                file.write(bytes(min(_BLOCK, told.st_size - file.tell())))
            file.flush()
            os.fsync(file.fileno())
        aside.unlink()
        return True

    def _put(self, body: bytes) -> str:
        sha256 = hashlib.sha256(body).hexdigest()
        path = self._folder / sha256
        with contextlib.suppress(FileNotFoundError):
            os.utime(path)
            return sha256
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self._folder / f".{sha256}.{os.urandom(4).hex()}.tmp"
        try:
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return sha256

    def _get(self, sha256: str) -> bytes:
        if _SHA256.fullmatch(sha256):
            with contextlib.suppress(FileNotFoundError):
                body = (self._folder / sha256).read_bytes()
                if hashlib.sha256(body).hexdigest() == sha256:
                    return body
        raise NotFound(f"there is no artifact {sha256[:80]}")


class ReadArtifact:
    """Reads a piece of a stored output or attachment."""

    capability = "tools.read_file"
    effect = Effect.PURE
    spec = ToolSpec(
        "read_artifact",
        "Read a piece of an artifact: the whole of an output that was too long to show, or an attachment.",
        parameters(
            ("artifact",),
            artifact={
                "type": "string",
                "pattern": "^[0-9a-f]{64}$",
                "description": "The artifact's SHA-256.",
            },
            offset={
                "type": "integer",
                "minimum": 0,
                "description": "The first character to read; 0 if left out.",
            },
            limit={
                "type": "integer",
                "minimum": 1,
                "maximum": MAX_CHARS,
                "description": "How many characters.",
            },
        ),
    )

    def __init__(self, artifacts: Artifacts) -> None:
        self._artifacts = artifacts

    async def accesses(self, arguments: Mapping[str, Any], context: CallContext) -> Sequence[Access]:
        """Reading the artifact."""
        return (Access(subject(context), self.capability, ARTIFACT + arguments["artifact"]),)

    async def run(self, arguments: Mapping[str, Any], context: CallContext) -> ToolOutput:
        """The characters asked for. Raises ToolFailed when there is no such artifact."""
        sha256 = granted(context).resource.removeprefix(ARTIFACT)
        try:
            body = await self._artifacts.get(sha256)
        except NotFound as error:
            raise ToolFailed(error.message) from None
        offset, limit = arguments.get("offset", 0), arguments.get("limit", MAX_CHARS - 200)
        whole = await asyncio.to_thread(body.decode, "utf-8", "replace")
        text = whole[offset : offset + limit]
        end = offset + len(text)
        if end < len(whole):
            text += f"\n[... {len(whole) - end} characters follow; continue with offset {end} ...]"
        data = {"artifact": sha256, "offset": offset, "chars": len(whole)}
        return ToolOutput(text or "nothing there", data=data)


def _stored_at(told: os.stat_result) -> int:
    return told.st_mtime_ns // 1_000_000
