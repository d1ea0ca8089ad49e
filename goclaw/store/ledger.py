"""Ports bound to the database: events outside of tasks, audit rows, policy versions, the registry of skills."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from goclaw.core.access import Verdict
from goclaw.core.canonical import canonical_json
from goclaw.core.event import NewEvent
from goclaw.core.ports import Clock
from goclaw.db.database import Database
from goclaw.errors import StoreError
from goclaw.store import audit, events, sessions, tasks


class Decided(Protocol):
    """A decision as the policy engine hands it over; `policy.engine.AuditRecord` says what the fields mean."""

    @property
    def at(self) -> int: ...  # noqa: D102
    @property
    def subject(self) -> str: ...  # noqa: D102
    @property
    def capability(self) -> str: ...  # noqa: D102
    @property
    def resource(self) -> str: ...  # noqa: D102
    @property
    def argv(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def verdict(self) -> Verdict: ...  # noqa: D102
    @property
    def reason(self) -> str: ...  # noqa: D102
    @property
    def policy_version(self) -> str: ...  # noqa: D102
    @property
    def pinned_version(self) -> str | None: ...  # noqa: D102
    @property
    def task_id(self) -> str | None: ...  # noqa: D102


class Ledger:
    """Queues what happened for the next commit and goes on; nothing committed later can be there without it.

    `mirror` is given each audit row as JSON, `lost` is told when the database takes no more, and `count` counts what is
    written: ("event", type) and ("decision", verdict).
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        mirror: Callable[[Mapping[str, Any]], None],
        lost: Callable[[str, StoreError], None],
        count: Callable[[str, str], None],
    ) -> None:
        self._database = database
        self._clock = clock
        self._mirror = mirror
        self._lost = lost
        self._count = count

    def emit(
        self,
        event_type: str,
        payload: Mapping[str, Any],
        *,
        task_id: str | None = None,
        session_id: str | None = None,
    ) -> None:
        """Append an event; see `core.ports.Emit`."""
        self._count("event", event_type)
        self._post(event_type, _append_event, event_type, dict(payload), task_id, session_id, self._clock.wall())

    def audit(self, decided: Decided) -> None:
        """Append a decision to the audit log and its mirror."""
        self._count("decision", str(decided.verdict))
        entry: audit.Entry = (
            decided.at,
            decided.subject,
            decided.capability,
            decided.resource,
            decided.argv,
            str(decided.verdict),
            decided.reason,
            decided.policy_version,
            decided.pinned_version,
            decided.task_id,
        )
        self._post("audit", audit.append, entry)
        names = ("timestamp", "subject", "capability", "resource", "argv", "verdict", "reason", "policy_version")
        self._mirror(dict(zip(names, entry, strict=False)) | {"pinned_version": entry[8], "task_id": entry[9]})

    def keep_policy(self, version: str, document: Mapping[str, Any]) -> None:
        """Remember the rules behind a version."""
        self._post("policy", audit.keep_policy, version, canonical_json(document), self._clock.wall())

    def _post(self, what: str, function: Callable[..., Any], *args: Any) -> None:
        try:
            self._database.post(function, *args)
        except StoreError as error:
            self._lost(what, error)


def _append_event(
    conn: sqlite3.Connection,
    event_type: str,
    payload: Mapping[str, Any],
    task_id: str | None,
    session_id: str | None,
    now: int,
) -> None:
    stored = tasks.by_id(conn, task_id) if task_id else None
    session = sessions.find(conn, session_id) if session_id else None
    event = NewEvent(
        type=event_type,
        task_key=stored.task.key if stored else None,
        session_key=session.key if session else stored.session_key if stored else None,
        token=stored.task.lease_token if stored else None,
        payload=payload,
    )
    events.append(conn, [event], now)
