"""The one door for every tool call."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, cast

from goclaw.core.access import Access, Decision, Verdict
from goclaw.core.agent import Agent
from goclaw.core.chat import ToolCall, ToolSpec
from goclaw.core.ports import Tool, VerifiableTool
from goclaw.core.step import Effect
from goclaw.core.tool import CallContext, CannotTell, Probe, Ready, Refused, ToolOutput
from goclaw.errors import GoclawError, OutcomeUnknown, ToolError
from goclaw.tools.outputs import Outputs
from goclaw.tools.schema import Checker

GRACE_MS = 1_000
"""A tool that knows its time limit ends by itself; the gate cuts it off this much later."""

Log = Callable[[str, Mapping[str, Any]], None]
"""Takes an event name and fields for the operator's log; must not raise."""


class Guard(Protocol):
    """The policy as the gate needs it."""

    def authorize(self, access: Access, *, pinned: str | None = None, task_id: str | None = None) -> Decision:
        """Decide and audit."""
        ...

    def peek(self, access: Access, *, pinned: str | None = None) -> Decision:
        """Decide without a trace."""
        ...

    def offers(self, subject: str, capability: str, tool: str = "") -> bool:
        """Whether anything could be allowed there."""
        ...

    def believes(self, access: Access, effect: Effect, *, pinned: str | None = None) -> bool:
        """Whether the process of `access` may declare its effect class."""
        ...


