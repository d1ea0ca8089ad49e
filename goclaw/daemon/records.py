"""The ledger of one run: events and audit rows, their mirror, and what is counted of them."""

from __future__ import annotations

from contextlib import ExitStack

from goclaw.config.home import Home
from goclaw.core.ports import Clock
from goclaw.db.database import Database
from goclaw.errors import GoclawError
from goclaw.log import AuditMirror, get_logger
from goclaw.secrets.redact import Redactor
from goclaw.store.ledger import Ledger
from goclaw.telemetry import Metrics


def open_ledger(
    stack: ExitStack, home: Home, database: Database, clock: Clock, redactor: Redactor, metrics: Metrics
) -> Ledger:
    """The ledger on `database`; the mirror of its audit rows is closed with `stack`."""
    mirror = AuditMirror(home.logs / "audit.jsonl")
    stack.callback(mirror.close)
    log = get_logger("daemon")

    def lost(what: str, error: GoclawError) -> None:
        log.error("not recorded", what=what, error=error.message)

    counters = {
        "event": metrics.counter("goclaw_events_told_total", "Events told outside of tasks, by type.", "type"),
        "decision": metrics.counter("goclaw_policy_decisions_total", "Audited decisions, by verdict.", "verdict"),
    }
    return Ledger(
        database,
        clock,
        lambda row: mirror.append(redactor.json(row)),
        lost,
        lambda what, label: counters[what].add(label),
    )
