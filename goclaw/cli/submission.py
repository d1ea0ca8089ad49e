"""One task to submit, and the way to its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from goclaw.cli import screen
from goclaw.cli.telling import told_while
from goclaw.client import Client


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """The parameters of task.submit and subtask.create; times in milliseconds."""

    kind: str
    payload: Mapping[str, Any]
    session_id: str | None = None
    agent_id: str | None = None
    idempotency_key: str | None = None
    priority: int = 0
    delay_ms: int = 0
    max_attempts: int = 3
    timeout_ms: int | None = None
    deadline_ms: int | None = None
    concurrency_key: str | None = None
    unique_key: str | None = None
    parent_task_id: str | None = None

    @property
    def method(self) -> str:
        """What to call."""
        return "task.submit" if self.parent_task_id is None else "subtask.create"

    def params(self) -> dict[str, Any]:
        """As the wire has them; what is None is left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    async def done(self, client: Client) -> Mapping[str, Any]:
        """Submit it and wait for its end; the task."""
        answer = await client.call(self.method, self.params())
        return await finished(client, answer["task_id"])


async def finished(client: Client, task_id: str) -> Mapping[str, Any]:
    """Wait for the end of a stored task; the task."""
    if screen.talkative():
        screen.say(f"task {task_id}")
    return await told_while(client, task_id, client.wait(task_id))
