"""The journal of tasks: steps, each change with its event in the same commit."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from goclaw.core.canonical import canonical_json, digest
from goclaw.core.event import NewEvent
from goclaw.core.step import Effect, End, Intend, JournalEntry, Start, Step, StepState
from goclaw.core.task import Task
from goclaw.db.queries import load_queries
from goclaw.errors import JournalMismatch
from goclaw.store import events

_SQL = load_queries("steps")


def load(conn: sqlite3.Connection, task_key: int) -> dict[str, Step]:
    """The journal of a task by step key, in order."""
    rows = conn.execute(_SQL.of_task, {"task_key": task_key})
    return {row["step_key"]: _step(row) for row in rows}


def load_many(conn: sqlite3.Connection, task_keys: Sequence[int]) -> dict[int, dict[str, Step]]:
    """The journals of these tasks, by task; one without a step is left out."""
    journals: dict[int, dict[str, Step]] = {}
    for row in conn.execute(_SQL.of_tasks, (json.dumps(task_keys),)):
        journals.setdefault(row["task_key"], {})[row["step_key"]] = _step(row)
    return journals


def named(conn: sqlite3.Connection, task_key: int, keys: Iterable[str]) -> dict[str, Step]:
    """These steps of the task, in order."""
    rows = conn.execute(_SQL.named, {"task_key": task_key, "keys": canonical_json(list(keys))})
    return {row["step_key"]: _step(row) for row in rows}


def listed(conn: sqlite3.Connection, task_id: str) -> list[dict[str, Any]]:
    """The journal as the wire's step objects; absent fields are left out."""
    found = []
    for row in conn.execute(_SQL.listed, {"task_id": task_id}):
        item = dict(row)
        result = item.pop("result_json")
        if result is not None:
            item["result"] = json.loads(result)
        found.append({name: value for name, value in item.items() if value is not None})
    return found


def write(
    conn: sqlite3.Connection, task: Task, session_key: int | None, entries: Sequence[JournalEntry], now: int
) -> None:
    """Apply the entries in order. Raises JournalMismatch when one does not fit the journal."""
    told: list[NewEvent] = []
    for entry in entries:
        told += [
            NewEvent(type=kind, task_key=task.key, session_key=session_key, token=task.lease_token, payload=payload)
            for kind, payload in _write_one(conn, task.key, entry, now)
        ]
    if told:
        events.append(conn, told, now)


def running_unsafe(conn: sqlite3.Connection, task_key: int) -> list[str]:
    """Keys of steps that had begun and may not be repeated."""
    return [row[0] for row in conn.execute(_SQL.running_unsafe, {"task_key": task_key})]


def unsettled(conn: sqlite3.Connection, task_key: int) -> list[str]:
    """Keys of the task's unknown steps."""
    return [row[0] for row in conn.execute(_SQL.unsettled, {"task_key": task_key})]


def resolve(conn: sqlite3.Connection, task_key: int, key: str, state: StepState, result: Any, now: int) -> NewEvent:
    """Settle an unknown step by a person's word: done with a result, or intended again because it did not happen."""
    finished = None if state is StepState.INTENDED else now
    given = {"task_key": task_key, "key": key, "state": state, "result_json": _json(result), "finished_at": finished}
    row = conn.execute(_SQL.resolve, given).fetchone()
    if row is None:
        raise JournalMismatch(f"step {key} is not unknown")
    payload = _payload(key, row, result) | {"resolved": True}
    return NewEvent(type=f"step.{state}", task_key=task_key, payload=payload)


def _write_one(
    conn: sqlite3.Connection, task_key: int, entry: JournalEntry, now: int
) -> list[tuple[str, dict[str, Any]]]:
    match entry:
        case Intend():
            row = conn.execute(
                _SQL.insert,
                {
                    "task_key": task_key,
                    "key": entry.key,
                    "kind": entry.kind,
                    "state": StepState.RUNNING if entry.running else StepState.INTENDED,
                    "effect": entry.effect,
                    "tool": entry.tool,
                    "request_hash": entry.request_hash,
                    "now": now,
                    "evidence_json": _json(entry.evidence),
                    "request_json": _json(entry.request),
                },
            ).fetchone()
            payload = {"key": entry.key, "seq": row[0], "kind": entry.kind, "request_digest": entry.request_hash}
            if entry.tool:
                payload |= {"tool": entry.tool, "effect": entry.effect}
            told = [("step.intended", payload)]
            return [*told, ("step.running", payload)] if entry.running else told
        case Start():
            given: dict[str, Any] = {
                "task_key": task_key,
                "key": entry.key,
                "evidence_json": _json(entry.evidence),
                "effect": entry.effect,
            }
            return [("step.running", _payload(entry.key, _one(conn, _SQL.start, given), None))]
        case End():
            given = {
                "task_key": task_key,
                "key": entry.key,
                "state": entry.state,
                "result_json": _json(entry.result),
                "now": now,
            }
            return [(f"step.{entry.state}", _payload(entry.key, _one(conn, _SQL.end, given), entry.result))]


def _one(conn: sqlite3.Connection, sql: str, given: dict[str, Any]) -> sqlite3.Row:
    row: sqlite3.Row | None = conn.execute(sql, given).fetchone()
    if row is None:
        raise JournalMismatch(f"step {given['key']} is not open")
    return row


def _payload(key: str, row: sqlite3.Row, result: Any) -> dict[str, Any]:
    payload = {"key": key, "seq": row["seq"], "kind": row["kind"], "request_digest": row["request_hash"]}
    if row["tool"]:
        payload["tool"] = row["tool"]
    if result is not None:
        payload["result_digest"] = digest(result)
    return payload


def _json(value: Any) -> str | None:
    return None if value is None else canonical_json(value)


def _step(row: sqlite3.Row) -> Step:
    return Step(
        key=row["step_key"],
        seq=row["seq"],
        kind=row["kind"],
        state=StepState(row["state"]),
        effect=Effect(row["effect"]) if row["effect"] else None,
        tool=row["tool"],
        request_hash=row["request_hash"],
        request=_value(row["request_json"]),
        evidence=_value(row["evidence_json"]),
        result=_value(row["result_json"]),
        created_at=row["created_at"],
        finished_at=row["finished_at"],
    )


def _value(text: str | None) -> Any:
    return None if text is None else json.loads(text)
