"""The tools goclaw brings along."""

from __future__ import annotations

from goclaw.core.ports import Artifacts, Tool
from goclaw.sandbox.process import ProcessSandbox
from goclaw.tools.artifacts import ReadArtifact
from goclaw.tools.edit import EditFile, WriteFile
from goclaw.tools.exec import Exec
from goclaw.tools.files import ListDirectory, ReadFile
from goclaw.tools.outputs import Outputs
from goclaw.tools.search import Glob, Grep
from goclaw.tools.workspace import Workspace


def builtin_tools(
    workspace: Workspace, sandbox: ProcessSandbox, artifacts: Artifacts, outputs: Outputs
) -> dict[str, Tool]:
    """All of them by name."""
    tools: tuple[Tool, ...] = (
        ReadFile(workspace),
        ListDirectory(workspace),
        Glob(workspace, sandbox),
        Grep(workspace, sandbox),
        ReadArtifact(artifacts),
        WriteFile(workspace),
        EditFile(workspace),
        Exec(workspace, sandbox, outputs),
    )
    return {tool.spec.name: tool for tool in tools}
