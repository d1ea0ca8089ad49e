"""The plain values of the WASM sandbox: a module, its limits, what a call gave back, and how one can go
wrong."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from goclaw.errors import SkillFault

MODULE_BYTES = 1024 * 1024
"""The largest module that is compiled. Compiling is the one cost that fuel and deadline do not bound: a
module made to be slow takes about three seconds and 200 MB per MiB."""
INPUT_BYTES = 1024 * 1024
"""The largest stdin of a call; as large as a task's payload may be."""

_MAGIC = b"\0asm"
_CORE = b"\x01\0\0\0"
_COMPONENT = b"\x0d\0\x01\0"


class FaultKind(StrEnum):
    """Why a call did not end well; `SkillFault.data["kind"]` is one of these."""

    OUT_OF_FUEL = "out_of_fuel"
    """It used up its instructions. Exact: the same input burns the same fuel."""
    DEADLINE = "deadline"
    """It ran longer than its time limit."""
    MEMORY = "memory"
    """It wanted more memory or table space than its limit."""
    STACK_OVERFLOW = "stack_overflow"
    UNREACHABLE = "unreachable"
    """It gave up by itself: a panic, an abort, a failed assertion."""
    TRAP = "trap"
    """Any other trap (division by zero, an access out of bounds); `data["trap"]` has wasmtime's word."""
    EXIT_CODE = "exit_code"
    """It ended in an orderly way with an exit code that is not zero; `data["exit_code"]`."""
    BAD_OUTPUT = "bad_output"
    """It succeeded, but what it wrote is not what was promised."""
    TOO_LARGE = "too_large"
    """It wrote more than it may."""
    BAD_MODULE = "bad_module"
    """It is not a module this sandbox runs."""


def skill_fault(kind: FaultKind, message: str, **data: Any) -> SkillFault:
    """A SkillFault whose data carries `kind` as a plain string."""
    return SkillFault(message, kind=kind.value, **data)


@dataclass(frozen=True, slots=True, kw_only=True)
class WasmLimits:
    """What one call may use. `fuel` counts instructions: a billion takes about a second."""

    fuel: int = 1_000_000_000
    memory_bytes: int = 64 * 1024 * 1024
    timeout_ms: int = 10_000
    output_bytes: int = 1024 * 1024


@dataclass(frozen=True, slots=True)
class WasmModule:
    """The bytes of a module and their SHA-256. What is hashed is what is compiled: the bytes are read once.

    Raises SkillFault (bad_module) for bytes that cannot be a core module; whether it really is one shows when
    it is compiled.
    """

    code: bytes = field(repr=False)
    sha256: str = field(init=False)

    def __post_init__(self) -> None:
        problem = _problem(self.code)
        if problem is not None:
            raise skill_fault(FaultKind.BAD_MODULE, problem)
        object.__setattr__(self, "sha256", hashlib.sha256(self.code).hexdigest())


def _problem(code: bytes) -> str | None:
    if len(code) > MODULE_BYTES:
        return f"the module has {len(code):,} bytes; at most {MODULE_BYTES:,} are compiled"
    if code[:4] != _MAGIC:
        return "the file is not a WASM binary (it does not begin with \\0asm)"
    if code[4:8] == _COMPONENT:
        return "the file is a WASM component; build a core module for WASI preview 1"
    if code[4:8] != _CORE:
        return "the file has an unknown version of the WASM binary format"
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class WasmResult:
    """A call that ended with exit code 0. `fuel_used` depends on module and input alone, `duration_ms` on the
    machine.

    `stdout` is whole; `stderr` is its beginning, decoded with replacement characters.
    """

    stdout: bytes
    stderr: str
    fuel_used: int
    duration_ms: int
