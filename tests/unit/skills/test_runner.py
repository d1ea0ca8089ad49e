"""A skill as a tool."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from goclaw.clock import SystemClock
from goclaw.core.access import Access
from goclaw.core.chat import ToolSpec
from goclaw.core.ports import Tool
from goclaw.core.step import Effect
from goclaw.core.tool import CallContext, ToolOutput
from goclaw.errors import BadArguments, SkillQuarantined, ToolFailed
from goclaw.sandbox.wasm import WasmEngine, WasmLimits, WasmResult
from goclaw.skills.catalog import Catalog
from goclaw.skills.runner import SkillTool

Put = Callable[..., Path]


@pytest.fixture
async def tool_of(engine: WasmEngine, registry: Any, recorder: Any, tmp_path: Path) -> Any:
    catalog = Catalog([tmp_path / "skills"], engine, registry, recorder)

    async def load(name: str) -> SkillTool:
        await catalog.scan()
        recorder.take()
        return catalog.tool(name)

    return load


async def fault_of(tool: SkillTool, context: CallContext, **arguments: Any) -> ToolOutput:
    output = await tool.run(arguments, context)
    assert (output.is_error, output.code) == (True, "SKILL_FAULT")
    return output


@pytest.mark.spec("GC-SKL-030")
async def test_a_skill_fits_the_port_and_shows_what_its_manifest_says(
    put: Put, tool_of: Any, context: CallContext
) -> None:
    put("weather", metadata="goclaw-effect: idempotent")
    tool: Tool = await tool_of("weather")
    assert tool.spec == ToolSpec("weather", "Does weather.", {"type": "object"})
    assert (tool.effect, tool.capability) == (Effect.IDEMPOTENT, "wasm.invoke")
    assert list(await tool.accesses({}, context)) == [Access("agent:ada", "wasm.invoke", "weather")]


@pytest.mark.spec("GC-SKL-030")
async def test_arguments_go_in_as_json_and_the_answer_comes_out_as_json(
    put: Put, tool_of: Any, context: CallContext
) -> None:
    put("echo")
    output = await (await tool_of("echo")).run({"b": "ü", "a": [1]}, context)
    assert output.text == '{"a":[1],"b":"ü"}'
    assert output.data["output"] == {"a": [1], "b": "ü"}
    assert output.data["fuel_used"] > 0
    assert not output.is_error


@pytest.mark.spec("GC-SKL-031")
@pytest.mark.parametrize(
    ("module", "kind", "word"),
    [
        ("bad_output", "bad_output", "not JSON"),
        ("exit_3", "exit_code", "exit code 3; it said: no such city"),
        ("gives_up", "unreachable", "gave up"),
        ("library", "bad_module", "not a WASI command"),
    ],
)
async def test_a_fault_names_the_skill_its_kind_and_what_happened(
    put: Put, tool_of: Any, context: CallContext, recorder: Any, module: str, kind: str, word: str
) -> None:
    put("weather", module)
    tool = await tool_of("weather")
    fault = await fault_of(tool, context)
    assert fault.text.startswith("skill weather: ")
    assert word in fault.text
    assert (fault.data["kind"], fault.data["skill"]) == (kind, "weather")
    event, payload = recorder.take()[0]
    assert (event, payload["kind"], payload["version"]) == ("skill.fault", kind, tool.skill.version)


@pytest.mark.parametrize(
    "stdout",
    [
        b"",
        b"\xff",
        b"NaN",
        b"1e999",
        b'"\\ud800"',
        b"1" * 5_000,
        b"[" * 65 + b"]" * 65,
        b"[" * 100_000,
        b"{} {}",
    ],
)
async def test_an_answer_that_could_not_be_stored_as_json_is_a_fault(
    put: Put, tool_of: Any, context: CallContext, monkeypatch: pytest.MonkeyPatch, stdout: bytes
) -> None:
    async def answers(*_: object) -> WasmResult:
        return WasmResult(stdout=stdout, stderr="", fuel_used=7, duration_ms=0)

    put("weather")
    tool = await tool_of("weather")
    monkeypatch.setattr(WasmEngine, "run", answers)
    fault = await fault_of(tool, context)
    assert (fault.data["kind"], fault.data["fuel_used"]) == ("bad_output", 7)


async def test_an_input_that_is_not_json_is_the_callers_fault(
    put: Put, tool_of: Any, context: CallContext, registry: Any
) -> None:
    put("echo")
    tool = await tool_of("echo")
    for wrong in ("\ud800", float("nan")):
        with pytest.raises(BadArguments):
            await tool.run({"x": wrong}, context)
    assert registry.writes == 0


async def test_a_schema_that_is_no_schema_fails_the_call_in_plain_words(
    put: Put, tool_of: Any, context: CallContext
) -> None:
    (put("echo") / "input.schema.json").write_text('{"type": "object", "required": "x"}')
    with pytest.raises(ToolFailed, match="skill echo: the input schema is not valid"):
        await (await tool_of("echo")).run({}, context)


@pytest.mark.spec("GC-SKL-032")
async def test_three_faults_in_a_row_set_a_skill_aside_until_it_is_enabled(
    put: Put,
    tool_of: Any,
    context: CallContext,
    recorder: Any,
    engine: WasmEngine,
    registry: Any,
    tmp_path: Path,
) -> None:
    put("weather", "gives_up")
    tool = await tool_of("weather")
    for _ in range(3):
        await fault_of(tool, context)
    assert [event for event, _ in recorder.take()] == ["skill.fault"] * 3 + ["skill.quarantined"]
    with pytest.raises(SkillQuarantined, match="goclaw skill enable weather"):
        await tool.run({}, context)
    # Another daemon over the same registry: the quarantine outlives a restart.
    restarted = Catalog([tmp_path / "skills"], engine, registry, recorder)
    await restarted.scan()
    assert restarted.info("weather").state == "quarantined"
    with pytest.raises(SkillQuarantined):
        await restarted.tool("weather").run({}, context)
    recorder.take()
    assert await restarted.enable("weather")
    assert not await restarted.enable("weather")
    assert [event for event, _ in recorder.take()] == ["skill.enabled"]
    assert (await fault_of(restarted.tool("weather"), context)).data["kind"] == "unreachable"
    assert restarted.info("weather").faults == 1


@pytest.mark.spec("GC-SKL-032")
async def test_a_success_ends_a_row_of_faults(
    put: Put, tool_of: Any, context: CallContext, registry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("echo")
    tool = await tool_of("echo")
    short = replace(tool.skill.manifest, limits=WasmLimits(fuel=1))
    for _ in range(3):
        with monkeypatch.context() as patch:
            patch.setattr(tool, "skill", replace(tool.skill, manifest=short))
            for _ in range(2):
                assert (await fault_of(tool, context)).data["kind"] == "out_of_fuel"
        await tool.run({}, context)
    writes = registry.writes
    await tool.run({}, context)
    assert registry.writes == writes, "a success without faults before it writes nothing"


@pytest.mark.spec("GC-SKL-032")
async def test_an_exit_code_is_told_but_does_not_count_against_the_skill(
    put: Put, tool_of: Any, context: CallContext, registry: Any
) -> None:
    put("weather", "exit_3")
    tool = await tool_of("weather")
    for _ in range(5):
        assert (await fault_of(tool, context)).data["kind"] == "exit_code"
    assert registry.writes == 0


async def test_a_caller_with_less_time_shortens_the_limit_and_is_not_counted(
    put: Put, tool_of: Any, context: CallContext, registry: Any
) -> None:
    put("weather", "endless_loop", metadata="goclaw-fuel: 1000000000000")
    tool = await tool_of("weather")
    fault = await fault_of(tool, replace(context, timeout_ms=30))
    assert (fault.data["kind"], registry.writes) == ("deadline", 0)
    assert "30 ms" in fault.text


@pytest.mark.spec("GC-SKL-033")
@pytest.mark.parametrize(("effect", "outcome"), [("pure", None), ("idempotent", "unknown"), ("unsafe", "unknown")])
async def test_what_a_time_limit_cut_off_is_unknown_unless_the_skill_is_pure(
    put: Put, tool_of: Any, context: CallContext, effect: str, outcome: str | None
) -> None:
    put("weather", "endless_loop", metadata=f"goclaw-fuel: 1000000000000\n  goclaw-effect: {effect}")
    fault = await fault_of(await tool_of("weather"), replace(context, timeout_ms=30))
    assert fault.data.get("outcome") == outcome


async def test_the_skills_own_time_limit_counts(put: Put, tool_of: Any, context: CallContext, registry: Any) -> None:
    head = "name: weather\ndescription: x\nmetadata:\n  goclaw-fuel: 1000000000000\n  goclaw-timeout-ms: 30\n"
    put("weather", "endless_loop", head=head)
    fault = await fault_of(await tool_of("weather"), replace(context, timeout_ms=60_000))
    assert (fault.data["kind"], registry.writes) == ("deadline", 1)


class StillClock(SystemClock):
    """Tells that a module runs (its time limit is waited for), and never ends the wait."""

    def __init__(self) -> None:
        self.running = asyncio.Event()

    async def sleep(self, ms: float) -> None:
        self.running.set()
        await asyncio.Event().wait()


async def test_a_canceled_call_is_no_fault(
    put: Put, context: CallContext, registry: Any, recorder: Any, tmp_path: Path
) -> None:
    put("weather", "endless_loop", metadata="goclaw-fuel: 1000000000000")
    clock = StillClock()
    async with WasmEngine(clock) as engine:
        catalog = Catalog([tmp_path / "skills"], engine, registry, recorder)
        await catalog.scan()
        recorder.take()
        call = asyncio.create_task(catalog.tool("weather").run({}, context))
        await clock.running.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert (registry.writes, recorder.take()) == (0, [])


@pytest.mark.spec("GC-SKL-007")
def test_reading_the_catalog_loads_neither_wasmtime_nor_jsonschema() -> None:
    program = """
import asyncio, sys
from pathlib import Path
from goclaw.clock import SystemClock
from goclaw.sandbox.wasm import WasmEngine
from goclaw.skills.catalog import Catalog
class Registry:
    async def states(self): return {}
async def main():
    async with WasmEngine(SystemClock()) as engine:
        catalog = Catalog([Path(sys.argv[1])], engine, Registry(), lambda *_, **__: None)
        await catalog.scan()
        print(len(catalog.tools()), sorted({"wasmtime", "jsonschema"} & set(sys.modules)))
asyncio.run(main())
"""
    examples = Path(__file__).parents[3] / "examples" / "skills"
    done = subprocess.run([sys.executable, "-c", program, str(examples)], capture_output=True, text=True, check=True)
    assert done.stdout == "3 []\n"
