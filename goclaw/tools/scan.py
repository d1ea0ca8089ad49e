"""Walk a folder and search files; also a program of its own, because `re` knows no time limit.

A pattern such as (a+)+$ can keep `re` busy for years, and it holds the interpreter meanwhile. So grep runs
this file in a child process that can be killed. It imports the standard library only and starts in a few
milliseconds.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections import deque
from collections.abc import Callable, Iterator
from typing import IO, Any

MAX_ENTRIES = 100_000
MAX_FILE_BYTES = 16 * 1024 * 1024
MAX_LINE_CHARS = 500
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK

Skip = Callable[[str], bool]


def translate(pattern: str) -> re.Pattern[str]:
    """A glob as a regular expression over relative paths. Raises ValueError.

    `*` and `?` stay inside one name, `**/` is any depth, `[a-z]` and `{a,b}` as usual. A pattern without a
    slash means a name at any depth.
    """
    if "/" not in pattern:
        pattern = "**/" + pattern
    while "**/**/" in pattern:
        pattern = pattern.replace("**/**/", "**/")
    try:
        return re.compile(_regex(pattern) + r"\Z", re.DOTALL)
    except re.error as error:
        raise ValueError(f"the glob {pattern!r} is not valid: {error}") from None


def walk(folder: int, skip: Skip) -> Iterator[tuple[str, os.stat_result]]:
    """The regular files below an open folder as (relative path, stat), links not followed, .git left out."""
    seen = 0
    for root, folders, files, fd in os.fwalk(".", dir_fd=folder, follow_symlinks=False):
        prefix = root[2:] + "/" if root != "." else ""
        folders[:] = sorted(name for name in folders if name != ".git" and not skip(prefix + name))
        for name in sorted(files):
            seen += 1
            if seen > MAX_ENTRIES:
                return
            if skip(prefix + name):
                continue
            try:
                stat = os.stat(name, dir_fd=fd, follow_symlinks=False)
            except OSError:
                continue
            if stat.st_mode & 0o170000 == 0o100000:
                yield prefix + name, stat


def search(file: IO[bytes], pattern: re.Pattern[str], before: int, after: int) -> Iterator[tuple[int, bool, str]]:
    """The matching lines and their context as (number, matches, text); nothing of a binary file."""
    data = file.read(MAX_FILE_BYTES)
    if b"\0" in data[:8192]:
        return
    waiting: deque[tuple[int, bool, str]] = deque(maxlen=before)
    trailing = 0
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), start=1):
        if pattern.search(line):
            yield from waiting
            waiting.clear()
            yield number, True, line[:MAX_LINE_CHARS]
            trailing = after
        elif trailing:
            trailing -= 1
            yield number, False, line[:MAX_LINE_CHARS]
        else:
            waiting.append((number, False, line[:MAX_LINE_CHARS]))


def skipper(skipped: dict[str, Any] | None) -> Skip:
    """What is never looked at: names directly in one folder that are listed or begin with a prefix."""
    if skipped is None:
        return lambda path: False
    folder, names, prefix = skipped["folder"], frozenset(skipped["names"]), skipped["prefix"]

    def skip(path: str) -> bool:
        head, _, name = path.rpartition("/")
        return head == folder and (name.casefold() in names or name.casefold().startswith(prefix))

    return skip


def _regex(pattern: str) -> str:
    out, i, depth = "", 0, 0
    while i < len(pattern):
        char, length = pattern[i], 1
        if pattern.startswith("**/", i):
            piece, length = "(?:[^/]+/)*", 3
        elif pattern.startswith("**", i):
            piece, length = ".*", 2
        elif char == "[" and (end := pattern.find("]", i + 2)) > 0:
            piece, length = _class(pattern[i + 1 : end]), end + 1 - i
        elif char == "{":
            piece, depth = "(?:", depth + 1
        elif char == "}" and depth:
            piece, depth = ")", depth - 1
        elif char == "," and depth:
            piece = "|"
        else:
            piece = {"*": "[^/]*", "?": "[^/]"}.get(char, re.escape(char))
        out, i = out + piece, i + length
    return out


def _class(inside: str) -> str:
    inside = inside.replace("\\", r"\\").replace("[", r"\[")
    return f"[^/{inside[1:]}]" if inside[0] in "!^" else f"[{inside}]"


def main(request: dict[str, Any], write: Callable[[str], Any]) -> None:
    """Look below the current folder; one JSON line for each file found, a last one when more was there.

    Mode `names`: files whose path matches `glob`, the newest first. Other modes: files with lines that match
    `pattern`, until `limit` lines (mode content) or files are out.
    """
    for found in _names(request) if request["mode"] == "names" else _matches(request):
        write(json.dumps(found) + "\n")


def _names(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    wanted = translate(request["glob"])
    entries = walk(_here(), skipper(request["skip"]))
    found = sorted((-stat.st_mtime_ns, path) for path, stat in entries if wanted.match(path))
    yield from ({"path": path} for _, path in found[: request["limit"]])
    if len(found) > request["limit"]:
        yield {"cut": len(found) - request["limit"]}


def _matches(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    pattern = re.compile(request["pattern"], re.IGNORECASE if request["ignore_case"] else 0)
    left = request["limit"]
    for path in _candidates(request):
        if left <= 0:
            yield {"cut": True}
            return
        found = _search_file(path, pattern, request)
        if found:
            found["lines"] = found["lines"][:left]
            left -= len(found["lines"]) if request["mode"] == "content" else 1
            yield {"path": path, **found}


def _candidates(request: dict[str, Any]) -> Iterator[str]:
    if request["name"]:
        return iter([request["name"]])
    wanted = translate(request["glob"] or "*")
    return (path for path, _ in walk(_here(), skipper(request["skip"])) if wanted.match(path))


def _here() -> int:
    return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _search_file(path: str, pattern: re.Pattern[str], request: dict[str, Any]) -> dict[str, Any] | None:
    try:
        file = os.fdopen(os.open(path, _FILE), "rb")
    except OSError:
        return None
    lines: list[tuple[int, bool, str]] = []
    count = 0
    with file:
        for number, matches, text in search(file, pattern, request["before"], request["after"]):
            count += matches
            if request["mode"] == "content" and len(lines) <= request["limit"]:
                lines.append((number, matches, text))
            elif request["mode"] == "files_with_matches":
                break
    return {"count": count, "lines": lines} if count else None


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.stdout.write)
