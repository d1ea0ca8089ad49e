"""One door: known, well-formed, allowed, bounded, redacted. What it refuses, the model is told."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from goclaw.core.access import Access, Verdict
from goclaw.core.agent import Agent
from goclaw.core.canonical import canonical_json
from goclaw.core.chat import ToolSpec
from goclaw.core.step import Effect
from goclaw.core.tool import CallContext, CannotTell, Probe, Ready, Refused, ToolOutput
from goclaw.errors import SkillFault, ToolFailed
from goclaw.tools import gate as gate_module

if TYPE_CHECKING:
    from tests.unit.tools.conftest import House

SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}


class Stub:
    """A tool that does what the test says."""

    capability = "tools.read_file"

    def __init__(self, house: House, result: Any = "ok", *, effect: Effect = Effect.PURE, schema: Any = SCHEMA) -> None:
        self.spec = ToolSpec("stub", "a stub", schema)
        self.effect = effect
        self.result = result
        self.resource = str(house.folder)
        self.accesses_error: Exception | None = None
        self.granted: list[tuple[Access, ...]] = []
        self.began = asyncio.Event()
        house.tools["stub"] = self

    async def accesses(self, arguments: Mapping[str, Any], context: CallContext) -> Sequence[Access]:
        if self.accesses_error:
            raise self.accesses_error
        return [Access("agent:default", self.capability, self.resource)] if self.resource else []

    async def run(self, arguments: Mapping[str, Any], context: CallContext) -> ToolOutput:
        self.granted.append(context.granted)
        self.began.set()
        if isinstance(self.result, Exception):
            raise self.result
        if self.result is None:
            await asyncio.Event().wait()
        return self.result if isinstance(self.result, ToolOutput) else ToolOutput(self.result)

    async def evidence(self, arguments: Mapping[str, Any], context: CallContext) -> Any:
        raise ZeroDivisionError

    async def probe(self, arguments: Mapping[str, Any], evidence: Any, context: CallContext) -> Probe:
        raise ToolFailed("the world is gone")


def agent(*tools: str) -> Agent:
    return Agent(id="default", display_name="x", soul="", tools=tools)


def names(house: House, who: Agent) -> list[str]:
    return [spec.name for spec in house.gate.specs(who)]


READING = ["glob", "grep", "list_directory", "read_artifact", "read_file"]


@pytest.mark.spec("GC-SEC-118")
def test_a_model_is_shown_only_what_could_be_allowed_sorted_by_name(house: House) -> None:
    assert names(house, agent()) == sorted([*READING, "edit_file", "exec", "write_file"])
    house.policy("allow_capabilities: [tools.read_file]")
    assert names(house, agent()) == READING
    house.policy("allow_capabilities: [tools.read_file]\ntools: {deny: [g*]}")
    assert names(house, agent()) == ["list_directory", "read_artifact", "read_file"]
    assert names(house, agent("read_file", "exec")) == ["read_file"]
    house.policy("{}")
    assert names(house, agent()) == []


async def test_an_unknown_tool_is_refused_with_the_nearest_name(house: House) -> None:
    output = await house.call("read_fiel", file_path="x")
    assert (output.is_error, output.code) == (True, "UNKNOWN_TOOL")
    assert output.text == "there is no tool 'read_fiel'; the nearest one is read_file"


async def test_an_agent_cannot_call_what_it_is_not_shown_and_its_user_can(house: House) -> None:
    house.limits["default"] = ("read_file",)
    house.write("a.txt", "x")
    assert (await house.call("exec", argv=["cat", "a.txt"])).code == "UNKNOWN_TOOL"
    assert not (await house.call("read_file", file_path="a.txt")).is_error
    assert isinstance(await house.prepare("exec", {"argv": ["cat", "a.txt"]}, direct=True), Ready)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({}, "'n' is a required property"),
        ({"n": "1"}, "n: '1' is not of type 'integer'"),
        ({"n": 1, "m": 2}, "'m' was unexpected"),
    ],
)
async def test_arguments_that_do_not_match_are_refused_by_field(
    house: House, arguments: dict[str, Any], told: str
) -> None:
    stub = Stub(house)
    output = await house.call("stub", **arguments)
    assert output.code == "BAD_ARGUMENTS"
    assert told in output.text
    assert stub.granted == []
    assert house.audited == []


async def test_a_schema_is_compiled_again_when_the_tool_changes(house: House) -> None:
    Stub(house)
    assert (await house.call("stub", n=1)).text == "ok"
    Stub(house, schema={"type": "object", "required": ["other"]})
    assert (await house.call("stub", n=1)).code == "BAD_ARGUMENTS"


@pytest.mark.parametrize("schema", [{"type": "nonsense"}, {"$ref": "http://127.0.0.1:9/schema"}])
async def test_a_broken_schema_refuses_its_tool_and_fetches_nothing(house: House, schema: Any) -> None:
    Stub(house, schema=schema)
    assert (await house.call("stub", n=1)).code == "INTERNAL"
    assert [event for event, _ in house.logged] == ["tool.crashed"]


@pytest.mark.spec("GC-SEC-119")
async def test_a_denied_call_is_a_result_with_the_reason_and_an_audit_row(house: House) -> None:
    output = await house.call("read_file", file_path="/etc/passwd")
    assert (output.is_error, output.code) == (True, "POLICY_DENIED")
    assert output.text == "denied by policy: /etc/passwd is outside allow_paths (workspace)"
    assert output.data["policy_version"] == house.engine.version
    (row,) = house.audited
    assert (row.verdict, row.resource, row.task_id) == (Verdict.DENY, "/etc/passwd", "task")


async def test_what_needs_an_approval_is_refused_as_long_as_nobody_can_give_one(house: House) -> None:
    house.policy("allow_capabilities: [tools.read_file]\nallow_paths: [workspace]\napprovals: {tools.read_file: ask}")
    assert (await house.call("read_file", file_path="a.txt")).code == "APPROVAL_REQUIRED"
    assert [row.verdict for row in house.audited] == [Verdict.ASK]
    assert "read_file" in names(house, agent())


async def test_a_tool_denied_by_name_is_refused_whatever_it_touches(house: House) -> None:
    house.policy("allow_capabilities: [tools.read_file]\nallow_paths: [workspace]\ntools: {deny: [read_file]}")
    output = await house.call("read_file", file_path="a.txt")
    assert output.text == "denied by policy: the policy denies the tool read_file"


async def test_an_allowed_change_is_audited_once_and_allowed_reading_not_at_all(house: House) -> None:
    house.write("a.txt", "x")
    await house.call("read_file", file_path="a.txt")
    assert house.audited == []
    await house.call("write_file", file_path="a.txt", content="y")
    assert [(row.verdict, row.capability) for row in house.audited] == [(Verdict.ALLOW, "tools.write_file")]


@pytest.mark.spec("GC-SEC-120")
async def test_a_policy_that_changed_after_the_check_stops_the_call(house: House) -> None:
    ready = await house.ready("write_file", {"file_path": "a.txt", "content": "x"})
    house.policy("{}")
    assert await house.gate.evidence(ready) is None
    assert isinstance(await house.gate.probe(ready, {}), CannotTell)
    output = await house.gate.run(ready)
    assert output.code == "POLICY_DENIED"
    assert not (house.folder / "a.txt").exists()
    assert house.audited[-1].verdict is Verdict.DENY
    assert "outcome" not in output.data


async def test_a_target_that_changed_after_the_check_is_judged_again(house: House) -> None:
    path = house.write("a.txt", "harmless")
    ready = await house.ready("read_file", {"file_path": "a.txt"})
    path.unlink()
    path.symlink_to("/etc/passwd")
    assert (await house.gate.run(ready)).code == "POLICY_DENIED"


async def test_the_pinned_policy_holds_where_it_is_the_stricter_one(house: House) -> None:
    house.policy("{}")
    pinned = house.engine.version
    house.policy("allow_capabilities: [tools.read_file]\nallow_paths: [workspace]")
    prepared = await house.prepare("read_file", {"file_path": "a.txt"}, policy_version=pinned)
    assert isinstance(prepared, Refused)
    assert prepared.output.data["pinned_version"] == pinned


async def test_a_tool_gets_exactly_the_accesses_that_were_granted(house: House) -> None:
    stub = Stub(house)
    await house.call("stub", n=1)
    assert stub.granted == [(Access("agent:default", "tools.read_file", str(house.folder), tool="stub"),)]


async def test_a_tool_that_does_not_say_what_it_touches_is_refused(house: House) -> None:
    stub = Stub(house)
    stub.resource = ""
    assert (await house.call("stub", n=1)).code == "TOOL_FAILED"
    assert stub.granted == []


@pytest.mark.parametrize("error", [ToolFailed("no"), SkillFault("fuel")])
async def test_a_tools_own_failure_keeps_its_code_and_words(house: House, error: Exception) -> None:
    Stub(house, error, effect=Effect.UNSAFE)
    output = await house.call("stub", n=1)
    assert (output.text, output.code) == (str(error), getattr(error, "code"))  # noqa: B009
    assert output.data == {}
    assert house.logged == []


@pytest.mark.parametrize(
    ("effect", "code", "data"),
    [(Effect.PURE, "INTERNAL", {}), (Effect.UNSAFE, "OUTCOME_UNKNOWN", {"outcome": "unknown"})],
)
async def test_a_crash_is_a_result_too_and_logged(
    house: House, effect: Effect, code: str, data: dict[str, str]
) -> None:
    Stub(house, ZeroDivisionError("boom"), effect=effect)
    output = await house.call("stub", n=1)
    assert (output.is_error, output.code, output.data) == (True, code, data)
    assert "boom" not in output.text
    ((event, fields),) = house.logged
    assert event == "tool.crashed"
    assert (fields["tool"], fields["task_id"], fields["error"]) == ("stub", "task", "ZeroDivisionError: boom")


async def test_a_crash_while_preparing_is_a_refusal(house: House) -> None:
    Stub(house).accesses_error = ZeroDivisionError()
    assert (await house.call("stub", n=1)).code == "INTERNAL"


@pytest.mark.parametrize(
    ("effect", "code", "data"),
    [
        (Effect.PURE, "TIMEOUT", {}),
        (Effect.IDEMPOTENT, "TIMEOUT", {"outcome": "unknown"}),
        (Effect.VERIFIABLE, "OUTCOME_UNKNOWN", {"outcome": "unknown"}),
        (Effect.UNSAFE, "OUTCOME_UNKNOWN", {"outcome": "unknown"}),
    ],
)
async def test_a_tool_that_never_ends_is_stopped_at_its_limit(
    house: House, effect: Effect, code: str, data: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate_module, "GRACE_MS", 0)
    Stub(house, None, effect=effect)
    output = await house.gate.run(await house.ready("stub", {"n": 1}, timeout_ms=20))
    assert (output.is_error, output.code, output.data) == (True, code, data)


async def test_a_timeout_that_is_the_tools_own_is_a_crash(house: House) -> None:
    Stub(house, TimeoutError("mine"))
    output = await house.gate.run(await house.ready("stub", {"n": 1}, timeout_ms=60_000))
    assert output.code == "INTERNAL"


async def test_cancellation_passes_through(house: House) -> None:
    stub = Stub(house, None)
    running = asyncio.create_task(house.gate.run(await house.ready("stub", {"n": 1})))
    await stub.began.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_secrets_are_taken_out_of_text_and_data_and_refusals(house: House) -> None:
    data = {"stdout": "sk-very-secret", "deep": [{"sk-very-secret": "sk-very-secret", "n": 1}]}
    Stub(house, ToolOutput("it is sk-very-secret", data=data))
    output = await house.call("stub", n=1)
    assert output.text == "it is [redacted]"
    assert output.data == {"stdout": "[redacted]", "deep": [{"[redacted]": "[redacted]", "n": 1}]}
    refused = await house.call("read_file", file_path="/sk-very-secret")
    assert "sk-very-secret" not in str(refused)


@pytest.mark.spec("GC-SEC-124")
async def test_long_text_is_cut_and_whole_in_an_artifact(house: House) -> None:
    Stub(house, "a" * 40_000 + "sk-very-secret" + "b" * 40_000)
    output = await house.call("stub", n=1)
    assert output.artifact is not None
    assert output.text.startswith("aaa")
    assert output.text.endswith("bbb")
    assert len(output.text) < 30_200
    assert f"[... 50010 characters left out; the whole is artifact {output.artifact} ...]" in output.text
    whole = await house.artifacts.get(output.artifact)
    assert whole == b"a" * 40_000 + b"[redacted]" + b"b" * 40_000


async def test_a_tool_that_is_gone_by_now_is_said(house: House) -> None:
    Stub(house)
    ready = await house.ready("stub", {"n": 1})
    del house.tools["stub"]
    output = await house.gate.run(ready)
    assert (output.code, output.text) == ("TOOL_FAILED", "the tool stub is gone")


async def test_only_verifiable_effects_have_evidence_and_a_probe(house: House) -> None:
    Stub(house)
    ready = await house.ready("stub", {"n": 1})
    assert await house.gate.evidence(ready) is None
    assert isinstance(await house.gate.probe(ready, None), CannotTell)
    assert house.logged == []
    verifiable = replace(ready, effect=Effect.VERIFIABLE)
    assert await house.gate.evidence(verifiable) is None
    assert await house.gate.probe(verifiable, None) == CannotTell("the world is gone")
    assert [event for event, _ in house.logged] == ["tool.evidence_failed", "tool.probe_failed"]


def _write(path: str, text: str) -> None:
    Path(path).write_text(text)


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [("list_directory", {"path": "."}), ("glob", {"pattern": "*"}), ("grep", {"pattern": "needle"})],
)
async def test_a_file_name_that_is_no_text_does_not_spoil_the_journal(
    house: House, tool: str, arguments: dict[str, Any]
) -> None:
    _write(os.fsdecode(os.fsencode(house.folder) + b"/\xff.txt"), "needle")
    output = await house.call(tool, **arguments)
    assert "\\udcff.txt" in output.text
    assert canonical_json(output.as_json()).encode()
