"""`task.*`: submit, look at, wait for, cancel, retry, settle."""

from __future__ import annotations

from typing import Any

from goclaw.core.intake import complete
from goclaw.core.task import NewTask, Task, TaskState
from goclaw.errors import BadRequest, NotFound
from goclaw.gateway.house import SubmittedTask
from goclaw.gateway.rpc import Call, Method
from goclaw.gateway.shapes import event_object, task_object
from goclaw.store import events, steps, tasks
from goclaw.store.holds import NOTHING, Holds, holds
from goclaw.store.tasks import TaskFilter
from goclaw.wire.params import (
    TaskCancel,
    TaskEvents,
    TaskFilters,
    TaskId,
    TaskList,
    TaskResolve,
    TaskSnooze,
    TaskSubmit,
    TaskSubmitMany,
    TaskWait,
)

MAX_BATCH = 1_000
MAX_PAGE = 500
RESTING = (TaskState.FAILED, TaskState.CANCELED, TaskState.DEAD_LETTER)
"""What can be put back."""


def new_task(params: TaskSubmit) -> NewTask:
    """The submission with its defaults; a chat carries its message."""
    return complete(
        NewTask(
            kind=params.kind,
            payload=params.payload,
            agent_id=params.agent_id,
            session_id=params.session_id,
            idempotency_key=params.idempotency_key,
            priority=params.priority,
            delay_ms=params.delay_ms,
            deadline_ms=params.deadline_ms,
            max_attempts=params.max_attempts,
            timeout_ms=params.timeout_ms,
            concurrency_key=params.concurrency_key,
            unique_key=params.unique_key,
        )
    )


def submitted(done: SubmittedTask) -> dict[str, Any]:
    """What every submission answers."""
    task = done.task
    return {
        "task_id": task.id,
        "session_id": task.session_id,
        "state": task.state,
        "deduplicated": done.known,
    }


async def shown(call: Call, task: Task) -> dict[str, Any]:
    """The task with its derived wait_reason."""
    return task_object(task, await _holds(call) if task.state is TaskState.QUEUED else NOTHING)


async def _holds(call: Call) -> Holds:
    return await call.house.database.read(holds, call.house.clock.wall())


async def _submit(call: Call, params: TaskSubmit) -> dict[str, Any]:
    return submitted(await call.house.tasks.submit(new_task(params)))


async def _submit_many(call: Call, params: TaskSubmitMany) -> dict[str, Any]:
    if not 1 <= len(params.tasks) <= MAX_BATCH:
        raise BadRequest(f"tasks holds 1 to {MAX_BATCH} submissions", field="tasks")
    done = await call.house.tasks.submit_many([new_task(one) for one in params.tasks])
    return {"results": [submitted(one) for one in done]}


async def _get(call: Call, params: TaskId) -> dict[str, Any]:
    return await shown(call, await find_task(call, params.task_id))


async def _list(call: Call, params: TaskList) -> dict[str, Any]:
    return await page_of(call, _filter(params), params.limit, params.cursor)


async def page_of(call: Call, where: TaskFilter, limit: int, cursor: str | None) -> dict[str, Any]:
    """A page of tasks, newest first. Raises BadRequest."""
    if not 1 <= limit <= MAX_PAGE:
        raise BadRequest(f"limit is from 1 to {MAX_PAGE}", field="limit")
    found = await call.house.database.read(tasks.page, where, limit + 1, cursor_of(cursor))
    held = await _holds(call)
    page: dict[str, Any] = {"tasks": [task_object(task, held) for task in found[:limit]]}
    if len(found) > limit:
        page["next_cursor"] = str(found[limit - 1].key)
    return page


async def _wait(call: Call, params: TaskWait) -> dict[str, Any]:
    if params.timeout_ms is not None and params.timeout_ms < 0:
        raise BadRequest("timeout_ms is not negative", field="timeout_ms")
    async with call.waiting():
        return task_object(await call.house.waiters.wait(params.task_id, params.timeout_ms))


async def _cancel(call: Call, params: TaskCancel) -> dict[str, Any]:
    canceled, state, below = await call.house.cancel(params.task_id, params.reason)
    answer: dict[str, Any] = {"canceled": canceled, "state": state}
    return answer | {"descendants": below} if below else answer


