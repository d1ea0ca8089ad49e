"""A damaged database is refused, found behind a start, and remembered."""

from __future__ import annotations

from pathlib import Path

import pytest

from goclaw.config.home import Home
from goclaw.daemon.ending import reason
from goclaw.daemon.wholeness import BackgroundCheck, inspect, remember
from goclaw.errors import StoreCorrupt, StoreDamaged, StoreFull
from goclaw.store import integrity
from goclaw.store.integrity import Found
from tests.unit.store.test_integrity import contents, filled, hurt

DUE = Found(clean=False, damage=None, checked=False)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    filled(tmp_path / "goclaw.db")
    return Home(tmp_path)


@pytest.mark.spec("GC-REL-206")
def test_a_damaged_database_is_refused_with_a_guide_and_without_a_change(home: Home) -> None:
    hurt(home.database)
    before = contents(home.root)
    with pytest.raises(StoreCorrupt, match="goclaw backup restore") as refused:
        inspect(home)
    assert refused.value.code == "E_STORE_CORRUPT"
    assert contents(home.root) == before


@pytest.mark.spec("GC-REL-209")
def test_what_was_found_broken_is_looked_at_wholly_by_the_next_start(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(integrity, "CHECKED_AT_ONCE_BYTES", 0)
    whole = home.database.read_bytes()
    hurt(home.database)
    assert inspect(home) == DUE, "too large to be looked at"
    remember(home, StoreDamaged())
    with pytest.raises(StoreCorrupt):
        inspect(home)
    assert home.damage_note.exists()
    home.database.write_bytes(whole)
    assert inspect(home).damage is None
    assert not home.damage_note.exists(), "somebody has put a whole one there"


@pytest.mark.spec("GC-REL-207")
async def test_the_rest_of_a_check_is_done_behind_the_start(home: Home) -> None:
    found: list[StoreDamaged] = []
    check = BackgroundCheck(home.database, DUE, found.append)
    assert check.state == "checking"
    await check.run()
    assert (check.state, found) == ("checked", [])
    hurt(home.database)
    await BackgroundCheck(home.database, DUE, found.append).run()
    assert [one.code for one in found] == ["E_STORE_CORRUPT"]
    assert "goclaw backup restore" in found[0].message


@pytest.mark.spec("GC-REL-207")
async def test_what_was_checked_before_the_start_is_not_checked_again(home: Home) -> None:
    hurt(home.database)
    found: list[StoreDamaged] = []
    for clean, state in ((True, "clean"), (False, "checked")):
        check = BackgroundCheck(home.database, Found(clean=clean, damage=None, checked=True), found.append)
        await check.run()
        assert (check.state, found) == (state, [])


def test_of_all_that_failed_the_error_of_ours_is_the_reason() -> None:
    full, other = StoreFull(), ValueError()
    assert reason(ExceptionGroup("parts", [other, ExceptionGroup("inner", [full])])) is full
    only = ExceptionGroup("parts", [other])
    assert reason(only) is only
