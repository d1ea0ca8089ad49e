"""exec: run a program, without a shell."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import IO, Any

from goclaw.core.access import Access
from goclaw.core.chat import ToolSpec
from goclaw.core.step import Effect
from goclaw.core.tool import CallContext, ToolOutput
from goclaw.errors import BadArguments, ToolFailed
from goclaw.policy.paths import resolve
from goclaw.sandbox.process import ProcessResult, ProcessSandbox, ProcessSpec, find_program, is_plain_variable
from goclaw.tools.outputs import Outputs
from goclaw.tools.workspace import Workspace, granted, parameters, subject

DEFAULT_MS = 120_000
MAX_MS = 600_000
DIRECT_MS = 3_600_000
MAX_ARGV_BYTES = 128 * 1024
MAX_ENV_BYTES = 32 * 1024
STREAM_CAP = 14_000


class Exec:
    """Runs one program with its arguments, if the policy's grammar covers exactly these.

    A known exit code is an ordinary result, an error unless it is 0. After a signal or the time limit the
    outcome is unknown and `data` says so. Nothing that the program starts outlives the call.
    """

    capability = "tools.exec"
    effect = Effect.UNSAFE
    spec = ToolSpec(
        "exec",
        'Run a program with arguments, for example ["ls", "-l"]. There is no shell: no pipes, no variables, '
        "no redirection. The policy names the programs and arguments that may run. Relative paths start in "
        "cwd, which is the workspace if left out.",
        parameters(
            ("argv",),
            argv={
                "type": "array",
                "items": {"type": "string"},
                "minItems": 1,
                "maxItems": 1_000,
                "description": "The program and its arguments.",
            },
            cwd={"type": "string", "description": "The folder to run in."},
            timeout_ms={"type": "integer", "minimum": 1, "description": "Time limit; 120000 if left out."},
            effect={
                "type": "string",
                "enum": [str(effect) for effect in Effect],
                "description": "What running it twice would do; unsafe if left out.",
            },
            env={
                "type": "object",
                "additionalProperties": {"type": "string"},
                "maxProperties": 100,
                "description": "More environment variables; only for tasks that the user submits.",
            },
        ),
    )

    def __init__(self, workspace: Workspace, sandbox: ProcessSandbox, outputs: Outputs) -> None:
        self._workspace = workspace
        self._sandbox = sandbox
        self._outputs = outputs

    async def accesses(self, arguments: Mapping[str, Any], context: CallContext) -> Sequence[Access]:
        """Running this very argument vector in this very folder. Raises BadArguments."""
        argv = tuple(arguments["argv"])
        _check_argv(argv)
        _check_env(arguments.get("env", {}), context)
        return (await asyncio.to_thread(self._access, argv, arguments.get("cwd", "."), context),)

    async def run(self, arguments: Mapping[str, Any], context: CallContext) -> ToolOutput:
        """Run it to its end or its time limit. Raises ToolFailed when it cannot be started."""
        access = granted(context)
        spec = ProcessSpec(
            program=await asyncio.to_thread(find_program, access.argv[0]),
            argv=access.argv,
            cwd=access.cwd,
            context=context,
            timeout_ms=time_limit(arguments.get("timeout_ms"), context),
            env=dict(arguments.get("env", {})),
            output_cap=STREAM_CAP,
        )
        with tempfile.TemporaryFile() as spool:
            result = await self._sandbox.run(spec, spool)
            artifact = await self._keep(result, spool)
        return _output(result, artifact)

    def _access(self, argv: tuple[str, ...], cwd: str, context: CallContext) -> Access:
        folder = self._workspace.resolve(cwd)
        try:
            program = os.path.realpath(find_program(argv[0]))
        except ToolFailed:
            program = argv[0]  # the policy answers first; if it allows this, the run says what is missing
        paths = (program, *(resolve(argument, folder) for argument in argv[1:]))
        return Access(subject(context), self.capability, program, argv, argv_paths=paths, cwd=folder)

    async def _keep(self, result: ProcessResult, spool: IO[bytes]) -> str | None:
        if not (result.stdout.left_out or result.stderr.left_out):
            return None
        spool.seek(0)
        return await self._outputs.keep(await asyncio.to_thread(spool.read))


def _check_argv(argv: tuple[str, ...]) -> None:
    if not argv[0] or any("\0" in argument for argument in argv):
        raise BadArguments("argv: the program must be named, and no argument may contain NUL")
    try:
        size = sum(len(os.fsencode(argument)) + 1 for argument in argv)
    except UnicodeEncodeError:
        raise BadArguments("argv: an argument is not valid text") from None
    if size > MAX_ARGV_BYTES:
        raise BadArguments(f"argv: more than {MAX_ARGV_BYTES} bytes")


def _check_env(env: Mapping[str, str], context: CallContext) -> None:
    if env and not context.direct:
        raise BadArguments("env: only a task that the user submits may bring environment variables")
    for name, value in env.items():
        if not is_plain_variable(name) or "\0" in value:
            raise BadArguments(f"env: {name[:80]!r} may not be set")
    if sum(len(name) + len(os.fsencode(value)) + 2 for name, value in env.items()) > MAX_ENV_BYTES:
        raise BadArguments(f"env: more than {MAX_ENV_BYTES} bytes")


def time_limit(asked: int | None, context: CallContext) -> int:
    """The tightest of what the call asks for, what its task has left, and the house limit."""
    most = DIRECT_MS if context.direct else MAX_MS
    default = DIRECT_MS if context.direct else DEFAULT_MS
    return min(asked or default, context.timeout_ms or most, most)


def _output(result: ProcessResult, artifact: str | None) -> ToolOutput:
    text = _text(result)
    if artifact is not None:
        text += f"\n[the whole output is artifact {artifact}; see read_artifact]"
    data: dict[str, Any] = {
        "exit_code": result.exit_code,
        "stdout": result.stdout.text,
        "stderr": result.stderr.text,
        "duration_ms": result.duration_ms,
    }
    if result.exit_code is None:
        data |= {"signal": result.signal, "timed_out": result.timed_out, "outcome": "unknown"}
        return ToolOutput(text, True, data, artifact, "TIMEOUT" if result.timed_out else "KILLED")
    if result.exit_code != 0:
        return ToolOutput(text, True, data, artifact, "EXIT_STATUS")
    return ToolOutput(text, data=data, artifact=artifact)


def _text(result: ProcessResult) -> str:
    parts = [result.stdout.text.rstrip("\n")]
    if result.stderr.total:
        parts.append(f"[stderr]\n{result.stderr.text.rstrip()}")
    if result.timed_out:
        parts.append(f"[killed at its time limit after {result.duration_ms} ms; how far it came is not known]")
    elif result.exit_code is None:
        parts.append(f"[ended by signal {result.signal}; how far it came is not known]")
    elif result.exit_code != 0:
        parts.append(f"[exit code {result.exit_code}]")
    return "\n".join(part for part in parts if part) or "[no output]"
