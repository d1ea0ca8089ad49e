"""Tasks that are one tool call: kinds `exec`, `skill` and `tool`. The same gate and journal as a turn, no model."""

from __future__ import annotations

from goclaw.brain.calls import Calls
from goclaw.core.chat import ToolCall
from goclaw.core.outcome import Closing, Failed, Outcome, Succeeded, Unknown
from goclaw.core.ports import Attempt, Handler, Toolbox
from goclaw.core.step import StepState
from goclaw.core.task import Task

PERMANENT = frozenset(
    {"POLICY_DENIED", "APPROVAL_REQUIRED", "BAD_ARGUMENTS", "UNKNOWN_TOOL", "SKILL_REJECTED", "SKILL_QUARANTINED"}
)
"""What only a person can mend: trying again would say the same."""
ERROR_CHARS = 2_000


def call_handler(toolbox: Toolbox) -> Handler:
    """A handler for the call kinds. A refused or wrong call rests in FAILED; a failed one is tried again."""

    async def handle(attempt: Attempt) -> Outcome:
        done, entries = await Calls(attempt, toolbox).perform([call_of(attempt.task)], "call", retry_failed=True)
        output, state = done[0].output, done[0].state
        closing = Closing(tuple(entries))
        result = {"text": output.text, **output.data}
        if output.artifact:
            result["artifact"] = output.artifact
        if state is StepState.UNKNOWN:
            return Unknown(output.text, closing)
        if not output.is_error:
            return Succeeded(result, closing=closing)
        code = output.code or "TOOL_FAILED"
        return Failed(code, output.text[:ERROR_CHARS], permanent=code in PERMANENT, result=result, closing=closing)

    return handle


def call_of(task: Task) -> ToolCall:
    """The one call that the task stands for."""
    payload = task.payload
    if task.kind == "tool":
        return ToolCall("call", payload["name"], payload.get("arguments") or {})
    if task.kind == "skill":
        return ToolCall("call", payload["skill"], payload.get("input") or {})
    return ToolCall("call", "exec", {name: value for name, value in payload.items() if value is not None})
