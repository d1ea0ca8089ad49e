"""A skill with a module, as a tool: arguments become JSON on stdin, the JSON on stdout becomes the output."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from goclaw.core.access import Access
from goclaw.core.canonical import canonical_json
from goclaw.core.chat import ToolSpec
from goclaw.core.ports import Emit
from goclaw.core.step import Effect
from goclaw.core.tool import CallContext, ToolOutput
from goclaw.errors import BadArguments, SkillFault, SkillRejected, ToolFailed
from goclaw.sandbox.wasm import FaultKind, WasmEngine, WasmLimits, WasmModule, WasmResult, skill_fault
from goclaw.skills.folder import Skill
from goclaw.skills.quarantine import Quarantine
from goclaw.skills.schema import build_validator

CAPABILITY: Final = "wasm.invoke"
_DEPTH = 64
_STDERR_SHOWN = 500
# An exit code is how a command says no ("no such city"): it is told, but a model with bad questions must not
# be able to get a good skill set aside.
_ORDERLY = frozenset({FaultKind.EXIT_CODE.value})


@dataclass(frozen=True, slots=True)
class Workshop:
    """What every skill tool of a daemon shares."""

    engine: WasmEngine
    quarantine: Quarantine
    emit: Emit


class SkillTool:
    """Fits the port Tool. The tool has the name of the skill, which is one that every provider accepts.

    Calling it asks for the capability wasm.invoke with the skill's name as resource. The effect is the one
    that SKILL.md declares; it is unsafe unless declared otherwise, although today's skills can touch nothing,
    because the class is a promise about the skill and outlives the sandbox of the day.
    """

    def __init__(self, skill: Skill, module: WasmModule, workshop: Workshop) -> None:
        self.skill = skill
        self._module = module
        self._workshop = workshop
        self._validate: Callable[[Mapping[str, Any]], None] | None = None

    @property
    def spec(self) -> ToolSpec:
        """Name, description and input schema."""
        manifest = self.skill.manifest
        return ToolSpec(manifest.name, manifest.description, dict(manifest.input_schema))

    @property
    def capability(self) -> str:
        """Running a skill, whichever it is."""
        return CAPABILITY

    @property
    def effect(self) -> Effect:
        """As declared."""
        return self.skill.manifest.effect

    async def accesses(self, arguments: Mapping[str, Any], context: CallContext) -> Sequence[Access]:
        """One access, whatever the arguments: to run this skill."""
        return (Access(f"agent:{context.agent_id}", CAPABILITY, self.skill.name),)

    async def prove(self) -> None:
        """Compile the module and the schema ahead of the first call. Raises SkillFault or SkillRejected."""
        await self._workshop.engine.check(self._module)
        await self._validator()

    async def run(self, arguments: Mapping[str, Any], context: CallContext) -> ToolOutput:
        """Run the module once. `text` is its JSON, `data` holds it as `output` beside `fuel_used` and
        `duration_ms`.

        A fault is an output with the code SKILL_FAULT and with `skill`, `kind` (see FaultKind), `fuel_used` and
        `stderr` in `data`; where the time limit cut off a skill that is not pure, `outcome` is "unknown". Raises
        BadArguments for an input that its schema refuses, and SkillQuarantined.
        """
        name, version = self.skill.name, self.skill.version
        self._workshop.quarantine.refuse(name, version)
        stdin = await self._stdin(arguments)
        limits = _shortened(self.skill.manifest.limits, context.timeout_ms)
        try:
            result = await self._workshop.engine.run(self._module, stdin, limits)
            output = _output(result)
        except SkillFault as fault:
            await self._count(fault, limits, context)
            return self._failed(fault)
        await self._workshop.quarantine.succeeded(name, version)
        return output

    async def _stdin(self, arguments: Mapping[str, Any]) -> bytes:
        try:
            validate = await self._validator()
        except SkillRejected as error:
            raise ToolFailed(f"skill {self.skill.name}: {error.message}") from error
        validate(arguments)
        try:
            return canonical_json(dict(arguments)).encode()
        except (ValueError, RecursionError) as error:
            raise BadArguments(f"the input is not JSON in UTF-8: {error}") from error

    async def _validator(self) -> Callable[[Mapping[str, Any]], None]:
        if self._validate is None:
            self._validate = await asyncio.to_thread(build_validator, self.skill.manifest.input_schema)
        return self._validate

    async def _count(self, fault: SkillFault, limits: WasmLimits, context: CallContext) -> None:
        """Tell of the fault, and count it if it speaks against the skill."""
        name, version, kind = self.skill.name, self.skill.version, fault.data["kind"]
        event = {"skill": name, "version": version, "kind": kind, "fuel_used": fault.data.get("fuel_used", 0)}
        self._workshop.emit("skill.fault", event, task_id=context.task_id, session_id=context.session_id)
        own_limit = limits.timeout_ms == self.skill.manifest.limits.timeout_ms
        if kind not in _ORDERLY and (kind != FaultKind.DEADLINE or own_limit):
            await self._workshop.quarantine.faulted(name, version)

    def _failed(self, fault: SkillFault) -> ToolOutput:
        said = fault.data.get("stderr", "").strip()[-_STDERR_SHOWN:]
        text = f"skill {self.skill.name}: {fault.message}" + (f"; it said: {said}" if said else "")
        data = {**fault.data, "skill": self.skill.name}
        if fault.data["kind"] == FaultKind.DEADLINE and self.effect is not Effect.PURE:
            data["outcome"] = "unknown"
        return ToolOutput(text, True, data, code=fault.code)


def _shortened(limits: WasmLimits, timeout_ms: int | None) -> WasmLimits:
    """The skill's limits, or less time if the caller has less."""
    return limits if timeout_ms is None else replace(limits, timeout_ms=min(timeout_ms, limits.timeout_ms))


def _output(result: WasmResult) -> ToolOutput:
    """The JSON on stdout. Raises SkillFault (bad_output) for anything that could not be stored and sent as
    JSON."""
    try:
        value = json.loads(result.stdout)
        text = canonical_json(value)
        text.encode()
        if _deeper(value, _DEPTH):
            raise ValueError(f"nested more than {_DEPTH} levels deep")
    except (ValueError, RecursionError) as error:
        raise skill_fault(
            FaultKind.BAD_OUTPUT,
            f"what it wrote is not JSON: {str(error)[:200]}",
            fuel_used=result.fuel_used,
            stderr=result.stderr,
        ) from error
    data = {"output": value, "fuel_used": result.fuel_used, "duration_ms": result.duration_ms}
    return ToolOutput(text, data=data)


def _deeper(value: Any, depth: int) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list):
        return False
    return depth == 0 or any(_deeper(item, depth - 1) for item in value)
