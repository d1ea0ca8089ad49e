"""Rows as the kernel would have left them, for tests of what happens to rows that are old."""

from __future__ import annotations

import sqlite3
from typing import Any

from goclaw.core.event import NewEvent
from goclaw.store import events

DAY = 86_400_000


class Rows:
    """Writes tasks, events, steps and messages straight into a migrated database; every call is one commit."""

    def __init__(self, conn: sqlite3.Connection, now: int) -> None:
        self.conn = conn
        self.now = now
        self._count = 0

    def session(self, name: str, *, at: int | None = None) -> int:
        """A session and its first event; its key."""
        now = self.now if at is None else at
        sql = "INSERT INTO session (id, agent_id, created_at, updated_at) VALUES (?, 'default', ?, ?)"
        key = self.conn.execute(sql, (name, now, now)).lastrowid
        assert key is not None
        events.append(self.conn, [NewEvent(type="session.started", session_key=key, payload={"agent_id": name})], now)
        return key

    def task(
        self,
        *,
        state: str = "SUCCEEDED",
        at: int | None = None,
        session: int | None = None,
        parent: int | None = None,
        text: str = "",
        **columns: Any,
    ) -> int:
        """A task with input, two events (in `at`) and, with a text, a step, a message and a result of it; its key."""
        now = self.now if at is None else at
        self._count += 1
        over = state in ("SUCCEEDED", "FAILED", "CANCELED", "DEAD_LETTER")
        given: dict[str, Any] = {
            "id": f"task-{self._count}",
            "kind": "noop",
            "agent_id": "default",
            "session_key": session,
            "parent_key": parent,
            "state": state,
            "priority": 0,
            "rank": 0,
            "available_at": now,
            "max_attempts": 3,
            "created_at": now,
            "updated_at": now,
            "finished_at": now if over else None,
            "result_json": f'{{"said":"{text}"}}' if text else None,
            **columns,
        }
        names, marks = ", ".join(given), ", ".join("?" * len(given))
        sql = f"INSERT INTO task ({names}) VALUES ({marks})"  # noqa: S608 (names of columns from this file)
        key = self.conn.execute(sql, tuple(given.values())).lastrowid
        assert key is not None
        self.conn.execute("INSERT INTO task_input VALUES (?, ?)", (key, f'{{"content":"{text}"}}'))
        self._tell(key, session, "task.enqueued", None, "QUEUED", now)
        if text:
            self._speak(key, session, text, now)
        if state != "QUEUED":
            self._tell(key, session, f"task.{state.lower()}", "RUNNING", state, now)
        return key

    def event(self, kind: str = "policy.reloaded", *, at: int | None = None) -> int:
        """An event of no task; its id."""
        now = self.now if at is None else at
        return events.append(self.conn, [NewEvent(type=kind, payload={"version": "1"})], now)

    def count(self, table: str) -> int:
        """Rows of a table."""
        return int(self.conn.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608 (from a test)

    def _speak(self, key: int, session: int | None, text: str, now: int) -> None:
        said = f'{{"q":"{text}"}}'
        self.conn.execute(
            "INSERT INTO step (task_key, seq, step_key, kind, state, request_hash, created_at, finished_at,"
            " evidence_json, request_json, result_json) VALUES (?, 1, 'k', 'llm', 'done', 'h', ?, ?, ?, ?, ?)",
            (key, now, now, said, said, said),
        )
        if session is not None:
            blocks = f'[{{"type":"text","text":"{text}"}}]'
            self.conn.execute(
                "INSERT INTO message (session_key, task_key, turn, role, created_at, text, content_json)"
                " VALUES (?, ?, 1, 'user', ?, ?, ?)",
                (session, key, now, text, blocks),
            )

    def _tell(self, key: int, session: int | None, kind: str, left: str | None, state: str, now: int) -> None:
        told = NewEvent(
            type=kind, task_key=key, session_key=session, state_from=left, state_to=state, payload={"attempt": 1}
        )
        events.append(self.conn, [told], now)
