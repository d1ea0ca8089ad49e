"""Open what was checked, and nothing a link leads to in between.

A path that was resolved has no links. It is opened one component at a time from the root, each relative to
the one before and each refusing a link, so a folder or file that was swapped for a link after the check is
refused instead of followed. This works on every POSIX system; openat2 would do the same in one call on Linux.
"""

from __future__ import annotations

import os
import stat
from pathlib import PurePath

from goclaw.errors import ToolFailed

_FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
_READABLE_FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_RDONLY
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def open_folder(path: str, *, create: bool = False) -> int:
    """A descriptor of the folder at the resolved absolute `path`, good for reading it and for files in it.

    With `create` missing folders are made. Raises ToolFailed when it is not there, not a folder, or a link by
    now.
    """
    parts = PurePath(path).parts
    if not parts or parts[0] != "/":
        raise ToolFailed(f"{path} is not an absolute path")
    fd = os.open("/", _FOLDER)
    try:
        for i, part in enumerate(parts[1:], start=1):
            flags = _READABLE_FOLDER if i == len(parts) - 1 else _FOLDER
            fd = _step(fd, part, flags, create)
        return fd if len(parts) > 1 else _step(fd, ".", _READABLE_FOLDER, False)
    except OSError as error:
        os.close(fd)
        raise _told(path, error) from None


def open_file(path: str) -> int:
    """A descriptor for reading the regular file at the resolved absolute `path`. Raises ToolFailed."""
    folder = open_folder(os.path.dirname(path))
    try:
        return open_file_in(folder, os.path.basename(path), path)
    finally:
        os.close(folder)


def open_file_in(folder: int, name: str, path: str) -> int:
    """The same for a name in an open folder; `path` is what errors call it."""
    try:
        fd = os.open(name, _FILE, dir_fd=folder)
    except OSError as error:
        raise _told(path, error) from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise ToolFailed(f"{path} is not a regular file")
    return fd


def _step(fd: int, part: str, flags: int, create: bool) -> int:
    if create:
        try:
            os.mkdir(part, 0o755, dir_fd=fd)
        except FileExistsError:
            pass
        except OSError:  # a folder we may not write in may still hold the next one
            pass
    following = os.open(part, flags, dir_fd=fd)
    os.close(fd)
    return following


def _told(path: str, error: OSError) -> ToolFailed:
    if isinstance(error, FileNotFoundError):
        return ToolFailed(f"{path} does not exist")
    return ToolFailed(f"{path} cannot be opened: {error.strerror}")
