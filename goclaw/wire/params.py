"""The parameters of every method. Unknown ones are refused; the types are strict."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar, dataclass_transform

from pydantic import ConfigDict, Field

T = TypeVar("T")
Int = Annotated[int, Field(ge=-(2**63), lt=2**63)]
"""What the database can hold."""


@dataclass_transform(frozen_default=True, kw_only_default=True)
def params(cls: type[T]) -> type[T]:
    """A frozen parameter class: strict types, unknown names refused. Its validator is built at first use."""
    cls.__pydantic_config__ = ConfigDict(extra="forbid", strict=True)  # type: ignore[attr-defined]
    return dataclass(frozen=True, kw_only=True)(cls)


@params
class Nothing:
    """No parameters."""


@params
class Hello:
    """`system.hello`."""

    version: str
    client: str | None = None


@params
class TaskSubmit:
    """`task.submit`. Times in milliseconds; `deadline_ms` counts from now."""

    kind: str
    payload: dict[str, Any]
    session_id: str | None = None
    agent_id: str | None = None
    idempotency_key: str | None = None
    priority: Int = 0
    delay_ms: Int = 0
    deadline_ms: Int | None = None
    max_attempts: Int = 3
    timeout_ms: Int | None = None
    concurrency_key: str | None = None
    unique_key: str | None = None


@params
class SubtaskCreate(TaskSubmit):
    """`subtask.create`: as `task.submit`, below a task."""

    parent_task_id: str


@params
class SubtaskList:
    """`subtask.list`: the tasks right below one, newest first."""

    parent_task_id: str
    state: str | None = None
    cursor: str | None = None
    limit: Int = 50


@params
class TaskSubmitMany:
    """`task.submit_many`: up to 1,000, all or nothing."""

    tasks: list[TaskSubmit]


@params
class TaskId:
    """Methods that name one task."""

    task_id: str


@params
class TaskList:
    """`task.list` and the filters of `task.retry_many`."""

    state: str | None = None
    kind: str | None = None
    session_id: str | None = None
    agent_id: str | None = None
    since: Int | None = None
    cursor: str | None = None
    limit: Int = 50


@params
class TaskFilters:
    """`task.retry_many`: which resting tasks to put back: up to 1,000 by their ids, or at least one filter."""

    task_ids: list[str] | None = None
    state: str | None = None
    kind: str | None = None
    session_id: str | None = None
    agent_id: str | None = None
    since: Int | None = None


@params
class TaskWait:
    """`task.wait`; without `timeout_ms` as long as the connection lives."""

    task_id: str
    timeout_ms: Int | None = None


@params
class TaskCancel:
    """`task.cancel`."""

    task_id: str
    reason: str | None = None


@params
class TaskSnooze:
    """`task.snooze`: how long a waiting task is to wait from now on."""

    task_id: str
    delay_ms: Int


@params
class TaskEvents:
    """`task.events`."""

    task_id: str
    from_event_id: Int = 0


@params
class TaskResolve:
    """`task.resolve`: a person settles an unknown step."""

    task_id: str
    outcome: Literal["done", "not_done"]
    step_id: Int | None = None
    result: Any = None


@params
class AgentChat:
    """`agent.chat`, `agent.chat.stream`, `session.message`. `text` is an alias of `content`."""

    content: str | None = None
    text: str | None = None
    session_id: str | None = None
    agent_id: str | None = None
    idempotency_key: str | None = None
    model: str | None = None


@params
class AgentId:
    """`agent.status`."""

    agent_id: str


@params
class SessionCreate:
    """`session.create`."""

    session_id: str | None = None
    agent_id: str | None = None


@params
class SessionId:
    """Methods that name one session."""

    session_id: str


@params
class SessionList:
    """`session.list`, newest first."""

    limit: Int = 50
    cursor: str | None = None


@params
class SessionHistory:
    """`session.history`: the newest page below `before`, ascending."""

    session_id: str
    limit: Int = 100
    before: Int | None = None


@params
class SessionExport:
    """`session.export`: messages from the oldest on, behind `cursor`."""

    session_id: str
    format: Literal["json", "markdown"] = "json"
    limit: Int = 100
    cursor: str | None = None


@params
class Subscribe:
    """`session.events.subscribe`. 0 = from the oldest kept, "latest" = live only."""

    session_id: str
    from_event_id: Int | Literal["latest"] = 0
    log_id: str | None = None


@params
class EventsRead:
    """`session.events.read`."""

    session_id: str
    from_event_id: Int = 0
    limit: Int = 100


@params
class Pause:
    """`system.pause` and `system.resume`. `kill` also ends what runs in the scope."""

    scope: Literal["all", "agent", "kind"] = "all"
    agent_id: str | None = None
    kind: str | None = None
    kill: bool = False


@params
class ToolsExecute:
    """`tools.execute`: one tool call as a durable task."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    session_id: str | None = None


@params
class CronList:
    """`cron.list`, by id behind `cursor`."""

    limit: Int = 100
    cursor: str | None = None


@params
class CronAdd:
    """`cron.add`: exactly one of `cron`, `every_ms` and `at`. Times in milliseconds."""

    id: str | None = None
    name: str | None = None
    cron: str | None = None
    zone: str = "UTC"
    every_ms: Int | None = None
    anchor: Int | None = None
    at: Int | None = None
    kind: str = "chat"
    payload: dict[str, Any] = field(default_factory=dict)
    agent_id: str | None = None
    session_id: str | None = None
    priority: Int = 0
    max_attempts: Int = 3
    deadline_ms: Int | None = None
    enabled: bool = True
    missed: str = "coalesce"
    overlap: str = "skip"


@params
class CronId:
    """Methods that name one schedule."""

    id: str


@params
class CronNext:
    """`cron.next`."""

    id: str
    limit: Int = 5


@params
class CronHistory:
    """`cron.history`, newest first, planned before `before`."""

    id: str
    limit: Int = 50
    before: Int | None = None


@params
class SkillName:
    """Methods that name one skill."""

    name: str


@params
class PolicyExplain:
    """`policy.explain`: what the policy would say to an access."""

    capability: str
    subject: str = "agent:default"
    resource: str = ""
    argv: list[str] = field(default_factory=list)


@params
class AuditTail:
    """`audit.tail`: the newest decisions, oldest first."""

    limit: Int = 50
    before: Int | None = None


@params
class IncidentExport:
    """`incident.export`: one of `task_id`, `session_id` and `since` (with `until`, milliseconds since 1970 UTC)."""

    task_id: str | None = None
    session_id: str | None = None
    since: Int | None = None
    until: Int | None = None
    with_content: bool = False
    doctor: list[dict[str, Any]] = field(default_factory=list)


@params
class BackupCreate:
    """`backup.create`: an absolute path on the daemon's machine, by default a new name in backups/ of the home."""

    path: str | None = None
    with_secrets: bool = False


@params
class BackupPath:
    """`backup.verify`: an absolute path on the daemon's machine."""

    path: str
