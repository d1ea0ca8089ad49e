"""A home with a workspace, a policy and the gate over all built-in tools."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from goclaw.clock import SystemClock
from goclaw.core.chat import ToolCall
from goclaw.core.ports import Tool
from goclaw.core.tool import CallContext, Ready, Refused, ToolOutput
from goclaw.policy.engine import AuditRecord, PolicyEngine
from goclaw.policy.rules import parse
from goclaw.sandbox.process import ProcessSandbox
from goclaw.tools.artifacts import FolderArtifacts
from goclaw.tools.builtin import builtin_tools
from goclaw.tools.gate import Gate
from goclaw.tools.outputs import Outputs
from goclaw.tools.workspace import Workspace

POLICY = """
allow_capabilities: [tools.read_file, tools.write_file, tools.exec]
allow_paths: [workspace]
exec:
  allow: [{argv: "cat {path}", effect: pure}, "sh -c *", "seq **", "env", "sleep *", "no-such-program"]
"""
SECRET = "sk-very-secret"


class House:
    """What the tests of the tools talk to."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.folder = home / "workspace"
        self.folder.mkdir(parents=True)
        self.audited: list[AuditRecord] = []
        self.logged: list[tuple[str, Mapping[str, Any]]] = []
        self.limits: dict[str, tuple[str, ...]] = {}
        self.artifacts = FolderArtifacts(home / "artifacts")
        self.outputs = Outputs(self.artifacts, lambda text: text.replace(SECRET, "[redacted]"))
        self.workspace = Workspace(str(home), str(self.folder))
        self.sandbox = ProcessSandbox(home_mark=f"test-{home}", workspace=str(self.folder), clock=SystemClock())
        self.tools: dict[str, Tool] = builtin_tools(self.workspace, self.sandbox, self.artifacts, self.outputs)
        self.engine = PolicyEngine(
            parse(POLICY, str(home)),
            audit=self.audited.append,
            clock=SystemClock(),
            load_version=lambda version: None,
        )
        self.gate = Gate(
            tools=lambda: self.tools,
            agent_tools=lambda agent_id: self.limits.get(agent_id, ()),
            guard=self.engine,
            outputs=self.outputs,
            log=lambda event, fields: self.logged.append((event, fields)),
        )

    def policy(self, text: str) -> None:
        self.engine.adopt(parse(text, str(self.home)))

    def context(self, **changes: Any) -> CallContext:
        fields = {
            "task_id": "task",
            "session_id": "session",
            "agent_id": "default",
            "attempt": 1,
            "effect_key": f"key-{self.home}",
        }
        return CallContext(**{**fields, **changes})

    async def prepare(self, tool: str, arguments: Mapping[str, Any], **changes: Any) -> Ready | Refused:
        return await self.gate.prepare(ToolCall("call_1", tool, arguments), self.context(**changes))

    async def ready(self, tool: str, arguments: Mapping[str, Any], **changes: Any) -> Ready:
        prepared = await self.prepare(tool, arguments, **changes)
        assert isinstance(prepared, Ready), prepared
        return prepared

    async def call(self, tool: str, **arguments: Any) -> ToolOutput:
        """What the model sees of a call."""
        prepared = await self.prepare(tool, arguments)
        return prepared.output if isinstance(prepared, Refused) else await self.gate.run(prepared)

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path.resolve() / "home")


@pytest.fixture(autouse=True)
def _own_tempdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
