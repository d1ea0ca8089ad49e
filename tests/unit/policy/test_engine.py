"""The engine answers by the stricter of two versions, and writes down what matters."""

from __future__ import annotations

import pytest

from goclaw.core.access import Access, Verdict
from goclaw.core.step import Effect
from goclaw.policy import engine as engine_module
from goclaw.policy.engine import AuditRecord, PolicyEngine
from goclaw.policy.rules import Rules, parse


class FixedClock:
    def wall(self) -> int:
        return 1_700_000_000_000

    def monotonic(self) -> int:
        return 0

    async def sleep(self, ms: float) -> None:
        raise AssertionError("the engine never waits")


def rules(*capabilities: str, more: str = "") -> Rules:
    return parse(f"allow_capabilities: [{', '.join(capabilities)}]\n{more}", "/home/none")


class Bench:
    def __init__(self, current: Rules, *stored: Rules) -> None:
        self.audited: list[AuditRecord] = []
        self.asked_for: list[str] = []
        self._stored = {one.version: one for one in stored}
        self.engine = PolicyEngine(current, audit=self.audited.append, clock=FixedClock(), load_version=self._load)

    def _load(self, version: str) -> Rules | None:
        self.asked_for.append(version)
        return self._stored.get(version)


MUTATE = Access("client", "acp.mutate")
READ = Access("client", "acp.read")


@pytest.mark.spec("GC-SEC-106")
@pytest.mark.parametrize(
    ("pinned", "current", "expected"),
    [
        (["acp.mutate"], ["acp.mutate", "acp.read"], Verdict.ALLOW),
        (["acp.mutate"], [], Verdict.DENY),
        ([], ["acp.mutate"], Verdict.DENY),
        (["acp.mutate"], "ask", Verdict.ASK),
        ("ask", ["acp.mutate"], Verdict.ASK),
        ("ask", [], Verdict.DENY),
        ([], "ask", Verdict.DENY),
    ],
)
def test_the_stricter_of_pinned_and_current_holds_and_both_are_named(
    pinned: list[str] | str, current: list[str] | str, expected: Verdict
) -> None:
    def make(of: list[str] | str) -> Rules:
        return rules("acp.mutate", more="approvals: {acp.mutate: ask}") if isinstance(of, str) else rules(*of)

    earlier, now = make(pinned), make(current)
    bench = Bench(earlier)
    bench.engine.adopt(now)
    decision = bench.engine.authorize(MUTATE, pinned=earlier.version)
    assert decision.verdict is expected
    assert (decision.policy_version, decision.pinned_version) == (now.version, earlier.version)


def test_a_version_no_longer_in_memory_is_asked_for_once() -> None:
    old = rules("acp.read")
    bench = Bench(rules("acp.read", "acp.mutate"), old)
    for _ in range(2):
        decision = bench.engine.authorize(MUTATE, pinned=old.version)
        assert decision.verdict is Verdict.DENY
        assert "pinned when the task started" in decision.reason
    assert bench.asked_for == [old.version]


def test_a_version_nobody_knows_leaves_the_current_one_to_decide_and_says_so() -> None:
    bench = Bench(rules("acp.mutate"))
    decision = bench.engine.authorize(MUTATE, pinned="f" * 64)
    assert decision.allowed
    assert "version ffffffffffff is not known any more" in decision.reason
    assert decision.pinned_version == "f" * 64


def test_the_versions_kept_in_memory_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "KEPT_VERSIONS", 2)
    first, second, third = rules("acp.read"), rules("acp.mutate"), rules("tools.cron")
    bench = Bench(first)
    bench.engine.adopt(second)
    bench.engine.adopt(third)
    bench.engine.peek(READ, pinned=second.version)
    assert bench.asked_for == []
    bench.engine.peek(READ, pinned=first.version)
    assert bench.asked_for == [first.version]


@pytest.mark.spec("GC-SEC-107")
def test_denials_and_allowed_changes_are_audited_and_allowed_reading_is_not() -> None:
    bench = Bench(rules("acp.mutate", "acp.read"))
    bench.engine.authorize(READ, task_id="t")
    assert bench.audited == []
    bench.engine.authorize(MUTATE, task_id="t")
    bench.engine.authorize(Access("agent:a", "tools.exec", "/bin/ls", ("ls",)), pinned="p" * 64)
    allowed, denied = bench.audited
    assert (allowed.verdict, allowed.task_id, allowed.at) == (Verdict.ALLOW, "t", 1_700_000_000_000)
    assert (denied.verdict, denied.argv, denied.resource) == (Verdict.DENY, ("ls",), "/bin/ls")
    assert denied.policy_version == bench.engine.version
    assert denied.pinned_version == "p" * 64


def test_a_denied_reading_is_audited() -> None:
    bench = Bench(rules())
    bench.engine.authorize(READ)
    assert [record.verdict for record in bench.audited] == [Verdict.DENY]


def test_peeking_and_offering_leave_no_trace() -> None:
    bench = Bench(rules("acp.mutate", "tools.exec", more="approvals: {tools.exec: ask}\ntools: {deny: [rm_*]}"))
    assert bench.engine.peek(MUTATE).allowed
    assert not bench.engine.peek(READ).allowed
    assert bench.engine.offers("agent:a", "tools.exec", "exec")
    assert not bench.engine.offers("agent:a", "tools.exec", "rm_all")
    assert not bench.engine.offers("agent:a", "tools.shell")
    assert bench.audited == []


def test_an_effect_must_be_believed_by_both_versions() -> None:
    pure = rules("tools.exec", more="exec: {allow: [{argv: date, effect: pure}]}")
    plain = rules("tools.exec", more="exec: {allow: [date]}")
    access = Access("agent:a", "tools.exec", "/bin/date", ("date",), argv_paths=("/bin/date",))
    bench = Bench(pure)
    assert bench.engine.believes(access, Effect.PURE)
    bench.engine.adopt(plain)
    assert not bench.engine.believes(access, Effect.PURE, pinned=pure.version)
    bench.engine.adopt(pure)
    assert not bench.engine.believes(access, Effect.PURE, pinned=plain.version)
