"""WASI commands under fuel, a time limit, a memory limit and an output limit: bytes in on stdin, bytes out on
stdout.

A module gets three streams and nothing else: no folder, no environment, no argument, no network, no sleep.
Each call has a fresh store, so nothing is left over from the one before.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

from goclaw.core.ports import Clock
from goclaw.errors import BadArguments, SkillFault, ToolFailed
from goclaw.sandbox.wasm_lane import Call, Compiled, Ended, Lane
from goclaw.sandbox.wasm_values import (
    INPUT_BYTES,
    MODULE_BYTES,
    FaultKind,
    WasmLimits,
    WasmModule,
    WasmResult,
    skill_fault,
)

__all__ = [
    "INPUT_BYTES",
    "MODULE_BYTES",
    "FaultKind",
    "WasmEngine",
    "WasmLimits",
    "WasmModule",
    "WasmResult",
    "skill_fault",
]

_COMPILED_MODULES = 64


class WasmEngine:
    """Runs modules, at most `lanes` at a time; more wait for their turn, and waiting does not count as
    running.

    An async context manager; leaving it stops every call and waits for its thread. Before the first call no
    thread exists and wasmtime is not loaded; while nothing runs nothing wakes up.
    """

    def __init__(self, clock: Clock, *, lanes: int = 4) -> None:
        self._clock = clock
        self._turns = asyncio.Semaphore(lanes)
        self._idle: list[Lane] = []
        self._running: set[Call] = set()
        self._closed = False
        self._threads = ThreadPoolExecutor(lanes, thread_name_prefix="wasm")
        self._compiler = ThreadPoolExecutor(1, thread_name_prefix="wasm-compile")
        self._compiled: OrderedDict[str, Future[Compiled | SkillFault]] = OrderedDict()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        for call in tuple(self._running):
            call.stop(FaultKind.DEADLINE)
        # In a thread, because the calls need this loop to be told that they have ended.
        await asyncio.to_thread(self._threads.shutdown)
        await asyncio.to_thread(self._compiler.shutdown, cancel_futures=True)

    async def check(self, module: WasmModule) -> None:
        """Compile the module if that has not been done. Raises SkillFault (bad_module) when it cannot be
        used."""
        await self._machine_code(module)

    async def run(self, module: WasmModule, stdin: bytes, limits: WasmLimits) -> WasmResult:
        """Run the module to its end and return what it wrote.

        Raises SkillFault with `kind` (see FaultKind), `fuel_used` and `stderr` in its data; BadArguments for
        a stdin above INPUT_BYTES; ToolFailed when the machine cannot set the call up. When it is cancelled
        the module is stopped and has stopped before the cancellation goes on. Compiling is the one thing that
        is not cut short.
        """
        if len(stdin) > INPUT_BYTES:
            raise BadArguments(f"the input has {len(stdin):,} bytes; at most {INPUT_BYTES:,} go into a skill")
        compiled = await self._machine_code(module)
        async with self._lane() as lane:
            call = _open(stdin, limits, lane)
            self._running.add(call)
            started = self._clock.monotonic()
            try:
                ended = await self._supervised(lane, compiled, call)
            finally:
                self._running.discard(call)
                duration = self._clock.monotonic() - started
                stdout, stderr = call.stdout.close(), call.stderr.close().decode("utf-8", "replace")
        kind = FaultKind.TOO_LARGE if call.stopped is FaultKind.TOO_LARGE else ended.kind
        if kind is not None:
            raise _fault(kind, ended, limits, stderr)
        return WasmResult(stdout=stdout, stderr=stderr, fuel_used=ended.fuel_used, duration_ms=duration)

    async def _machine_code(self, module: WasmModule) -> Compiled:
        """Each module is compiled once, in one thread, whoever asks first; a refusal is remembered too."""
        self._refuse_when_closed()
        future = self._compiled.get(module.sha256)
        if future is None:
            future = self._compiled[module.sha256] = self._compiler.submit(_compile, module)
            if len(self._compiled) > _COMPILED_MODULES:
                self._compiled.popitem(last=False)
        self._compiled.move_to_end(module.sha256)
        # Shielded: one caller that goes away must not take the result from the others.
        outcome = await asyncio.shield(asyncio.wrap_future(future))
        if isinstance(outcome, SkillFault):
            raise skill_fault(FaultKind.BAD_MODULE, outcome.message, fuel_used=0, stderr="")
        return outcome

    @asynccontextmanager
    async def _lane(self) -> AsyncIterator[Lane]:
        async with self._turns:
            self._refuse_when_closed()
            if self._idle:
                lane = self._idle.pop()
            else:
                lane = await asyncio.get_running_loop().run_in_executor(self._threads, Lane)
            try:
                self._refuse_when_closed()
                yield lane
            finally:
                self._idle.append(lane)

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise ToolFailed("the sandbox is closed")

    async def _supervised(self, lane: Lane, compiled: Compiled, call: Call) -> Ended:
        """Run the call in a thread and do not return before the thread is done with it, whatever happens."""
        thread = asyncio.get_running_loop().run_in_executor(self._threads, lane.run, compiled, call)
        async with asyncio.TaskGroup() as group:
            limit = group.create_task(self._expire(call))
            try:
                await asyncio.wait({thread})
            finally:
                if not thread.done():
                    call.stop(FaultKind.DEADLINE)
                await _gone(thread)
                limit.cancel()
        return thread.result()

    async def _expire(self, call: Call) -> None:
        await self._clock.sleep(call.limits.timeout_ms)
        call.stop(FaultKind.DEADLINE)


def _compile(module: WasmModule) -> Compiled | SkillFault:
    try:
        # A lane of its own: a compilation leaves nothing behind in an engine that runs calls.
        return Lane().compile(module)
    except SkillFault as fault:
        return fault


def _open(stdin: bytes, limits: WasmLimits, lane: Lane) -> Call:
    try:
        return Call(stdin, limits, lane.interrupt)
    except OSError as error:
        raise ToolFailed(f"the sandbox could not open its streams: {error.strerror}") from error


async def _gone(thread: asyncio.Future[Ended]) -> None:
    """Wait until the thread has left the module. A second cancellation does not shorten this: it has been
    told to stop and does so at its next loop or call."""
    while not thread.done():
        try:
            await asyncio.wait({thread})
        except asyncio.CancelledError:
            continue


def _fault(kind: FaultKind, ended: Ended, limits: WasmLimits, stderr: str) -> SkillFault:
    match kind:
        case FaultKind.DEADLINE:
            message = f"it ran longer than its {limits.timeout_ms:,} ms"
        case FaultKind.TOO_LARGE:
            message = f"it wrote more than its {limits.output_bytes:,} bytes of output"
        case _:
            message = ended.message
    details = {"trap": ended.trap, "exit_code": ended.exit_code}
    known = {name: value for name, value in details.items() if value is not None}
    return skill_fault(kind, message, fuel_used=ended.fuel_used, stderr=stderr, **known)
