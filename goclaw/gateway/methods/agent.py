"""`agent.*`: talk to an agent; see who there is."""

from __future__ import annotations

from typing import Any

from goclaw.core.intake import chat_task
from goclaw.core.task import NewTask, TaskState
from goclaw.errors import BadRequest, NotFound
from goclaw.gateway.rpc import Call, Method
from goclaw.gateway.shapes import agent_object
from goclaw.store import tasks
from goclaw.store.tasks import TaskFilter
from goclaw.wire.params import AgentChat, AgentId, Nothing, TaskId


async def chat(call: Call, params: AgentChat) -> dict[str, Any]:
    """One durable turn, answered when it is stored."""
    done = await call.house.tasks.submit(_turn(params))
    return {"task_id": done.task.id, "session_id": done.task.session_id, "deduplicated": done.known}


async def _stream(call: Call, params: AgentChat) -> dict[str, Any]:
    done = await call.house.tasks.submit(_turn(params))
    task = done.task
    call.connection.stream_deltas(task.id)
    try:
        async with call.waiting():
            final = await call.house.waiters.wait(task.id, None)
    finally:
        await call.connection.end_deltas(task.id)
    shown: dict[str, Any] = {"task_id": final.id, "session_id": final.session_id, "state": final.state}
    if final.result is not None:
        shown["result"] = final.result
    if final.state is not TaskState.SUCCEEDED:
        shown["error"] = {"code": final.error_code, "message": final.error}
    return shown


async def _abort(call: Call, params: TaskId) -> dict[str, Any]:
    aborted, *_ = await call.house.cancel(params.task_id, "aborted by the client")
    return {"aborted": aborted}


async def _list(call: Call, _: Nothing) -> dict[str, Any]:
    return {"agents": [agent_object(agent) for agent in call.house.agents().values()]}


async def _status(call: Call, params: AgentId) -> dict[str, Any]:
    agent = call.house.agents().get(params.agent_id)
    if agent is None:
        raise NotFound(f"there is no agent {params.agent_id!r}", agent_id=params.agent_id)
    running = await call.house.database.read(
        tasks.page, TaskFilter(state=TaskState.RUNNING, agent_id=agent.id), 500, None
    )
    queued = await call.house.database.read(tasks.depth, agent.id)
    names = [spec.name for spec in call.house.tool_specs(agent)]
    return agent_object(agent) | {"running_tasks": len(running), "queue_depth": queued, "shown_tools": names}


def _turn(params: AgentChat) -> NewTask:
    content = params.content if params.content is not None else params.text
    if content is None:
        raise BadRequest("content: required", field="content")
    return chat_task(
        content,
        agent_id=params.agent_id,
        session_id=params.session_id,
        idempotency_key=params.idempotency_key,
        model=params.model,
    )


TABLE = (
    Method("agent.chat", AgentChat, "acp.mutate", chat),
    Method("agent.chat.stream", AgentChat, "acp.mutate", _stream, needs_socket=True),
    Method("agent.abort", TaskId, "acp.mutate", _abort),
    Method("agent.list", Nothing, "acp.read", _list),
    Method("agent.status", AgentId, "acp.read", _status),
)
