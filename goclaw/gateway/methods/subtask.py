"""`subtask.*`: tasks below a task. They end with it when it is canceled."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from goclaw.gateway.methods.task import find_task, new_task, page_of, state_of, submitted
from goclaw.gateway.rpc import Call, Method
from goclaw.store.tasks import TaskFilter
from goclaw.wire.params import SubtaskCreate, SubtaskList


async def _create(call: Call, params: SubtaskCreate) -> dict[str, Any]:
    return submitted(await call.house.tasks.submit(replace(new_task(params), parent_task_id=params.parent_task_id)))


async def _list(call: Call, params: SubtaskList) -> dict[str, Any]:
    await find_task(call, params.parent_task_id)
    where = TaskFilter(state=state_of(params.state), parent_task_id=params.parent_task_id)
    return await page_of(call, where, params.limit, params.cursor)


TABLE = (
    Method("subtask.create", SubtaskCreate, "acp.mutate", _create),
    Method("subtask.list", SubtaskList, "acp.read", _list),
)
