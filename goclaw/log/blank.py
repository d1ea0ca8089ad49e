"""Lines about somebody who asked to be forgotten are overwritten where they stand."""

from __future__ import annotations

import os
import re
from collections.abc import Set
from contextlib import suppress
from pathlib import Path

_ID = re.compile(rb'"(?:task_id|session_id)":\s*"([^"]*)"')
_BLANK = b'{"msg":"purged"}'


def blank_lines(folder: Path, ids: Set[str]) -> int:
    """Overwrite every line of the files in `folder` that is about one of these tasks or sessions; how many.

    A line keeps its length, so that a daemon can go on writing behind it and a file can be rotated meanwhile. Blocks.
    """
    wanted = {one.encode() for one in ids}
    return sum(_blank_file(path, wanted) for path in sorted(folder.glob("*")) if path.is_file())


def _blank_file(path: Path, wanted: Set[bytes]) -> int:
    count = 0
    with suppress(FileNotFoundError), path.open("r+b", buffering=0) as raw, path.open("rb") as reading:
        offset = 0
        for line in reading:
            if line.endswith(b"\n") and not wanted.isdisjoint(_ID.findall(line)):
                os.pwrite(raw.fileno(), _BLANK.ljust(len(line) - 1)[: len(line) - 1], offset)
                count += 1
            offset += len(line)
        if count:
            os.fsync(raw.fileno())
    return count
