"""One wasmtime engine that serves one call at a time: the side of the sandbox that runs in a worker thread.

Why an engine each: an epoch belongs to an engine and interrupts everything in it, and the bindings know no
other way to stop a running module. With an engine to itself a call can be stopped alone, at once and at any
instant, and no ticker has to run. It costs 18 microseconds and some address space; modules are compiled once
and handed round serialized.
"""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from goclaw.errors import ToolFailed
from goclaw.sandbox.wasm_output import Output
from goclaw.sandbox.wasm_values import FaultKind, WasmLimits, WasmModule, skill_fault

if TYPE_CHECKING:
    from wasmtime import Config, Engine, Func, InstancePre, Linker, Module, Store, Trap, WasiConfig

WASI = "wasi_snapshot_preview1"
_NOSYS = 52
_TABLE_ELEMENTS = 100_000
_READY_MODULES = 32
_STDERR_KEPT = 16 * 1024
_STDERR_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Compiled:
    """Machine code for the engines of this process. Never stored and never accepted from outside: it is
    trusted."""

    sha256: str
    code: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """How a call ended. `kind` is None for success. After a trap other than out_of_fuel `fuel_used` is a
    lower bound, because wasmtime writes its counter back only when it leaves the module in order."""

    fuel_used: int
    kind: FaultKind | None = None
    message: str = ""
    trap: str | None = None
    exit_code: int | None = None


class Call:
    """One call on its way through a lane. It can be stopped from the event loop's thread at any time."""

    def __init__(self, stdin: bytes, limits: WasmLimits, interrupt: Callable[[], None]) -> None:
        self.stdin = stdin
        self.limits = limits
        self.stopped: FaultKind | None = None
        self._interrupt = interrupt
        self.stdout = Output(limits.output_bytes, limits.output_bytes, self._flooded)
        try:
            self.stderr = Output(_STDERR_KEPT, _STDERR_BYTES, self._flooded)
        except OSError:
            self.stdout.close()
            raise

    def stop(self, why: FaultKind) -> None:
        """End the call; the first reason given counts. Call it only while the call holds its lane."""
        # The order matters: see Lane.run, which looks at `stopped` after it has set the deadline.
        self.stopped = self.stopped or why
        self._interrupt()

    def _flooded(self) -> None:
        self.stop(FaultKind.TOO_LARGE)

    def close_writers(self) -> None:
        """Let go of the writing ends, so that the pipes end when the module's own ends are closed."""
        self.stdout.close_writer()
        self.stderr.close_writer()


def _configuration() -> Config:
    from wasmtime import Config

    config = Config()
    config.consume_fuel = True
    config.epoch_interruption = True
    # One core for a compilation: the others belong to the daemon.
    config.parallel_compilation = False
    # Equal input gives equal bits and equal fuel on every machine.
    config.cranelift_nan_canonicalization = True
    config.wasm_relaxed_simd_deterministic = True
    # A shared memory is not covered by the limits of a store; neither is a garbage-collected heap.
    for feature in (
        "threads",
        "gc",
        "exceptions",
        "function_references",
        "component_model",
        "multi_memory",
        "memory64",
    ):
        setattr(config, f"wasm_{feature}", False)
    return config


def _no_sleep(*_: int) -> int:
    # poll_oneoff would wait inside the host, where neither fuel nor epoch reaches; it answers "not
    # supported".
    return _NOSYS


def _wasi_linker(engine: Engine) -> Linker:
    from wasmtime import FuncType, Linker, ValType

    linker = Linker(engine)
    linker.define_wasi()
    linker.allow_shadowing = True
    i32 = ValType.i32()
    linker.define_func(WASI, "poll_oneoff", FuncType([i32, i32, i32, i32], [i32]), _no_sleep)
    return linker


