"""Each log notes the head of the other, so that a log cut off at its end shows.

Noted at every boot, every clean stop and before every backup. One audit row with the head of the event log, then one
event with the head of the audit log that holds this row, in one commit.
"""

from __future__ import annotations

import sqlite3
from typing import Literal

from goclaw.core.event import NewEvent
from goclaw.store import audit, events, meta
from goclaw.store.chains import AUDIT, EVENTS, NOTED_CAPABILITY, NOTED_EVENT, Finding, Head, compare_noted, head

_META = "noted_heads"
Occasion = Literal["boot", "stop", "backup", "restore"]


def note(conn: sqlite3.Connection, occasion: Occasion, now: int) -> None:
    """Note both heads."""
    told = head(conn, EVENTS)
    resource = f"event:{told.id}:{told.chain.hex()}"
    reason = "the head of the event log"
    audit.append(conn, (now, "goclaw", NOTED_CAPABILITY, resource, [occasion], "allow", reason, "", None, None))
    row = head(conn, AUDIT)
    said = {"occasion": occasion, "audit_id": row.id, "audit_chain": row.chain.hex()}
    number = events.append(conn, [NewEvent(type=NOTED_EVENT, payload=said)], now)
    meta.put(conn, _META, f"{number}:{head(conn, EVENTS).chain.hex()}:{row.id}:{row.chain.hex()}")


def check(conn: sqlite3.Connection) -> list[Finding]:
    """Whether the heads noted last are still there; costs two look-ups, so every boot does it."""
    noted = meta.get(conn, _META)
    if noted is None:
        return []
    number, event_chain, row, audit_chain = noted.split(":")
    by = "the last note"
    found = (
        compare_noted(conn, EVENTS, Head(int(number), bytes.fromhex(event_chain)), by),
        compare_noted(conn, AUDIT, Head(int(row), bytes.fromhex(audit_chain)), by),
    )
    return [finding for finding in found if finding is not None]
