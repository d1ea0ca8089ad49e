"""An incident in one file: rows, the log lines that belong to them, and a manifest; for somebody else to read."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LINES = 5_000
MAX_BYTES = 32 * 1024 * 1024
"""Of all files together, before they are packed."""
KEPT = 20
_LOUD = frozenset({"warning", "error", "critical"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """Which log lines belong: those of the ids, and warnings and errors of the time."""

    ids: Set[str]
    since: int
    until: int


def pick_lines(folder: Path, wanted: Lines) -> list[dict[str, Any]]:
    """The newest 5,000 lines of system.jsonl and its older files that belong. Blocks."""
    found: deque[dict[str, Any]] = deque(maxlen=LINES)
    files = sorted(folder.glob("system.jsonl*"), key=lambda path: path.stat().st_mtime)
    for path in files:
        with suppress(FileNotFoundError), path.open(encoding="utf-8", errors="replace") as lines:
            found.extend(line for text in lines if (line := _belongs(text, wanted)) is not None)
    return list(found)


def _belongs(text: str, wanted: Lines) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except ValueError:
        return None
    if not isinstance(line, dict):
        return None
    if line.get("task_id") in wanted.ids or line.get("session_id") in wanted.ids:
        return line
    at = line.get("timestamp")
    in_time = isinstance(at, int) and wanted.since <= at <= wanted.until
    return line if in_time and line.get("level") in _LOUD else None


def pack(
    path: Path,
    tables: Mapping[str, Sequence[Mapping[str, Any]]],
    facts: Mapping[str, Any],
    redact: Callable[[Any], Any],
) -> dict[str, Any]:
    """Write `path` (mode 0600, whole or not at all): a JSON-lines file for each table, and manifest.json with `facts`
    and what is in each file. `redact` takes the secrets out of a JSON value. The manifest. Blocks."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    left = MAX_BYTES
    files: list[dict[str, Any]] = []
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(fd, "wb") as raw, zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as bundle:
            for name, rows in tables.items():
                body, count = _body(rows, redact, left)
                left -= len(body)
                bundle.writestr(f"{name}.jsonl", body)
                digest = hashlib.sha256(body).hexdigest()
                whole = {"truncated": True} if count < len(rows) else {}
                files.append({"name": f"{name}.jsonl", "rows": count, "bytes": len(body), "sha256": digest, **whole})
            manifest = {**redact(dict(facts)), "files": files}
            bundle.writestr("manifest.json", json.dumps(manifest, ensure_ascii=False, indent=2))
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return manifest


def _body(rows: Iterable[Mapping[str, Any]], redact: Callable[[Any], Any], room: int) -> tuple[bytes, int]:
    """The rows as lines of JSON, as far as they fit, and how many that is."""
    lines: list[bytes] = []
    for row in rows:
        line = (json.dumps(redact(dict(row)), ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")
        room -= len(line)
        if room < 0:
            break
        lines.append(line)
    return b"".join(lines), len(lines)


def thin_out(folder: Path) -> None:
    """Keep the newest 20 bundles of a folder. Blocks."""
    bundles = sorted(folder.glob("incident-*.zip"), key=lambda path: path.stat().st_mtime)
    for path in bundles[:-KEPT]:
        path.unlink(missing_ok=True)
