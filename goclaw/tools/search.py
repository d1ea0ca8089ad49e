"""glob and grep."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from goclaw.core.access import Access
from goclaw.core.chat import ToolSpec
from goclaw.core.step import Effect
from goclaw.core.tool import CallContext, ToolOutput
from goclaw.errors import BadArguments, ToolFailed
from goclaw.policy.paths import STATE_FILES, STATE_PREFIX, is_inside
from goclaw.sandbox.process import ProcessSandbox, ProcessSpec
from goclaw.tools import scan
from goclaw.tools.workspace import Workspace, granted, parameters, subject

MAX_FOUND = 1_000
HEAD_LIMIT = 250
SEARCH_MS = 20_000
MAX_PATTERN = 1_000
_OUTPUT_CAP = 8 * 1024 * 1024
_GLOB = {"type": "string", "minLength": 1, "maxLength": MAX_PATTERN}
_CONTEXT = {"type": "integer", "minimum": 0, "maximum": 50}
_FLAGS: dict[str, Mapping[str, Any]] = {
    "-i": {"type": "boolean", "description": "Ignore case."},
    "-n": {"type": "boolean", "description": "Show line numbers; true if left out."},
    "-A": _CONTEXT,
    "-B": _CONTEXT,
    "-C": _CONTEXT,
}


class _Searching:
    """What both tools have in common: a scan below a folder, in a process with a time limit."""

    capability = "tools.read_file"
    effect = Effect.PURE

    def __init__(self, workspace: Workspace, sandbox: ProcessSandbox) -> None:
        self._workspace = workspace
        self._sandbox = sandbox

    async def accesses(self, arguments: Mapping[str, Any], context: CallContext) -> Sequence[Access]:
        """Reading the file, or the folder and all below it."""
        path = await asyncio.to_thread(self._workspace.resolve, arguments.get("path", "."))
        return (Access(subject(context), self.capability, path),)

    async def _scan(self, folder: str, request: Mapping[str, Any], context: CallContext) -> list[dict[str, Any]]:
        request = {**request, "skip": _skipped(folder, self._workspace.home)}
        spec = ProcessSpec(
            program=sys.executable,
            argv=(sys.executable, "-I", "-S", "-B", scan.__file__, json.dumps(request)),
            cwd=folder,
            context=context,
            timeout_ms=min(SEARCH_MS, context.timeout_ms or SEARCH_MS),
            output_cap=_OUTPUT_CAP,
        )
        with tempfile.TemporaryFile() as spool:
            result = await self._sandbox.run(spec, spool)
        if result.timed_out:
            raise ToolFailed("the search took too long; use a simpler pattern or a narrower path")
        if result.exit_code != 0 or result.stdout.left_out:
            raise ToolFailed(f"the search failed: {result.stderr.text[-300:].strip() or 'too much was found'}")
        return [json.loads(line) for line in (result.stdout.head + result.stdout.tail).splitlines()]

    def _show(self, folder: str, found: Mapping[str, Any]) -> str:
        return self._workspace.show(os.path.join(folder, found["path"]))


class Glob(_Searching):
    """Finds files by name."""

    spec = ToolSpec(
        "glob",
        "Find files whose path matches a pattern such as **/*.py or src/*.{ts,tsx}; the newest first. A "
        "pattern without a slash matches names at any depth. Links are not followed, .git is left out.",
        parameters(
            ("pattern",),
            pattern=_GLOB,
            path={"type": "string", "description": "The folder to look in; the workspace if left out."},
        ),
    )

    async def run(self, arguments: Mapping[str, Any], context: CallContext) -> ToolOutput:
        """One path a line. Raises BadArguments for a broken pattern, ToolFailed after 20 seconds."""
        _check_glob("pattern", arguments["pattern"])
        folder = granted(context).resource
        request = {"mode": "names", "glob": arguments["pattern"], "limit": MAX_FOUND}
        found = await self._scan(folder, request, context)
        lines = [self._show(folder, entry) for entry in found if "path" in entry]
        data = {"path": folder, "files": len(lines)}
        if found and "cut" in found[-1]:
            lines.append(f"[... {found[-1]['cut']} more files; use a narrower pattern ...]")
        return ToolOutput("\n".join(lines) or "no file matches", data=data)


class Grep(_Searching):
    """Finds lines in files by a regular expression."""

    spec = ToolSpec(
        "grep",
        "Search text files line by line with a regular expression of Python's dialect. Modes: "
        "files_with_matches (the default), content (the lines, with -A, -B or -C lines around them), count. "
        "Links are not followed, .git and binary files are left out.",
        parameters(
            ("pattern",),
            pattern={"type": "string", "minLength": 1, "maxLength": MAX_PATTERN},
            path={"type": "string", "description": "A file or folder; the workspace if left out."},
            glob={**_GLOB, "description": "Look only at files that match."},
            output_mode={"type": "string", "enum": ["content", "files_with_matches", "count"]},
            head_limit={
                "type": "integer",
                "minimum": 1,
                "maximum": MAX_FOUND,
                "description": "Lines or files.",
            },
            **_FLAGS,
        ),
    )

    async def run(self, arguments: Mapping[str, Any], context: CallContext) -> ToolOutput:
        """What was found, by mode. Raises BadArguments for a broken pattern, ToolFailed after 20 seconds."""
        _check_regex(arguments["pattern"])
        if "glob" in arguments:
            _check_glob("glob", arguments["glob"])
        top = granted(context).resource
        is_file = await asyncio.to_thread(os.path.isfile, top)
        folder, name = os.path.split(top) if is_file else (top, None)
        found = await self._scan(folder, _request(arguments, name), context)
        return self._output(folder, found, arguments)

    def _output(self, folder: str, found: list[dict[str, Any]], arguments: Mapping[str, Any]) -> ToolOutput:
        mode = arguments.get("output_mode", "files_with_matches")
        cut = bool(found) and "cut" in found[-1]
        files = [file for file in found if "path" in file]
        lines: list[str] = []
        for file in files:
            path = self._show(folder, file)
            if mode == "content":
                lines += _content(path, file["lines"], arguments.get("-n", True))
            else:
                lines.append(f"{path}:{file['count']}" if mode == "count" else path)
        if cut:
            lines.append("[... more was found; raise head_limit or narrow the search ...]")
        data = {"path": folder, "files": len(files), "cut": cut}
        return ToolOutput("\n".join(lines) or "nothing matches", data=data)


def _check_regex(pattern: str) -> None:
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise BadArguments(f"pattern: not a valid regular expression: {error}") from None


def _check_glob(name: str, pattern: str) -> None:
    try:
        scan.translate(pattern)
    except ValueError as error:
        raise BadArguments(f"{name}: {error}") from None


def _request(arguments: Mapping[str, Any], name: str | None) -> dict[str, Any]:
    around = arguments.get("-C", 0)
    return {
        "pattern": arguments["pattern"],
        "ignore_case": arguments.get("-i", False),
        "glob": arguments.get("glob"),
        "mode": arguments.get("output_mode", "files_with_matches"),
        "limit": arguments.get("head_limit", HEAD_LIMIT),
        "before": arguments.get("-B", around),
        "after": arguments.get("-A", around),
        "name": name,
    }


def _content(path: str, lines: list[Any], numbered: bool) -> list[str]:
    out: list[str] = []
    last: int | None = None
    for number, matches, text in lines:
        if last is not None and number != last + 1:
            out.append("--")
        mark = ":" if matches else "-"
        out.append(f"{path}{mark}{number}{mark}{text}" if numbered else f"{path}{mark}{text}")
        last = number
    return out


def _skipped(top: str, home: str) -> dict[str, Any] | None:
    """The daemon's own files as the scan knows them, when the home lies at or below `top`."""
    if not is_inside(home, top):
        return None
    folder = os.path.relpath(home, top)
    return {"folder": "" if folder == "." else folder, "names": sorted(STATE_FILES), "prefix": STATE_PREFIX}