class Lane:
    """An engine with its linker and the modules it has met. One thread at a time; only `interrupt` may come
    from another. Making one imports wasmtime, so make it in a worker thread."""

    def __init__(self) -> None:
        from wasmtime import Engine

        self._engine = Engine(_configuration())
        self._linker = _wasi_linker(self._engine)
        self._ready: OrderedDict[str, InstancePre] = OrderedDict()

    def interrupt(self) -> None:
        """Stop what runs in this lane at its next loop or call."""
        self._engine.increment_epoch()

    def compile(self, module: WasmModule) -> Compiled:
        """Machine code for every lane. Raises SkillFault (bad_module) with what is wrong with the module."""
        from wasmtime import Module, WasmtimeError

        try:
            built = Module(self._engine, module.code)
            _check_shape(built)
            self._linker.instantiate_pre(built)
        except WasmtimeError as error:
            raise skill_fault(FaultKind.BAD_MODULE, f"the module cannot be used: {_flat(error)}") from error
        return Compiled(module.sha256, bytes(built.serialize()))

    def run(self, compiled: Compiled, call: Call) -> Ended:
        """Run a WASI command in a fresh store to its end. Raises ToolFailed when the machine cannot set it
        up."""
        try:
            store = self._store(call)
        finally:
            call.close_writers()
        try:
            # An interrupt that came before the deadline was set has no effect on this store, hence this look.
            return self._ended(compiled, store, call) if call.stopped is None else Ended(0, call.stopped)
        finally:
            store.close()

    def _store(self, call: Call) -> Store:
        from wasmtime import Store

        store = Store(self._engine)
        store.set_limits(
            memory_size=call.limits.memory_bytes,
            table_elements=_TABLE_ELEMENTS,
            instances=1,
            tables=4,
            memories=1,
        )
        store.set_fuel(call.limits.fuel)
        store.set_wasi(_wasi(call))
        store.set_epoch_deadline(1)
        return store

    def _ended(self, compiled: Compiled, store: Store, call: Call) -> Ended:
        from wasmtime import ExitTrap, Memory, Trap, WasmtimeError

        instance = None
        try:
            instance = self._prepared(compiled).instantiate(store)
            cast("Func", instance.exports(store)["_start"])(store)
        except Trap as trap:
            memory = instance.exports(store)["memory"] if instance is not None else None
            held = memory.data_len(store) if isinstance(memory, Memory) else 0
            return _trapped(trap, call, call.limits.fuel - store.get_fuel(), held)
        except ExitTrap as ended:
            used = call.limits.fuel - store.get_fuel()
            if ended.code == 0:
                return Ended(used)
            return Ended(used, FaultKind.EXIT_CODE, f"it ended with exit code {ended.code}", exit_code=ended.code)
        except WasmtimeError as error:
            # The module was linked on trial when it was compiled: all that instantiation can refuse now is
            # its size.
            return Ended(0, FaultKind.MEMORY, f"it does not fit into its limits: {_flat(error)}")
        return Ended(call.limits.fuel - store.get_fuel())

    def _prepared(self, compiled: Compiled) -> InstancePre:
        from wasmtime import Module

        if compiled.sha256 not in self._ready:
            module = Module.deserialize(self._engine, compiled.code)
            self._ready[compiled.sha256] = self._linker.instantiate_pre(module)
            if len(self._ready) > _READY_MODULES:
                self._ready.popitem(last=False)
        self._ready.move_to_end(compiled.sha256)
        return self._ready[compiled.sha256]


def _wasi(call: Call) -> WasiConfig:
    """Three streams and nothing else: no folder, no environment, no argument, no network."""
    from wasmtime import WasiConfig, WasmtimeError

    wasi = WasiConfig()
    try:
        with tempfile.TemporaryFile() as stdin:
            stdin.write(call.stdin)
            stdin.seek(0)
            wasi.stdin_file = f"/dev/fd/{stdin.fileno()}"
        wasi.stdout_file = call.stdout.path
        wasi.stderr_file = call.stderr.path
    except (OSError, WasmtimeError) as error:
        raise ToolFailed(f"the sandbox could not open its streams: {error}") from error
    return wasi


def _check_shape(module: Module) -> None:
    from wasmtime import FuncType, MemoryType

    exports = {export.name: export.type for export in module.exports}
    for wanted in module.imports:
        if wanted.module != WASI:
            raise skill_fault(
                FaultKind.BAD_MODULE,
                f"the module imports {wanted.module}.{wanted.name}; a WASI command may import only {WASI}",
            )
    start = exports.get("_start")
    if not isinstance(start, FuncType) or start.params or start.results:
        raise skill_fault(FaultKind.BAD_MODULE, "the module is not a WASI command: it exports no function _start()")
    if not isinstance(exports.get("memory"), MemoryType):
        raise skill_fault(FaultKind.BAD_MODULE, "the module exports no memory, so WASI cannot serve it")


def _trapped(trap: Trap, call: Call, fuel_used: int, memory_bytes: int) -> Ended:
    name = trap.trap_code.name if trap.trap_code is not None else "UNKNOWN"
    limits = call.limits
    match name:
        case "OUT_OF_FUEL":
            text = f"it used up its fuel of {limits.fuel:,} instructions"
            return Ended(fuel_used, FaultKind.OUT_OF_FUEL, text, name)
        case "INTERRUPT":
            return Ended(fuel_used, call.stopped or FaultKind.DEADLINE, "", name)
        case "STACK_OVERFLOW":
            return Ended(fuel_used, FaultKind.STACK_OVERFLOW, "it overflowed its stack", name)
        case "UNREACHABLE" if memory_bytes >= limits.memory_bytes * 3 // 4:
            # A refused growth is told to the module alone, which then aborts. That its memory stood near the
            # limit is the only trace of it, and what whoever reads the fault needs to know.
            text = f"it gave up with {memory_bytes:,} of at most {limits.memory_bytes:,} bytes of memory in use"
            return Ended(fuel_used, FaultKind.MEMORY, text, name)
        case "UNREACHABLE":
            return Ended(fuel_used, FaultKind.UNREACHABLE, "it gave up (a panic or an abort)", name)
        case _:
            return Ended(fuel_used, FaultKind.TRAP, f"it crashed: {name.lower().replace('_', ' ')}", name)


def _flat(error: Exception) -> str:
    return " ".join(str(error).split())[:500]
