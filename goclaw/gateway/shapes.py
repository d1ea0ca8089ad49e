"""The objects of the wire: what a task, an event, a delta, a session look like outside. Absent fields are left out."""

from __future__ import annotations

from typing import Any

from goclaw.core.agent import Agent
from goclaw.core.event import Delta, Event
from goclaw.core.task import Task
from goclaw.store.holds import NOTHING, Holds
from goclaw.store.sessions import Session

_ALWAYS = (
    "id",
    "kind",
    "session_id",
    "agent_id",
    "state",
    "priority",
    "attempt",
    "max_attempts",
    "deaths",
    "available_at",
    "payload",
    "cancel_requested",
    "created_at",
    "updated_at",
)
_WHEN_SET = (
    "wait_reason",
    "result",
    "error",
    "error_code",
    "progress",
    "lease_owner",
    "lease_expires_at",
    "idempotency_key",
    "concurrency_key",
    "unique_key",
    "deadline_at",
    "parent_task_id",
    "policy_version",
    "usage",
    "finished_at",
)


def task_object(task: Task, held: Holds = NOTHING) -> dict[str, Any]:
    """A task. One that could be claimed shows the derived wait_reason `paused` or `rate` where that holds it."""
    shown = {name: getattr(task, name) for name in _ALWAYS}
    shown |= {name: value for name in _WHEN_SET if (value := getattr(task, name)) is not None}
    reason = held.reason(task)
    return shown if reason is None else shown | {"wait_reason": reason}


def event_object(event: Event) -> dict[str, Any]:
    """An event; every field is there, absent ones are null."""
    return {
        "event_id": event.event_id,
        "task_id": event.task_id,
        "session_id": event.session_id,
        "event_type": event.event_type,
        "state_from": event.state_from,
        "state_to": event.state_to,
        "run_id": event.run_id,
        "trace_id": event.trace_id,
        "payload": event.payload,
        "created_at": event.created_at,
    }


def delta_object(delta: Delta) -> dict[str, Any]:
    """A piece of an answer."""
    shown: dict[str, Any] = {
        "task_id": delta.task_id,
        "session_id": delta.session_id,
        "seq": delta.seq,
        "content": delta.content,
    }
    return shown | {"reset": True} if delta.reset else shown


def session_object(session: Session) -> dict[str, Any]:
    """A session."""
    shown: dict[str, Any] = {
        "id": session.id,
        "agent_id": session.agent_id,
        "created_at": session.created_at,
        "updated_at": session.updated_at,
    }
    return shown if session.ended_at is None else shown | {"ended_at": session.ended_at}


def agent_object(agent: Agent) -> dict[str, Any]:
    """An agent as configured."""
    return {
        "agent_id": agent.id,
        "display_name": agent.display_name,
        "providers": list(agent.providers),
        "model": agent.model,
        "tools": list(agent.tools),
        "worker_count": agent.worker_count,
        "max_queue_depth": agent.max_queue_depth,
    }
