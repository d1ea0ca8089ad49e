"""`policy.*` and `audit.*`: the rules in force, and what was decided."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from goclaw.core.access import CAPABILITIES, Access, Decision
from goclaw.errors import BadRequest
from goclaw.gateway.rpc import Call, Method
from goclaw.store import audit
from goclaw.wire.params import AuditTail, Nothing, PolicyExplain

MAX_ROWS = 1_000


class RulesView(Protocol):
    """The rules as they can be shown."""

    @property
    def version(self) -> str:
        """SHA-256 of the parsed rules."""
        ...

    @property
    def document(self) -> Mapping[str, Any]:
        """What the file says."""
        ...


class Policy(Protocol):
    """The engine as this namespace needs it."""

    @property
    def rules(self) -> RulesView:
        """The rules in force."""
        ...

    def peek(self, access: Access, *, pinned: str | None = None) -> Decision:
        """Decide without a trace."""
        ...


Look = Callable[[PolicyExplain], Awaitable[Access]]
"""What would really be touched: names resolved as the tools resolve them."""


def policy_methods(policy: Policy, look: Look) -> tuple[Method, ...]:
    """The table of `policy.*` and `audit.*`."""

    async def show(_: Call, __: Nothing) -> dict[str, Any]:
        return {"version": policy.rules.version, "rules": policy.rules.document}

    async def explain(_: Call, params: PolicyExplain) -> dict[str, Any]:
        if params.capability not in CAPABILITIES:
            raise BadRequest(f"unknown capability {params.capability!r}", field="capability")
        access = await look(params)
        decision = policy.peek(access)
        return {
            "verdict": decision.verdict,
            "resource": access.resource,
            "reason": decision.reason,
            "policy_version": decision.policy_version,
        }

    async def tail(call: Call, params: AuditTail) -> dict[str, Any]:
        if not 1 <= params.limit <= MAX_ROWS:
            raise BadRequest(f"limit is from 1 to {MAX_ROWS}", field="limit")
        return {"rows": await call.house.database.read(audit.tail, params.limit, params.before)}

    return (
        Method("policy.show", Nothing, "acp.read", show),
        Method("policy.explain", PolicyExplain, "acp.read", explain),
        Method("audit.tail", AuditTail, "acp.read", tail),
    )
