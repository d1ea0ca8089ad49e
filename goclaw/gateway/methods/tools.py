"""`tools.*`: what tools there are, and one call of one as a durable task."""

from __future__ import annotations

from typing import Any

from goclaw.core.agent import DEFAULT_AGENT
from goclaw.core.task import NewTask
from goclaw.gateway.methods.task import submitted
from goclaw.gateway.rpc import Call, Method
from goclaw.wire.params import Nothing, ToolsExecute


async def _list(call: Call, _: Nothing) -> dict[str, Any]:
    agent = call.house.agents()[DEFAULT_AGENT]
    specs = call.house.tool_specs(agent)
    return {
        "tools": [{"name": spec.name, "description": spec.description, "parameters": spec.parameters} for spec in specs]
    }


async def _execute(call: Call, params: ToolsExecute) -> dict[str, Any]:
    new = NewTask(
        kind="tool",
        payload={"name": params.name, "arguments": params.arguments},
        agent_id=DEFAULT_AGENT,
        session_id=params.session_id,
    )
    return submitted(await call.house.tasks.submit(new))


TABLE = (
    Method("tools.list", Nothing, "acp.read", _list),
    Method("tools.execute", ToolsExecute, "acp.mutate", _execute),
)
