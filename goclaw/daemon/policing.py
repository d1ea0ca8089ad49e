"""The policy of a home at a start: read, kept by version, followed."""

from __future__ import annotations

import json

from goclaw.config.home import Home
from goclaw.core.ports import Clock
from goclaw.db.database import Database
from goclaw.policy.engine import KEPT_VERSIONS, PolicyEngine
from goclaw.policy.live import LivePolicy, load
from goclaw.policy.rules import Rules, from_document
from goclaw.store import audit
from goclaw.store.ledger import Ledger


async def load_policy(home: Home, clock: Clock, database: Database, ledger: Ledger) -> tuple[PolicyEngine, LivePolicy]:
    """The engine on the rules of policy.yaml and who follows the file. Raises PolicyInvalid."""
    loaded = load(home.policy, home.root)
    kept = await database.read(audit.policies, KEPT_VERSIONS)

    def remembered(version: str) -> Rules | None:
        text = kept.get(version)
        return None if text is None else from_document(json.loads(text), str(home.root))

    engine = PolicyEngine(loaded.rules, audit=ledger.audit, clock=clock, load_version=remembered)
    live = LivePolicy(
        home.policy,
        home.root,
        engine=engine,
        emit=ledger.emit,
        record=lambda rules: ledger.keep_policy(rules.version, rules.document),
    )
    live.announce(loaded)
    return engine, live