async def _snooze(call: Call, params: TaskSnooze) -> dict[str, Any]:
    return await shown(call, await call.house.tasks.snooze(params.task_id, params.delay_ms))


async def _retry(call: Call, params: TaskId) -> dict[str, Any]:
    return await shown(call, await call.house.tasks.redrive(params.task_id))


async def _retry_many(call: Call, params: TaskFilters) -> dict[str, Any]:
    where = _filter(params)
    if (params.task_ids is not None) == (where != TaskFilter()):
        raise BadRequest("name either task_ids or at least one filter: state, kind, session_id, agent_id, since")
    if params.task_ids is not None:
        if not 1 <= len(params.task_ids) <= MAX_BATCH:
            raise BadRequest(f"task_ids holds 1 to {MAX_BATCH} ids", field="task_ids")
        done = await call.house.tasks.redrive_listed(params.task_ids)
    else:
        if where.state not in (None, *RESTING):
            raise BadRequest(f"{where.state} tasks cannot be retried; {', '.join(RESTING)} ones can", field="state")
        done = await call.house.tasks.redrive_all(where)
    refused = [{"task_id": one.task_id, "code": one.code, "message": one.message} for one in done.refused]
    return {"count": done.count, "skipped": done.skipped, "refused": refused}


async def _steps(call: Call, params: TaskId) -> dict[str, Any]:
    await find_task(call, params.task_id)
    return {"steps": await call.house.database.read(steps.listed, params.task_id)}


async def _events(call: Call, params: TaskEvents) -> dict[str, Any]:
    await find_task(call, params.task_id)
    found = await call.house.database.read(events.read_task, params.task_id, params.from_event_id)
    return {"events": [event_object(event) for event in found]}


async def _resolve(call: Call, params: TaskResolve) -> dict[str, Any]:
    result = None
    if params.outcome == "done":
        text = params.result if isinstance(params.result, str) else "a person said that this was done"
        data = {"resolved": True} | ({} if params.result is None else {"result": params.result})
        result = {"text": text, "is_error": False, "data": data, "artifact": None, "code": None}
    done = await call.house.tasks.resolve(params.task_id, params.step_id, params.outcome == "done", result)
    return await shown(call, done)


async def find_task(call: Call, task_id: str) -> Task:
    """One task. Raises NotFound."""
    stored = await call.house.database.read(tasks.by_id, task_id)
    if stored is None:
        raise NotFound(f"there is no task {task_id}", task_id=task_id)
    return stored.task


def _filter(params: TaskList | TaskFilters) -> TaskFilter:
    state = state_of(params.state)
    return TaskFilter(
        state=state, kind=params.kind, session_id=params.session_id, agent_id=params.agent_id, since=params.since
    )


def state_of(name: str | None) -> TaskState | None:
    """A state by its name. Raises BadRequest."""
    if name is None:
        return None
    if name not in set(TaskState):
        raise BadRequest(f"state is one of {', '.join(TaskState)}", field="state")
    return TaskState(name)


def cursor_of(text: str | None) -> int | None:
    """A page cursor as it was given out. Raises BadRequest."""
    if text is None:
        return None
    if not text.isdecimal() or len(text) > 18:
        raise BadRequest("cursor is a next_cursor that was given out before", field="cursor")
    return int(text)


TABLE = (
    Method("task.submit", TaskSubmit, "acp.mutate", _submit),
    Method("task.submit_many", TaskSubmitMany, "acp.mutate", _submit_many),
    Method("task.get", TaskId, "acp.read", _get),
    Method("task.list", TaskList, "acp.read", _list),
    Method("task.wait", TaskWait, "acp.read", _wait),
    Method("task.cancel", TaskCancel, "acp.mutate", _cancel),
    Method("task.snooze", TaskSnooze, "acp.mutate", _snooze),
    Method("task.retry", TaskId, "acp.mutate", _retry),
    Method("task.retry_many", TaskFilters, "acp.mutate", _retry_many),
    Method("task.steps", TaskId, "acp.read", _steps),
    Method("task.events", TaskEvents, "acp.read", _events),
    Method("task.resolve", TaskResolve, "acp.mutate", _resolve),
)
