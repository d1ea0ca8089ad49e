"""Build and steer the layer between a daemon and its disk and clocks (`layer.c`)."""

from __future__ import annotations

import ctypes
import errno
import functools
import mmap
import shutil
import subprocess
import tempfile
from enum import IntEnum, IntFlag
from pathlib import Path

SOURCE = Path(__file__).with_name("layer.c")
NEEDED = "the drill needs a C compiler; Debian, Ubuntu: sudo apt install gcc libc6-dev   Fedora: sudo dnf install gcc"


class Operation(IntFlag):
    """What is done to a file."""

    WRITE = 1
    SYNC = 2
    TRUNCATE = 4
    NAME = 8


class Files(IntFlag):
    """To which."""

    DATABASE = 1
    WAL = 2
    JOURNAL = 4
    LOG = 8
    OTHER = 16
    STORE = 7
    """All that SQLite writes."""


class Action(IntEnum):
    """What befalls it."""

    NOTHING = 0
    KILL_BEFORE = 1
    KILL_HALF = 2
    KILL_AFTER = 3
    FAIL = 4
    SHORT = 5


class _Control(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_uint64) for name in ("points", "hits", "at", "times")),
        *((name, ctypes.c_uint32) for name in ("armed", "operations", "files", "action", "error", "full", "deaf")),
        *((name, ctypes.c_uint32) for name in ("writes", "syncs", "truncations", "names")),
        ("wall_ns", ctypes.c_int64),
        ("monotonic_ns", ctypes.c_int64),
        ("written", ctypes.c_uint64),
    )


class NoCompiler(Exception):
    """The layer cannot be compiled here; the text says what to install."""


class Layer:
    """One layer, for one life of a daemon after another. What is set holds at once, also for a daemon that runs."""

    def __init__(self, folder: Path, home: Path) -> None:
        self._library, self._home = build(), home.resolve()
        self._steering, self.record = folder / "control", folder / "record"
        self._steering.write_bytes(bytes(ctypes.sizeof(_Control)))
        with self._steering.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._control = _Control.from_buffer(self._map)

    def env(self, *, recording: bool = False) -> dict[str, str]:
        """What a daemon must be started with. A recording begins anew with each."""
        given = {
            "LD_PRELOAD": str(self._library),
            "DRILL_UNDER": str(self._home),
            "DRILL_CONTROL": str(self._steering),
        }
        self.record.unlink(missing_ok=True)
        return given | ({"DRILL_RECORD": str(self.record)} if recording else {})

    def strike(
        self,
        action: Action,
        at: int,
        operations: Operation,
        *,
        files: Files = Files.STORE,
        times: int = 1,
        error: int = errno.EIO,
    ) -> None:
        """From now on count these operations on these files; let `action` befall the `at`th and the following
        `times` - 1."""
        control = self._control
        control.armed = 0
        control.points = control.hits = 0
        control.writes = control.syncs = control.truncations = control.names = 0
        control.at, control.times = at, times
        control.operations, control.files = int(operations), int(files)
        control.action, control.error = int(action), error
        control.armed = 1

    def rest(self) -> None:
        """Nothing befalls anybody: no strike, room on the disk, syncs that sync. The clocks stay as they are."""
        self._control.armed = self._control.full = self._control.deaf = 0

    def fill(self, full: bool = True) -> None:
        """A full disk: whatever would make a file longer, or a new one, fails with ENOSPC."""
        self._control.full = int(full)

    def ignore_syncs(self, files: Files) -> None:
        """A disk that lies: syncs of these files are told done and do nothing."""
        self._control.deaf = int(files)

    def jump(self, *, wall_s: float = 0, monotonic_s: float = 0) -> None:
        """Move the clocks of the daemon, on top of earlier jumps."""
        self._control.wall_ns += round(wall_s * 1e9)
        self._control.monotonic_ns += round(monotonic_s * 1e9)

    @property
    def wall_s(self) -> float:
        """How far the wall clock of the daemon is from that of the machine."""
        return float(self._control.wall_ns / 1e9)

    @property
    def points(self) -> int:
        """Operations counted since the last `strike`."""
        return int(self._control.points)

    @property
    def hits(self) -> int:
        """How many of them were struck."""
        return int(self._control.hits)

    @property
    def seen(self) -> dict[Operation, int]:
        """All operations on the database's files since the last `strike`."""
        control = self._control
        return {
            Operation.WRITE: int(control.writes),
            Operation.SYNC: int(control.syncs),
            Operation.TRUNCATE: int(control.truncations),
            Operation.NAME: int(control.names),
        }


@functools.cache
def build() -> Path:
    """Compile the layer, once a process. Raises NoCompiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise NoCompiler(NEEDED)
    library = Path(_folder().name) / "layer.so"
    flags = ("-std=gnu11", "-O1", "-Wall", "-Wextra", "-shared", "-fPIC")
    made = subprocess.run(
        [compiler, *flags, "-o", str(library), str(SOURCE), "-ldl", "-lpthread"],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise NoCompiler(f"{NEEDED}\n{compiler} said:\n{made.stderr}")
    return library


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="goclaw-layer-")
