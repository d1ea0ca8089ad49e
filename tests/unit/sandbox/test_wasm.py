"""The engine: calls, limits, cancellation, compilation."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import wasmtime

from goclaw.clock import SystemClock
from goclaw.errors import BadArguments, SkillFault, ToolFailed
from goclaw.sandbox.wasm import INPUT_BYTES, WasmEngine, WasmLimits, WasmModule
from goclaw.sandbox.wasm_lane import Call, Compiled, Ended, Lane

Wasm = Callable[[str], WasmModule]
DATA = Path(__file__).parent / "data"
LIMITS = WasmLimits()
ENDLESS = WasmLimits(fuel=10**15, timeout_ms=100_000)


class HandClock:
    """Stands still; whoever sleeps sleeps until `ring`."""

    def __init__(self) -> None:
        self.asleep = asyncio.Event()
        self.bell = asyncio.Event()
        self.asked: list[float] = []

    def wall(self) -> int:
        return 0

    def monotonic(self) -> int:
        return 0

    async def sleep(self, ms: float) -> None:
        self.asked.append(ms)
        self.asleep.set()
        await self.bell.wait()


@pytest.fixture
def wasm() -> Callable[[str], WasmModule]:
    return lambda name: WasmModule(bytes(wasmtime.wat2wasm((DATA / f"{name}.wat").read_text())))


@pytest.fixture
async def hand_clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def engine() -> AsyncIterator[WasmEngine]:
    async with WasmEngine(SystemClock(), lanes=2) as engine:
        yield engine


async def fault_of(engine: WasmEngine, module: WasmModule, limits: WasmLimits = LIMITS) -> SkillFault:
    with pytest.raises(SkillFault) as caught:
        await engine.run(module, b"{}", limits)
    return caught.value


@pytest.mark.spec("GC-SKL-001")
async def test_a_command_reads_stdin_and_its_stdout_comes_back_whole(engine: WasmEngine, wasm: Wasm) -> None:
    body = bytes(range(256)) * 4096
    result = await engine.run(wasm("echo"), body, LIMITS)
    assert (result.stdout, result.stderr) == (body, "done")
    assert result.fuel_used > 0


async def test_an_empty_stdin_is_an_immediate_end_of_file(engine: WasmEngine, wasm: Wasm) -> None:
    assert (await engine.run(wasm("echo"), b"", LIMITS)).stdout == b""


@pytest.mark.spec("GC-SKL-002")
async def test_equal_input_burns_equal_fuel_in_every_lane(engine: WasmEngine, wasm: Wasm) -> None:
    runs = await asyncio.gather(*(engine.run(wasm("echo"), b"x" * 9_999, LIMITS) for _ in range(12)))
    assert len({run.fuel_used for run in runs}) == 1
    longer = await engine.run(wasm("echo"), b"x" * 99_999, LIMITS)
    assert longer.fuel_used > runs[0].fuel_used


@pytest.mark.spec("GC-SKL-003")
@pytest.mark.parametrize(
    ("name", "kind", "limits"),
    [
        ("endless_loop", "out_of_fuel", WasmLimits(fuel=1_000_000)),
        ("endless_start", "out_of_fuel", WasmLimits(fuel=1_000_000)),
        ("endless_loop", "deadline", WasmLimits(fuel=10**15, timeout_ms=50)),
        ("endless_start", "deadline", WasmLimits(fuel=10**15, timeout_ms=50)),
        ("memory_bomb", "memory", LIMITS),
        ("memory_at_birth", "memory", LIMITS),
        ("table_bomb", "memory", LIMITS),
        ("deep_recursion", "stack_overflow", LIMITS),
        ("gives_up", "unreachable", LIMITS),
        ("out_of_bounds", "trap", LIMITS),
        ("exit_3", "exit_code", LIMITS),
        ("stdout_flood", "too_large", ENDLESS),
        ("stderr_flood", "too_large", ENDLESS),
        ("foreign_import", "bad_module", LIMITS),
        ("unknown_wasi", "bad_module", LIMITS),
        ("library", "bad_module", LIMITS),
        ("no_memory", "bad_module", LIMITS),
        ("shared_memory", "bad_module", LIMITS),
    ],
)
async def test_a_hostile_module_ends_in_a_typed_fault_and_the_next_call_is_served(
    engine: WasmEngine, wasm: Wasm, name: str, kind: str, limits: WasmLimits
) -> None:
    fault = await fault_of(engine, wasm(name), limits)
    assert fault.data["kind"] == kind, fault.message
    assert (await engine.run(wasm("echo"), b"alive", LIMITS)).stdout == b"alive"


async def test_running_out_of_fuel_reports_all_of_it_as_used(engine: WasmEngine, wasm: Wasm) -> None:
    fault = await fault_of(engine, wasm("endless_loop"), WasmLimits(fuel=123_456))
    assert fault.data["fuel_used"] == 123_456
    assert "123,456" in fault.message


async def test_an_exit_code_comes_with_what_was_said_on_stderr(engine: WasmEngine, wasm: Wasm) -> None:
    fault = await fault_of(engine, wasm("exit_3"))
    assert (fault.data["exit_code"], fault.data["stderr"]) == (3, "no such city")


async def test_a_trap_is_named(engine: WasmEngine, wasm: Wasm) -> None:
    fault = await fault_of(engine, wasm("out_of_bounds"))
    assert fault.data["trap"] == "MEMORY_OUT_OF_BOUNDS"


async def test_what_is_kept_of_a_chatty_stderr_is_bounded(engine: WasmEngine, wasm: Wasm) -> None:
    fault = await fault_of(engine, wasm("stderr_flood"), ENDLESS)
    assert len(fault.data["stderr"]) == 16 * 1024


async def test_output_of_exactly_the_limit_is_allowed_and_one_byte_more_is_not(engine: WasmEngine, wasm: Wasm) -> None:
    limits = WasmLimits(output_bytes=100_000)
    assert len((await engine.run(wasm("echo"), b"x" * 100_000, limits)).stdout) == 100_000
    with pytest.raises(SkillFault) as caught:
        await engine.run(wasm("echo"), b"x" * 100_001, limits)
    assert caught.value.data["kind"] == "too_large"


async def test_a_larger_memory_limit_lets_the_same_module_be_born(engine: WasmEngine, wasm: Wasm) -> None:
    await engine.run(wasm("memory_at_birth"), b"", WasmLimits(memory_bytes=4 * 1024**3))


@pytest.mark.spec("GC-SKL-004")
async def test_a_module_finds_no_folder_no_environment_no_argument_and_no_socket(
    engine: WasmEngine, wasm: Wasm
) -> None:
    await engine.run(wasm("prober"), b"", LIMITS)


@pytest.mark.spec("GC-SKL-004")
async def test_a_module_cannot_sleep_inside_the_host_where_no_limit_reaches(engine: WasmEngine, wasm: Wasm) -> None:
    fault = await fault_of(engine, wasm("sleeper"))
    assert fault.data["exit_code"] == 52


@pytest.mark.spec("GC-SKL-005")
async def test_the_time_limit_is_asked_of_the_clock_and_stops_the_module(hand_clock: HandClock, wasm: Wasm) -> None:
    async with WasmEngine(hand_clock, lanes=1) as engine:
        async with asyncio.TaskGroup() as group:
            call = group.create_task(fault_of(engine, wasm("endless_loop"), ENDLESS))
            await hand_clock.asleep.wait()
            assert hand_clock.asked == [ENDLESS.timeout_ms]
            hand_clock.bell.set()
        assert call.result().data["kind"] == "deadline"


@pytest.mark.spec("GC-SKL-005")
async def test_a_canceled_call_has_left_its_thread_when_the_cancellation_returns(
    hand_clock: HandClock, wasm: Wasm
) -> None:
    async with WasmEngine(hand_clock, lanes=1) as engine:
        for _ in range(20):
            hand_clock.asleep.clear()
            call = asyncio.create_task(engine.run(wasm("endless_loop"), b"", ENDLESS))
            await hand_clock.asleep.wait()
            call.cancel()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        # There is one thread: this could not run if a module were still in it.
        hand_clock.bell.clear()
        assert (await engine.run(wasm("echo"), b"free", LIMITS)).stdout == b"free"


@pytest.mark.spec("GC-SKL-005")
async def test_a_cancellation_waits_for_the_thread_however_often_it_is_repeated(
    hand_clock: HandClock, wasm: Wasm, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_leave, left = threading.Event(), threading.Event()
    original = Lane.run

    def lingers(self: Lane, compiled: Compiled, call: Call) -> Ended:
        ended = original(self, compiled, call)
        may_leave.wait()
        left.set()
        return ended

    monkeypatch.setattr(Lane, "run", lingers)
    async with WasmEngine(hand_clock, lanes=1) as engine:
        call = asyncio.create_task(engine.run(wasm("endless_loop"), b"", ENDLESS))
        await hand_clock.asleep.wait()
        for _ in range(5):
            call.cancel()
            await asyncio.sleep(0)
        assert not call.done()
        may_leave.set()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert left.is_set()


@pytest.mark.spec("GC-SKL-005")
async def test_stopping_one_call_leaves_the_others_alone(engine: WasmEngine, wasm: Wasm) -> None:
    doomed = asyncio.create_task(engine.run(wasm("endless_loop"), b"", ENDLESS))
    for number in range(50):
        body = b"%d" % number
        assert (await engine.run(wasm("echo"), body, LIMITS)).stdout == body
    assert not doomed.done()
    doomed.cancel()
    survivor = asyncio.create_task(engine.run(wasm("endless_loop"), b"", WasmLimits(fuel=50_000_000)))
    with pytest.raises(asyncio.CancelledError):
        await doomed
    with pytest.raises(SkillFault) as caught:
        await survivor
    assert caught.value.data["kind"] == "out_of_fuel"


async def test_more_calls_than_lanes_wait_for_their_turn(engine: WasmEngine, wasm: Wasm) -> None:
    bodies = [b"%d" % number for number in range(40)]
    results = await asyncio.gather(*(engine.run(wasm("echo"), body, LIMITS) for body in bodies))
    assert [result.stdout for result in results] == bodies


async def test_leaving_the_engine_ends_what_runs_and_refuses_what_comes(hand_clock: HandClock, wasm: Wasm) -> None:
    async with WasmEngine(hand_clock, lanes=1) as engine:
        call = asyncio.create_task(fault_of(engine, wasm("endless_loop"), ENDLESS))
        await hand_clock.asleep.wait()
    assert (await call).data["kind"] == "deadline"
    with pytest.raises(ToolFailed, match="closed"):
        await engine.run(wasm("echo"), b"", LIMITS)


async def test_an_input_above_its_limit_is_refused_before_anything_runs(engine: WasmEngine, wasm: Wasm) -> None:
    with pytest.raises(BadArguments):
        await engine.run(wasm("echo"), b"x" * (INPUT_BYTES + 1), LIMITS)


@pytest.mark.spec("GC-SKL-006")
async def test_a_module_is_compiled_once_however_many_ask(
    engine: WasmEngine, wasm: Wasm, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[int] = []
    original = wasmtime.Module.__init__

    def counting(self: wasmtime.Module, owner: wasmtime.Engine, code: bytes) -> None:
        compiled.append(len(code))
        original(self, owner, code)

    monkeypatch.setattr(wasmtime.Module, "__init__", counting)
    await asyncio.gather(*(engine.run(wasm("echo"), b"", LIMITS) for _ in range(8)))
    for _ in range(3):
        await fault_of(engine, wasm("library"))
    assert compiled == [len(wasm("echo").code), len(wasm("library").code)]


async def test_the_caller_that_leaves_does_not_take_the_compilation_from_the_others(
    engine: WasmEngine, wasm: Wasm, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    original = Lane.compile

    def waits(self: Lane, module: WasmModule) -> Compiled:
        go.wait()
        return original(self, module)

    monkeypatch.setattr(Lane, "compile", waits)
    ahead = asyncio.create_task(engine.check(wasm("library")))
    leaves = asyncio.create_task(engine.check(wasm("echo")))
    stays = asyncio.create_task(engine.check(wasm("echo")))
    await asyncio.sleep(0)
    leaves.cancel()
    await asyncio.wait({leaves})
    go.set()
    await stays
    with pytest.raises(SkillFault):
        await ahead
    assert leaves.cancelled()


@pytest.mark.spec("GC-SKL-006")
@pytest.mark.parametrize(
    ("code", "word"),
    [
        (b"", "not a WASM binary"),
        (b"(module)", "not a WASM binary"),
        (b"\0asm\x0d\0\x01\0", "component"),
        (b"\0asm\x02\0\0\0", "version"),
        (b"\0asm\x01\0\0\0" + bytes(1024 * 1024), "at most"),
    ],
)
def test_what_cannot_be_a_module_is_refused_without_wasmtime(code: bytes, word: str) -> None:
    with pytest.raises(SkillFault, match=word) as caught:
        WasmModule(code)
    assert caught.value.data["kind"] == "bad_module"


async def test_a_module_with_a_sound_head_and_a_broken_body_is_a_bad_module(engine: WasmEngine) -> None:
    fault = await fault_of(engine, WasmModule(b"\0asm\x01\0\0\0\xff\x01\x02"))
    assert fault.data["kind"] == "bad_module"


@pytest.mark.spec("GC-SKL-007")
def test_importing_the_sandbox_does_not_load_wasmtime() -> None:
    program = "import sys, goclaw.sandbox.wasm; print('wasmtime' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_process_that_ran_modules_ends_quietly() -> None:
    """The bindings panic at exit when an output callback outlives the interpreter; pipes do not."""
    program = """
import asyncio, wasmtime
from goclaw.clock import SystemClock
from goclaw.sandbox.wasm import WasmEngine, WasmLimits, WasmModule
code = bytes(wasmtime.wat2wasm('(module (memory (export "memory") 1) (func (export "_start")))'))
async def main():
    engine = WasmEngine(SystemClock())
    await engine.run(WasmModule(code), b"", WasmLimits())
    print("ran")
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("ran\n", "")
