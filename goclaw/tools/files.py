"""read_file and list_directory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import IO, Any

from goclaw.core.access import Access
from goclaw.core.chat import ToolSpec
from goclaw.core.step import Effect
from goclaw.core.tool import CallContext, ToolOutput
from goclaw.errors import ToolFailed
from goclaw.policy.paths import is_state
from goclaw.sandbox.beneath import open_file, open_folder
from goclaw.tools.workspace import Workspace, granted, parameters, subject

MAX_LINES = 2_000
MAX_LINE_CHARS = 2_000
MAX_FILE_BYTES = 256 * 1024 * 1024
MAX_ENTRIES = 1_000
_BINARY_PROBE = 8_192


class ReadFile:
    """Reads lines of a text file, each with its number."""

    capability = "tools.read_file"
    effect = Effect.PURE
    spec = ToolSpec(
        "read_file",
        "Read a text file. Lines come with their numbers, as `cat -n` shows them. Up to 2000 lines at once; "
        "use offset and limit for the rest. Relative paths start in the workspace.",
        parameters(
            ("file_path",),
            file_path={"type": "string", "description": "The file to read."},
            offset={"type": "integer", "minimum": 1, "description": "The first line to read; 1 if left out."},
            limit={"type": "integer", "minimum": 1, "maximum": MAX_LINES, "description": "How many lines."},
        ),
    )

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    async def accesses(self, arguments: Mapping[str, Any], context: CallContext) -> Sequence[Access]:
        """Reading the file."""
        path = await asyncio.to_thread(self._workspace.resolve, arguments["file_path"])
        return (Access(subject(context), self.capability, path),)

    async def run(self, arguments: Mapping[str, Any], context: CallContext) -> ToolOutput:
        """The lines. Raises ToolFailed for what is no readable text file."""
        first, limit = arguments.get("offset", 1), arguments.get("limit", MAX_LINES)
        return await asyncio.to_thread(_read, granted(context).resource, first, limit)


class ListDirectory:
    """Lists a folder."""

    capability = "tools.read_file"
    effect = Effect.PURE
    spec = ToolSpec(
        "list_directory",
        "List the files and folders in a folder, folders with a slash, files with their size in bytes. "
        "Relative paths start in the workspace, which is also the default.",
        parameters((), path={"type": "string", "description": "The folder to list."}),
    )

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    async def accesses(self, arguments: Mapping[str, Any], context: CallContext) -> Sequence[Access]:
        """Reading the folder."""
        path = await asyncio.to_thread(self._workspace.resolve, arguments.get("path", "."))
        return (Access(subject(context), self.capability, path),)

    async def run(self, arguments: Mapping[str, Any], context: CallContext) -> ToolOutput:
        """One line for each entry, sorted. Raises ToolFailed for what is no folder."""
        return await asyncio.to_thread(self._list, granted(context).resource)

    def _list(self, path: str) -> ToolOutput:
        fd = open_folder(path)
        try:
            with os.scandir(fd) as entries:
                lines = sorted(
                    _entry(entry)
                    for entry in entries
                    if not is_state(os.path.join(path, entry.name), self._workspace.home)
                )
        finally:
            os.close(fd)
        shown = lines[:MAX_ENTRIES]
        if len(lines) > MAX_ENTRIES:
            shown.append(f"[... {len(lines) - MAX_ENTRIES} more entries; use glob to narrow ...]")
        text = "\n".join(shown) or f"{self._workspace.show(path)} is empty"
        return ToolOutput(text, data={"path": path, "entries": len(lines)})


def _entry(entry: os.DirEntry[str]) -> str:
    if entry.is_symlink():
        return f"{entry.name}@"
    if entry.is_dir(follow_symlinks=False):
        return f"{entry.name}/"
    return f"{entry.name} ({entry.stat(follow_symlinks=False).st_size})"


def _read(path: str, first: int, limit: int) -> ToolOutput:
    with os.fdopen(open_file(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_FILE_BYTES:
            raise ToolFailed(f"{path} has {size} bytes; read_file takes up to {MAX_FILE_BYTES}")
        if b"\0" in file.read(_BINARY_PROBE):
            raise ToolFailed(f"{path} is not text ({size} bytes)")
        file.seek(0)
        lines, more = _lines(file, first, limit)
    if not lines:
        text = f"{path} is empty" if first == 1 else f"{path} has no line {first}"
        return ToolOutput(text, data={"path": path, "first_line": first, "lines": 0, "more": False})
    if more:
        lines.append(f"[... more lines follow; continue with offset {first + len(lines)} ...]")
    data = {"path": path, "first_line": first, "lines": len(lines) - more, "more": more}
    return ToolOutput("\n".join(lines), data=data)


def _lines(file: IO[bytes], first: int, limit: int) -> tuple[list[str], bool]:
    """The numbered lines from `first` on, and whether more follow."""
    lines: list[str] = []
    number = 0
    while raw := _line(file):
        number += 1
        if number < first:
            continue
        if len(lines) == limit:
            return lines, True
        text = raw.decode("utf-8", "replace").rstrip("\r\n")
        if len(text) > MAX_LINE_CHARS:
            text = text[:MAX_LINE_CHARS] + " [... line cut ...]"
        lines.append(f"{number:6}\t{text}")
    return lines, False


def _line(file: IO[bytes]) -> bytes:
    """The next line, at least as much of it as is ever shown; b"" at the end."""
    kept = rest = file.readline(MAX_LINE_CHARS * 4 + 4)
    while rest and not rest.endswith(b"\n"):
        rest = file.readline(65_536)
    return kept
