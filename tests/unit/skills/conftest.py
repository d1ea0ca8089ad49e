"""What the skill tests share: a folder of skills, a registry in memory, a recorder of events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import wasmtime

from goclaw.clock import SystemClock
from goclaw.core.tool import CallContext
from goclaw.sandbox.wasm import WasmEngine
from goclaw.skills.quarantine import SkillRecord

HOSTILE = Path(__file__).parents[1] / "sandbox" / "data"


class MemoryRegistry:
    """The registry as its port describes it, without a disk."""

    def __init__(self) -> None:
        self.records: dict[str, SkillRecord] = {}
        self.writes = 0

    async def record_fault(self, name: str, version: str, limit: int) -> int:
        self.writes += 1
        known = self.records.get(name)
        faults = known.faults + 1 if known is not None and known.version == version else 1
        self.records[name] = SkillRecord(version, faults, faults >= limit)
        return faults

    async def clear(self, name: str) -> None:
        self.writes += 1
        self.records.pop(name, None)

    async def states(self) -> Mapping[str, SkillRecord]:
        return dict(self.records)


class Recorder:
    """Keeps what was emitted."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def __call__(
        self,
        event_type: str,
        payload: Mapping[str, Any],
        *,
        task_id: str | None = None,
        session_id: str | None = None,
    ) -> None:
        self.events.append((event_type, dict(payload)))

    def take(self) -> list[tuple[str, dict[str, Any]]]:
        taken, self.events = self.events, []
        return taken


@pytest.fixture
def registry() -> MemoryRegistry:
    return MemoryRegistry()


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def engine() -> AsyncIterator[WasmEngine]:
    async with WasmEngine(SystemClock(), lanes=2) as engine:
        yield engine


@pytest.fixture
def context() -> CallContext:
    return CallContext(task_id="task", session_id="session", agent_id="ada", attempt=1, effect_key="key")


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., Path]:
    """Writes a skill folder: its metadata lines, and a module named after a file of the sandbox tests."""

    def write(name: str, module: str | None = "echo", *, head: str = "", metadata: str = "") -> Path:
        folder = tmp_path / "skills" / name
        folder.mkdir(parents=True, exist_ok=True)
        lines = head or f"name: {name}\ndescription: Does {name}.\n"
        if metadata:
            lines += f"metadata:\n  {metadata}\n"
        (folder / "SKILL.md").write_text(f"---\n{lines}---\nBody of {name}.\n")
        if module is not None:
            code = wasmtime.wat2wasm((HOSTILE / f"{module}.wat").read_text())
            (folder / "skill.wasm").write_bytes(bytes(code))
        return folder

    return write
