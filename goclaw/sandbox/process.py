"""Run a program: own session, clean environment, bounded output and time, nothing left alive afterwards."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import IO, Any

from goclaw.core.ports import Clock
from goclaw.core.tool import CallContext
from goclaw.errors import ToolFailed
from goclaw.sandbox.beneath import open_folder
from goclaw.sandbox.capture import Capture, Captured, Spool
from goclaw.sandbox.finish import finish
from goclaw.sandbox.sweep import EFFECT_KEY, MARK, kill_marked, kill_run

__all__ = [
    "SAFE_PATH",
    "ProcessResult",
    "ProcessSandbox",
    "ProcessSpec",
    "find_program",
    "is_plain_variable",
    "kill_marked",
]

SAFE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OUTPUT_CAP = 64 * 1024
SPOOL_CAP = 50 * 1024 * 1024
_DRAIN_S = 1.0
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
# Variables that make a program load code, run another one, or look for things elsewhere.
_STEERING_PREFIX = re.compile(r"LD_|DYLD_|GOCLAW_|BASH|GIT_|PYTHON|PERL|RUBY|NODE_|JAVA_|MALLOC_|LESS")
_STEERING = frozenset(
    {"PATH", "HOME", "ENV", "IFS", "CDPATH", "SHELLOPTS", "PS4", "PROMPT_COMMAND", "ZDOTDIR", "GCONV_PATH"}
    | {"LOCPATH", "NLSPATH", "HOSTALIASES", "RES_OPTIONS", "GLIBC_TUNABLES", "EDITOR", "VISUAL", "PAGER"}
    | {"BROWSER", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """What to run.

    `program` is the file, `argv` what the program is told, its name first. `cwd` is a resolved path and is
    entered without following links. `env` adds to the clean environment. `output_cap` is how many bytes of
    each stream are kept, half from its head and half from its tail.
    """

    program: str
    argv: tuple[str, ...]
    cwd: str
    context: CallContext
    timeout_ms: int
    env: Mapping[str, str] = field(default_factory=dict)
    output_cap: int = OUTPUT_CAP


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessResult:
    """How it ended: `exit_code` when it ended by itself, else the `signal` that ended it.

    After a signal nobody knows how far it came. The spool given to `run` holds both streams in the order
    they came, `spooled` bytes of them.
    """

    exit_code: int | None
    signal: int | None
    timed_out: bool
    stdout: Captured
    stderr: Captured
    spooled: int
    duration_ms: int


class ProcessSandbox:
    """Starts programs for one home.

    What a program starts dies with it: at its end, at its time limit and at cancellation its session and
    everything that carries its marks is killed and seen dead before `run` returns or raises. It inherits no
    descriptor and no variable of the daemon. Not promised here: limits on memory, files or network.
    """

    def __init__(self, *, home_mark: str, workspace: str, clock: Clock) -> None:
        self._home_mark = home_mark
        self._workspace = workspace
        self._clock = clock

    async def run(self, spec: ProcessSpec, spool: IO[bytes]) -> ProcessResult:
        """Run to the end. Raises ToolFailed when it cannot start, RecoveryFailed when it cannot be killed."""
        begun = self._clock.monotonic()
        out, err, whole = Capture(spec.output_cap), Capture(spec.output_cap), Spool(spool, SPOOL_CAP)
        async with AsyncExitStack() as stack:
            out_reader, out_writer = await _pipe(stack)
            err_reader, err_writer = await _pipe(stack)
            process: asyncio.subprocess.Process | None = None
            exited = False
            try:
                process = await self._start(spec, out_writer, err_writer)
                drains = asyncio.gather(_drain(out_reader, out, whole), _drain(err_reader, err, whole))
                stack.callback(_drop, drains)
                exited = await _exits(process, spec.timeout_ms)
            finally:
                await finish(self._kill(spec, process, sure=not exited))
            with suppress(TimeoutError):  # the pipes end with their last holder, and one may have hidden
                async with asyncio.timeout(_DRAIN_S):
                    await drains
        code = await process.wait()
        return ProcessResult(
            exit_code=code if code >= 0 else None,
            signal=-code if code < 0 else None,
            timed_out=not exited and code < 0,
            stdout=out.end(),
            stderr=err.end(),
            spooled=whole.written,
            duration_ms=self._clock.monotonic() - begun,
        )

    def environment(self, spec: ProcessSpec) -> dict[str, str]:
        """The whole environment of the program. HOME is the workspace: no profile of the user is read."""
        context = spec.context
        marks = {
            MARK: self._home_mark,
            EFFECT_KEY: context.effect_key,
            "GOCLAW_TASK_ID": context.task_id,
            "GOCLAW_ATTEMPT": str(context.attempt),
        }
        if context.session_id is not None:
            marks["GOCLAW_SESSION_ID"] = context.session_id
        base = {"PATH": SAFE_PATH, "HOME": self._workspace, "LANG": "C.UTF-8", "TERM": "dumb"}
        return {**base, **spec.env, **marks}

    async def _start(self, spec: ProcessSpec, out: IO[bytes], err: IO[bytes]) -> asyncio.subprocess.Process:
        folder = await asyncio.to_thread(open_folder, spec.cwd)
        try:
            return await asyncio.create_subprocess_exec(
                *spec.argv,
                executable=spec.program,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                # The folder that was checked, even if its name leads elsewhere by now.
                cwd=f"/proc/self/fd/{folder}" if sys.platform == "linux" else spec.cwd,
                env=self.environment(spec),
                start_new_session=True,
            )
        except OSError as error:
            raise ToolFailed(f"{spec.argv[0]} cannot be started: {error.strerror}") from None
        finally:
            os.close(folder)
            out.close()
            err.close()

    async def _kill(self, spec: ProcessSpec, process: asyncio.subprocess.Process | None, *, sure: bool) -> None:
        # The family is looked up while its head still lives: later an orphan without marks cannot be told.
        root = process.pid if process is not None else None
        await kill_run(self._home_mark, spec.context.effect_key, root, self._clock, sure=sure)
        if process is not None and process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


def find_program(name: str) -> str:
    """The file of a program: an absolute path, or a plain name from the fixed PATH. Raises ToolFailed."""
    if "/" in name and not os.path.isabs(name):
        raise ToolFailed(f"{name}: name a program by its plain name or its absolute path")
    found = shutil.which(name, path=SAFE_PATH)
    if found is None:
        raise ToolFailed(f"there is no program {name}")
    return found


def is_plain_variable(name: str) -> bool:
    """Whether a caller may set this variable: well-formed, and steering no loader, shell or editor."""
    return bool(_NAME.fullmatch(name)) and name not in _STEERING and not _STEERING_PREFIX.match(name)


async def _pipe(stack: AsyncExitStack) -> tuple[asyncio.StreamReader, IO[bytes]]:
    # Own pipes: with those of asyncio some Python versions report the exit only when nobody holds the pipe.
    read_fd, write_fd = os.pipe()
    source, sink = os.fdopen(read_fd, "rb", 0), os.fdopen(write_fd, "wb", 0)
    stack.callback(sink.close)
    stack.callback(source.close)
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), source)
    stack.callback(transport.close)
    return reader, sink


async def _drain(reader: asyncio.StreamReader, capture: Capture, whole: Spool) -> None:
    while chunk := await reader.read(65_536):
        capture.add(chunk)
        await whole.add(chunk)


def _drop(drains: asyncio.Future[Any]) -> None:
    drains.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    drains.cancel()


async def _exits(process: asyncio.subprocess.Process, timeout_ms: int) -> bool:
    try:
        async with asyncio.timeout(timeout_ms / 1000):
            await process.wait()
    except TimeoutError:
        return False
    return True
