"""The one place that answers "may this happen?" and writes the answer down."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from goclaw.core.access import STRICTNESS, Access, Decision, Verdict
from goclaw.core.ports import Clock
from goclaw.core.step import Effect
from goclaw.policy.rules import Judgement, Rules

KEPT_VERSIONS = 64
_READS = frozenset({"acp.read", "tools.read_file", "tools.memory_read", "wasm.kv_read", "wasm.env", "wasm.log"})


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """One decision as the audit log keeps it; `at` is milliseconds since 1970 UTC."""

    at: int
    subject: str
    capability: str
    resource: str
    argv: tuple[str, ...]
    verdict: Verdict
    reason: str
    policy_version: str
    pinned_version: str | None
    task_id: str | None


Audit = Callable[[AuditRecord], None]
"""Takes a record for the audit log and returns at once; the row is durable with the next commit."""
LoadVersion = Callable[[str], Rules | None]
"""The rules of a version that is no longer in memory, or None."""


class PolicyEngine:
    """Answers accesses by the version in force and by the one a task pinned; the stricter of both holds.

    `authorize` fits the port of that name. It never waits and reads no file. What it allows is true at this
    moment only: whoever acts later asks again. A pinned version that nobody knows any more is left out of
    the decision, and the reason says so.
    """

    def __init__(self, rules: Rules, *, audit: Audit, clock: Clock, load_version: LoadVersion) -> None:
        self._current = rules
        self._recent: OrderedDict[str, Rules] = OrderedDict({rules.version: rules})
        self._audit = audit
        self._clock = clock
        self._load_version = load_version

    @property
    def rules(self) -> Rules:
        """The rules in force."""
        return self._current

    @property
    def version(self) -> str:
        """The version in force; a task pins it when its attempt starts."""
        return self._current.version

    def adopt(self, rules: Rules) -> None:
        """Put `rules` in force: from the next decision on, for everybody."""
        self._current = rules
        self._recent[rules.version] = rules
        self._recent.move_to_end(rules.version)
        while len(self._recent) > KEPT_VERSIONS:
            self._recent.popitem(last=False)

    def authorize(self, access: Access, *, pinned: str | None = None, task_id: str | None = None) -> Decision:
        """Decide, and audit every answer but an allowed reading."""
        decision = self.peek(access, pinned=pinned)
        if not decision.allowed or access.capability not in _READS:
            self.record(access, decision, task_id)
        return decision

    def peek(self, access: Access, *, pinned: str | None = None) -> Decision:
        """Decide without a trace, for what was audited a moment ago and for showing what would be allowed."""
        return self._both(lambda rules: rules.decide(access), pinned)

    def offers(self, subject: str, capability: str, tool: str = "") -> bool:
        """Whether anything could be allowed there now, with or without an approval. Not audited."""
        return self._current.offers(subject, capability, tool)[0] is not Verdict.DENY

    def believes(self, access: Access, effect: Effect, *, pinned: str | None = None) -> bool:
        """Whether the process of `access` may declare `effect` itself, by both versions."""
        versions = {self._current.version: self._current}
        if pinned is not None and (rules := self._known(pinned)):
            versions[pinned] = rules
        return all(rules.believes(access.argv, access.argv_paths, effect) for rules in versions.values())

    def record(self, access: Access, decision: Decision, task_id: str | None) -> None:
        """Hand one decision to the audit log."""
        self._audit(
            AuditRecord(
                at=self._clock.wall(),
                subject=access.subject,
                capability=access.capability,
                resource=access.resource,
                argv=access.argv,
                verdict=decision.verdict,
                reason=decision.reason,
                policy_version=decision.policy_version,
                pinned_version=decision.pinned_version,
                task_id=task_id,
            )
        )

    def _both(self, judge: Callable[[Rules], Judgement], pinned: str | None) -> Decision:
        current = self._current
        verdict, reason = judge(current)
        if pinned is None or pinned == current.version:
            return Decision(verdict, reason, current.version, pinned)
        rules = self._known(pinned)
        if rules is None:
            reason = f"{reason} (judged by the current policy alone: version {pinned[:12]} is not known any more)"
            return Decision(verdict, reason, current.version, pinned)
        earlier, earlier_reason = judge(rules)
        if STRICTNESS[earlier] < STRICTNESS[verdict]:
            verdict, reason = earlier, f"{earlier_reason} (by the policy pinned when the task started)"
        return Decision(verdict, reason, current.version, pinned)

    def _known(self, version: str) -> Rules | None:
        rules = self._recent.get(version)
        if rules is None and (rules := self._load_version(version)) is not None:
            self._recent[version] = rules
            while len(self._recent) > KEPT_VERSIONS:
                self._recent.popitem(last=False)
        return rules
