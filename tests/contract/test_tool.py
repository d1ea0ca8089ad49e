"""What every built-in tool promises its callers, whichever it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from goclaw.clock import SystemClock
from goclaw.core.access import CAPABILITIES
from goclaw.core.ports import Tool
from goclaw.core.step import Effect
from goclaw.core.tool import CallContext, output_from_json
from goclaw.errors import ToolError
from goclaw.sandbox.process import ProcessSandbox
from goclaw.tools.artifacts import FolderArtifacts
from goclaw.tools.builtin import builtin_tools
from goclaw.tools.outputs import Outputs
from goclaw.tools.workspace import Workspace

TABLE = {
    "read_file": ("tools.read_file", Effect.PURE),
    "list_directory": ("tools.read_file", Effect.PURE),
    "glob": ("tools.read_file", Effect.PURE),
    "grep": ("tools.read_file", Effect.PURE),
    "read_artifact": ("tools.read_file", Effect.PURE),
    "write_file": ("tools.write_file", Effect.VERIFIABLE),
    "edit_file": ("tools.write_file", Effect.VERIFIABLE),
    "exec": ("tools.exec", Effect.UNSAFE),
}
EXAMPLES: dict[str, dict[str, Any]] = {
    "read_file": {"file_path": "a.txt", "offset": 1, "limit": 2},
    "list_directory": {},
    "glob": {"pattern": "*.txt"},
    "grep": {"pattern": "hello", "output_mode": "content", "head_limit": 3},
    "read_artifact": {"artifact": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"},
    "write_file": {"file_path": "b.txt", "content": "x"},
    "edit_file": {"file_path": "a.txt", "old_string": "hello", "new_string": "bye"},
    "exec": {"argv": ["cat", "a.txt"]},
}


@dataclass(frozen=True)
class Bench:
    tools: Mapping[str, Tool]
    folder: Path
    context: CallContext

    async def granted(self, name: str) -> CallContext:
        accesses = await self.tools[name].accesses(EXAMPLES[name], self.context)
        return replace(self.context, granted=tuple(accesses))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path.resolve()


@pytest.fixture
async def bench(home: Path) -> Bench:
    folder = home / "workspace"
    folder.mkdir()
    (folder / "a.txt").write_text("hello\n")
    artifacts = FolderArtifacts(home / "artifacts")
    await artifacts.put(b"hello")
    sandbox = ProcessSandbox(home_mark=f"test-{home}", workspace=str(folder), clock=SystemClock())
    workspace = Workspace(str(home), str(folder))
    tools = builtin_tools(workspace, sandbox, artifacts, Outputs(artifacts, lambda text: text))
    context = CallContext(task_id="t", session_id=None, agent_id="default", attempt=1, effect_key=f"key-{home}")
    return Bench(tools, folder, context)


def test_the_table_of_the_contract_is_what_is_there(bench: Bench) -> None:
    assert {name: (tool.capability, tool.effect) for name, tool in bench.tools.items()} == TABLE
    assert all(name == tool.spec.name for name, tool in bench.tools.items())


@pytest.mark.parametrize("name", TABLE)
def test_the_parameters_are_a_closed_valid_schema_that_takes_the_example(bench: Bench, name: str) -> None:
    schema = dict(bench.tools[name].spec.parameters)
    Draft202012Validator.check_schema(schema)
    assert json.loads(json.dumps(schema)) == schema
    validator = Draft202012Validator(schema)
    assert validator.is_valid(EXAMPLES[name])
    assert not validator.is_valid({**EXAMPLES[name], "surprise": 1})
    assert bench.tools[name].spec.description.endswith(".")


@pytest.mark.parametrize("name", TABLE)
async def test_a_call_says_what_it_would_touch_resolved_and_under_its_capability(bench: Bench, name: str) -> None:
    accesses = await bench.tools[name].accesses(EXAMPLES[name], bench.context)
    assert accesses
    for access in accesses:
        assert access.capability == bench.tools[name].capability
        assert access.capability in CAPABILITIES
        assert access.subject == "agent:default"
        assert access.resource.startswith(("/", "artifact:"))


@pytest.mark.parametrize("name", TABLE)
async def test_asking_what_it_would_touch_touches_nothing(bench: Bench, name: str) -> None:
    await bench.tools[name].accesses(EXAMPLES[name], bench.context)
    assert {path.name: path.read_text() for path in bench.folder.iterdir()} == {"a.txt": "hello\n"}


@pytest.mark.parametrize("name", TABLE)
async def test_nothing_runs_without_a_grant(bench: Bench, name: str) -> None:
    with pytest.raises(ToolError):
        await bench.tools[name].run(EXAMPLES[name], bench.context)
    assert {path.name: path.read_text() for path in bench.folder.iterdir()} == {"a.txt": "hello\n"}


@pytest.mark.parametrize("name", TABLE)
async def test_a_granted_call_gives_an_output_that_survives_the_journal(bench: Bench, name: str) -> None:
    output = await bench.tools[name].run(EXAMPLES[name], await bench.granted(name))
    assert not output.is_error
    assert output.text
    assert output_from_json(json.loads(json.dumps(output.as_json()))) == output


@pytest.mark.parametrize("name", [name for name, (_, effect) in TABLE.items() if effect is Effect.PURE])
async def test_a_pure_call_gives_the_same_again_and_changes_nothing(bench: Bench, name: str) -> None:
    first = await bench.tools[name].run(EXAMPLES[name], await bench.granted(name))
    assert await bench.tools[name].run(EXAMPLES[name], await bench.granted(name)) == first
    assert {path.name: path.read_text() for path in bench.folder.iterdir()} == {"a.txt": "hello\n"}
