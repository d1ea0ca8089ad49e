"""Saving policy.yaml puts it in force; whatever goes wrong closes or keeps, and never opens."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from goclaw.clock import SystemClock
from goclaw.core.access import Access, Verdict
from goclaw.errors import PolicyInvalid
from goclaw.policy import live as live_module
from goclaw.policy.engine import AuditRecord, PolicyEngine
from goclaw.policy.live import LivePolicy, load, write_starter
from goclaw.policy.rules import Rules, deny_all, parse

GOOD = "allow_capabilities: [acp.read]"
BETTER = "allow_capabilities: [acp.read, acp.mutate]"
READ = Access("client", "acp.read")
MUTATE = Access("client", "acp.mutate")


class Bench:
    """A home with a policy, and everything the live policy tells."""

    def __init__(self, home: Path, text: str = GOOD) -> None:
        self.home = home
        self.path = home / "policy.yaml"
        self.path.write_text(text)
        self.audited: list[AuditRecord] = []
        self.recorded: list[Rules] = []
        self.events: list[tuple[str, Mapping[str, Any]]] = []
        self.told = asyncio.Event()
        self.engine = PolicyEngine(
            parse(text, str(home)),
            audit=self.audited.append,
            clock=SystemClock(),
            load_version=lambda version: None,
        )
        self.live = LivePolicy(self.path, home, engine=self.engine, emit=self._emit, record=self.recorded.append)

    def _emit(
        self,
        event_type: str,
        payload: Mapping[str, Any],
        *,
        task_id: str | None = None,
        session_id: str | None = None,
    ) -> None:
        self.events.append((event_type, payload))
        self.told.set()

    def allows(self, access: Access) -> bool:
        return self.engine.peek(access).allowed

    @property
    def denies_all(self) -> bool:
        return self.engine.version == deny_all(str(self.home)).version


@pytest.fixture
async def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_the_starter_is_written_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    assert write_starter(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load(path, tmp_path).alert is None
    path.write_text(GOOD)
    assert not write_starter(path)
    assert path.read_text() == GOOD


@pytest.mark.spec("GC-SEC-108")
def test_a_missing_file_denies_everything_at_start_with_an_alert(tmp_path: Path) -> None:
    loaded = load(tmp_path / "policy.yaml", tmp_path)
    assert loaded.rules.version == deny_all(str(tmp_path)).version
    assert loaded.alert == "policy.yaml is missing: everything is denied"


def test_what_is_no_regular_file_denies_everything_at_start(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "pipe"):
        loaded = load(tmp_path / name, tmp_path)
        assert loaded.alert is not None
        assert loaded.rules.version == deny_all(str(tmp_path)).version


def test_a_mistake_at_start_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text("allow_pathes: []")
    with pytest.raises(PolicyInvalid, match="allow_paths"):
        load(tmp_path / "policy.yaml", tmp_path)


async def test_a_start_with_everything_denied_is_told(bench: Bench) -> None:
    bench.path.unlink()
    bench.live.announce(load(bench.path, bench.home))
    assert [event for event, _ in bench.events] == ["policy.reload_failed"]
    assert [record.capability for record in bench.audited] == ["policy.change"]


async def test_an_ordinary_start_records_its_version_and_tells_nothing(bench: Bench) -> None:
    bench.live.announce(load(bench.path, bench.home))
    assert [rules.version for rules in bench.recorded] == [bench.engine.version]
    assert not bench.events
    assert not bench.audited


async def test_a_good_file_is_put_in_force_and_told(bench: Bench) -> None:
    bench.path.write_text(BETTER)
    await bench.live.reload()
    assert bench.allows(MUTATE)
    assert bench.events == [("policy.reloaded", {"version": bench.engine.version})]
    assert [rules.version for rules in bench.recorded] == [bench.engine.version]


async def test_the_same_rules_again_change_and_tell_nothing(bench: Bench) -> None:
    bench.path.write_text(GOOD + "\n# a remark\n")
    await bench.live.reload()
    assert not bench.events
    assert not bench.recorded


@pytest.mark.spec("GC-SEC-109")
@pytest.mark.parametrize("bad", ["", "nonsense: 1", "a: [", "allow_capabilities: [acp.rea", "\xff\xfe"])
async def test_a_bad_file_keeps_the_last_good_rules_with_an_alert_and_an_audit_row(bench: Bench, bad: str) -> None:
    version = bench.engine.version
    bench.path.write_bytes(bad.encode("latin-1"))
    await bench.live.reload()
    assert bench.engine.version == version
    ((event, payload),) = bench.events
    assert (event, payload["version"], payload["denies_all"]) == ("policy.reload_failed", version, False)
    (row,) = bench.audited
    assert (row.verdict, row.capability, row.reason) == (Verdict.DENY, "policy.change", payload["reason"])


async def test_a_bad_file_denies_all_where_the_last_good_one_asked_for_that(tmp_path: Path) -> None:
    bench = Bench(tmp_path, GOOD + "\non_invalid: deny")
    for bad in ("nonsense: 1", "worse: 2"):
        bench.path.write_text(bad)
        await bench.live.reload()
        assert bench.denies_all
    assert [payload["denies_all"] for _, payload in bench.events] == [True, True]


@pytest.mark.spec("GC-SEC-110")
async def test_a_deleted_file_denies_all_and_a_bad_one_after_it_opens_nothing(bench: Bench) -> None:
    bench.path.unlink()
    await bench.live.reload()
    assert bench.denies_all
    bench.path.write_text("nonsense: 1")
    await bench.live.reload()
    assert bench.denies_all
    bench.path.write_text(GOOD)
    await bench.live.reload()
    assert bench.allows(READ)
    assert [event for event, _ in bench.events] == ["policy.reload_failed"] * 2 + ["policy.reloaded"]


async def test_a_file_that_cannot_be_read_denies_all(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, home: Path) -> Rules:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(live_module, "_read", refuse)
    await bench.live.reload()
    assert bench.denies_all
    assert "Permission denied" in bench.events[0][1]["reason"]


async def test_an_error_nobody_thought_of_keeps_the_last_good_rules(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(path: Path, home: Path) -> Rules:
        raise ZeroDivisionError

    monkeypatch.setattr(live_module, "_read", crash)
    await bench.live.reload()
    assert bench.allows(READ)
    assert "ZeroDivisionError" in bench.events[0][1]["reason"]


async def test_one_trouble_is_told_once_and_its_end_too(bench: Bench) -> None:
    bench.path.write_text("nonsense: 1")
    await bench.live.reload()
    await bench.live.reload()
    bench.path.write_text(GOOD)
    await bench.live.reload()
    assert [event for event, _ in bench.events] == ["policy.reload_failed", "policy.reloaded"]


@asynccontextmanager
async def running(bench: Bench) -> AsyncIterator[None]:
    task = asyncio.create_task(bench.live.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.spec("GC-SEC-125")
@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux")
async def test_a_save_by_renaming_is_in_force_without_anybody_asking(bench: Bench) -> None:
    async with running(bench), asyncio.timeout(5):
        (bench.home / ".swap").write_text(BETTER)
        (bench.home / ".swap").rename(bench.path)
        await bench.told.wait()
        assert bench.allows(MUTATE)
        bench.told.clear()
        bench.path.unlink()
        await bench.told.wait()
        assert bench.denies_all
        bench.told.clear()
        bench.path.write_text(GOOD)
        while not bench.allows(READ):
            await bench.told.wait()
            bench.told.clear()
