"""A small disk to be filled: a real file system where mounting is permitted, else one that the layer pretends."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.system.drills.layer import Layer

SIZE_MB = 1024
MB = 1024 * 1024
FIRST_STEP = 256 * MB
BLOCK = 1024


class Partition:
    """A disk that holds one home. `kind` says what it is, `folder` where."""

    def __init__(self, kind: str, folder: Path, layer: Layer | None = None) -> None:
        self.kind, self.folder = kind, folder
        self._filler, self._layer = folder / "filler", layer

    def pretend_by(self, layer: Layer) -> None:
        """The layer that pretends the disk, where it is no real one."""
        if self.kind == "pretended":
            self._layer = layer

    def fill(self) -> None:
        """Take all room there is."""
        if self._layer is not None:
            self._layer.fill()
            return
        step = FIRST_STEP
        with self._filler.open("ab") as file:
            while step >= BLOCK:
                try:
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, step)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    step //= 4
            os.fsync(file.fileno())

    def clear(self) -> None:
        """Give it back."""
        if self._layer is not None:
            self._layer.fill(False)
        self._filler.unlink(missing_ok=True)


@contextmanager
def partition(folder: Path, *, pretend: bool = False) -> Iterator[Partition]:
    """The best disk that can be had here: ext4 in a file, tmpfs, or a pretended one."""
    mounted = folder / "disk"
    mounted.mkdir()
    with ExitStack() as stack:
        kind = "pretended"
        if not pretend and os.geteuid() == 0 and shutil.which("mount"):
            kind = _mount(folder / "disk.img", mounted) or kind
        if kind != "pretended":
            stack.callback(_run, "umount", "--lazy", str(mounted))
        yield Partition(kind, mounted)


def _mount(image: Path, mounted: Path) -> str | None:
    with suppress(OSError, subprocess.CalledProcessError):
        with image.open("wb") as file:
            file.truncate(SIZE_MB * MB)
        _run("mkfs.ext4", "-q", "-F", "-m", "0", "-b", "4096", str(image))
        _run("mount", "-o", "loop", str(image), str(mounted))
        return "ext4"
    with suppress(OSError, subprocess.CalledProcessError):
        _run("mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", str(mounted))
        return "tmpfs"
    return None


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True)