class Gate:
    """Fits the port Toolbox. Known, well-formed, allowed, bounded in time, redacted, cut: in this order, for
    everybody. What it refuses is an output the model sees, with the reason.

    `tools` is asked at every call, because skills come and go. A call is allowed by what it would touch now
    and judged again when it runs; the tool then gets exactly the accesses that were granted. `agent_tools`
    gives the names an agent is limited to (none: no limit); the user's own tasks are not limited by it.
    """

    def __init__(
        self,
        *,
        tools: Callable[[], Mapping[str, Tool]],
        agent_tools: Callable[[str], tuple[str, ...]],
        guard: Guard,
        outputs: Outputs,
        log: Log,
    ) -> None:
        self._tools = tools
        self._agent_tools = agent_tools
        self._guard = guard
        self._outputs = outputs
        self._log = log
        self._checker = Checker()

    def specs(self, agent: Agent) -> tuple[ToolSpec, ...]:
        """The tools this agent may have, as far as the policy could allow any use of them."""
        subject = f"agent:{agent.id}"
        return tuple(
            tool.spec
            for name, tool in sorted(self._tools().items())
            if (not agent.tools or name in agent.tools) and self._guard.offers(subject, tool.capability, name)
        )

    async def prepare(self, call: ToolCall, context: CallContext) -> Ready | Refused:
        """Whether the call may go ahead. Every refusal by policy is audited, and every allowed change."""
        try:
            tool = self._tools().get(call.name)
            if tool is None or self._is_hidden(call.name, context):
                return Refused(await self._outputs.finish(self._unknown(call.name, context)))
            if problem := await self._mismatch(tool, call.arguments):
                return Refused(await self._outputs.finish(ToolOutput(problem, True, code="BAD_ARGUMENTS")))
            accesses = await self._accesses(tool, call.name, call.arguments, context)
            for access in accesses:
                decision = self._guard.authorize(access, pinned=context.policy_version, task_id=context.task_id)
                if not decision.allowed:
                    return Refused(await self._outputs.finish(_refusal(decision)))
            return Ready(call.name, call.arguments, self._effect(tool, call, accesses, context), context)
        except Exception as error:
            return Refused(await self._failed(call.name, context, error))

    async def evidence(self, ready: Ready) -> Any:
        """What a later probe needs. None for other effects, and for a call that is going to fail anyway."""
        if ready.effect is not Effect.VERIFIABLE:
            return None
        try:
            tool, context = await self._granted(ready)
            return await cast(VerifiableTool, tool).evidence(ready.arguments, context)
        except Exception as error:
            self._tell("tool.evidence_failed", ready.name, ready.context, error)
            return None

    async def probe(self, ready: Ready, evidence: Any) -> Probe:
        """Whether an interrupted call happened; CannotTell where nobody can know or may look."""
        if ready.effect is not Effect.VERIFIABLE:
            return CannotTell(f"what {ready.name} does cannot be looked up afterwards")
        try:
            tool, context = await self._granted(ready)
            return await cast(VerifiableTool, tool).probe(ready.arguments, evidence, context)
        except Exception as error:
            self._tell("tool.probe_failed", ready.name, ready.context, error)
            return CannotTell(error.message if isinstance(error, GoclawError) else "looking it up failed")

    async def run(self, ready: Ready) -> ToolOutput:
        """Judge again, run within the time limit, redact, cut. Raises nothing but cancellation.

        Where it had begun and its end is not known, `data.outcome` is "unknown"; if it must not simply be
        repeated the code is OUTCOME_UNKNOWN then.
        """
        output = await self._run(ready)
        if output.data.get("outcome") == "unknown" and ready.effect in {Effect.UNSAFE, Effect.VERIFIABLE}:
            return replace(output, is_error=True, code=OutcomeUnknown.code)
        return output

    async def _run(self, ready: Ready) -> ToolOutput:
        begun = False
        try:
            tool, context = await self._granted(ready)
            begun = True
            async with asyncio.timeout(_seconds(context.timeout_ms)) as limit:
                output = await tool.run(ready.arguments, context)
            return await self._outputs.finish(output)
        except TimeoutError as error:
            if not begun or not limit.expired():
                return await self._failed(ready.name, ready.context, error, _uncertain(ready, begun))
            text = f"{ready.name} took longer than its limit of {ready.context.timeout_ms} ms and was stopped"
            return ToolOutput(text, True, _uncertain(ready, begun), code="TIMEOUT")
        except Exception as error:
            uncertain = {} if isinstance(error, ToolError | _Denied) else _uncertain(ready, begun)
            return await self._failed(ready.name, ready.context, error, uncertain)

    async def _granted(self, ready: Ready) -> tuple[Tool, CallContext]:
        """The tool, and the context with what it may touch now. Raises _Denied; that is audited."""
        tool = self._tools().get(ready.name)
        if tool is None:
            raise ToolError(f"the tool {ready.name} is gone")
        accesses = await self._accesses(tool, ready.name, ready.arguments, ready.context)
        for access in accesses:
            pinned = ready.context.policy_version
            if not self._guard.peek(access, pinned=pinned).allowed:
                raise _Denied(self._guard.authorize(access, pinned=pinned, task_id=ready.context.task_id))
        return tool, replace(ready.context, granted=accesses)

    async def _accesses(
        self, tool: Tool, name: str, arguments: Mapping[str, Any], context: CallContext
    ) -> tuple[Access, ...]:
        found: Sequence[Access] = await tool.accesses(arguments, context)
        if not found:
            raise ToolError(f"the tool {name} does not say what it would touch")
        return tuple(replace(access, tool=name) for access in found)

    async def _mismatch(self, tool: Tool, arguments: Mapping[str, Any]) -> str | None:
        if self._checker.is_ready(tool.spec):
            return self._checker.mismatch(tool.spec, arguments)
        return await asyncio.to_thread(self._checker.mismatch, tool.spec, arguments)

    def _effect(self, tool: Tool, call: ToolCall, accesses: tuple[Access, ...], context: CallContext) -> Effect:
        """What repeating it would do: for a program or a skill as declared, by the user or where a rule agrees."""
        declared = context.declared if context.direct and tool.capability == "wasm.invoke" else None
        if tool.capability == "tools.exec":
            declared = Effect(call.arguments.get("effect", tool.effect))
        if declared is None:
            return tool.effect
        if declared in {Effect.VERIFIABLE, Effect.UNSAFE}:  # nobody can look up what a program did
            return Effect.UNSAFE
        agreed = context.direct or all(
            self._guard.believes(access, declared, pinned=context.policy_version) for access in accesses
        )
        return declared if agreed else Effect.UNSAFE

    def _is_hidden(self, name: str, context: CallContext) -> bool:
        limited = self._agent_tools(context.agent_id)
        return bool(limited) and name not in limited and not context.direct

    def _unknown(self, name: str, context: CallContext) -> ToolOutput:
        known = [tool for tool in sorted(self._tools()) if not self._is_hidden(tool, context)]
        near = difflib.get_close_matches(name[:80], known, n=1, cutoff=0.0)
        hint = f"; the nearest one is {near[0]}" if near else ""
        return ToolOutput(f"there is no tool {name[:80]!r}{hint}", True, code="UNKNOWN_TOOL")

    async def _failed(
        self, name: str, context: CallContext, error: Exception, data: Mapping[str, Any] | None = None
    ) -> ToolOutput:
        if isinstance(error, _Denied):
            return await self._outputs.finish(_refusal(error.decision))
        if isinstance(error, GoclawError):
            return await self._outputs.finish(ToolOutput(error.message, True, data or {}, code=error.code))
        self._tell("tool.crashed", name, context, error)
        return ToolOutput(f"{name} failed inside goclaw; the log says why", True, data or {}, code="INTERNAL")

    def _tell(self, event: str, name: str, context: CallContext, error: Exception) -> None:
        fields = {"tool": name, "task_id": context.task_id, "session_id": context.session_id}
        self._log(event, {**fields, "error": f"{type(error).__name__}: {error}"})


class _Denied(GoclawError):
    """The policy no longer allows this call."""

    code = "POLICY_DENIED"

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision.reason)
        self.decision = decision


def _refusal(decision: Decision) -> ToolOutput:
    data = {"policy_version": decision.policy_version, "pinned_version": decision.pinned_version}
    if decision.verdict is Verdict.ASK:
        text = f"{decision.reason}, and approvals are not available yet: nobody can be asked"
        return ToolOutput(text, True, data, code="APPROVAL_REQUIRED")
    return ToolOutput(f"denied by policy: {decision.reason}", True, data, code="POLICY_DENIED")


def _uncertain(ready: Ready, begun: bool) -> dict[str, Any]:
    return {"outcome": "unknown"} if begun and ready.effect is not Effect.PURE else {}


def _seconds(timeout_ms: int | None) -> float | None:
    return None if timeout_ms is None else (timeout_ms + GRACE_MS) / 1000
