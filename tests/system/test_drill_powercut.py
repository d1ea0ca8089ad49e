"""The short form of the power drill, the proof that it can fail, and the rules of its disk."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system import drill_powercut
from tests.system.drills import books
from tests.system.drills.command import Bounds
from tests.system.drills.disk import Disk
from tests.system.drills.layer import Files, Layer, NoCompiler, build
from tests.system.drills.short import assert_no_fault, need_layer
from tests.system.drills.work import READY


@pytest.mark.slow
@pytest.mark.spec("GC-REL-111")
def test_power_cuts_under_load_lose_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    need_layer()
    verdict = drill_powercut.drill(tmp_path, Bounds(rounds=6, seconds=25, seed=11))
    assert_no_fault(verdict)
    assert verdict.facts["unsynced bytes dropped"] > 0


@pytest.mark.slow
@pytest.mark.spec("GC-REL-117")
def test_a_power_cut_in_the_first_start_leaves_a_home_that_starts_and_serves(tmp_path: Path) -> None:
    need_layer()
    verdict = drill_powercut.first_starts(tmp_path, Bounds(rounds=5, seconds=15, seed=12))
    assert verdict.found == {}, verdict.table()
    assert verdict.durations[READY], verdict.table()


@pytest.mark.slow
@pytest.mark.spec("GC-REL-111")
def test_the_power_drill_finds_what_synchronous_normal_loses(tmp_path: Path) -> None:
    need_layer()
    verdict = drill_powercut.drill(tmp_path, Bounds(rounds=3, seconds=20, seed=12), weaken="normal")
    assert verdict.faults[books.LOST], verdict.table()
    assert not verdict.faults[drill_powercut.UNSEEN], verdict.table()


def cut(folder: Path, program: str, *, mode: str = "synced", lenient: bool = False, deaf: bool = False) -> Path:
    """What a disk holds after a program wrote to it, was killed and the power went."""
    need_layer()
    home = folder / "home"
    home.mkdir()
    (home / "old").write_bytes(b"old")
    layer = Layer(folder, home)
    if deaf:
        layer.ignore_syncs(Files.OTHER)
    disk = Disk(home)
    text = f"import os\nos.chdir({str(home)!r})\nhome = os.getcwd() + '/'\n{program}\nos.kill(os.getpid(), 9)\n"
    subprocess.run([sys.executable, "-c", text], env=layer.env(recording=True), check=False)
    disk.replay(layer.record, lenient=lenient)
    assert disk.unseen() == []
    disk.cut(random.Random(1), mode)  # noqa: S311 (a drill must be repeatable)
    return home


SYNCED = "f = os.open(home + 'new', os.O_CREAT | os.O_RDWR); os.write(f, b'first'); os.fsync(f); os.write(f, b'last')"
FOLDER = "os.fsync(os.open(home, os.O_RDONLY | os.O_DIRECTORY))"


def test_a_cut_drops_what_was_written_since_the_last_sync(tmp_path: Path) -> None:
    home = cut(tmp_path, f"{SYNCED}; {FOLDER}")
    assert (home / "new").read_bytes() == b"first"


def test_a_cut_drops_a_new_name_unless_its_folder_was_synced(tmp_path: Path) -> None:
    assert not (cut(tmp_path, SYNCED) / "new").exists()


def test_on_a_lenient_disk_the_sync_of_a_new_file_holds_its_name(tmp_path: Path) -> None:
    assert (cut(tmp_path, SYNCED, lenient=True) / "new").read_bytes() == b"first"


def test_a_cut_takes_back_a_rename_that_was_not_synced(tmp_path: Path) -> None:
    home = cut(tmp_path, f"{SYNCED}; os.rename(home + 'new', home + 'old')")
    assert (home / "old").read_bytes() == b"old"


def test_a_renamed_file_is_there_with_what_was_synced_once_its_folder_is(tmp_path: Path) -> None:
    home = cut(tmp_path, f"{SYNCED}; os.rename(home + 'new', home + 'old'); {FOLDER}")
    assert (home / "old").read_bytes() == b"first"
    assert not (home / "new").exists()


def test_a_cut_takes_back_a_removal_that_was_not_synced(tmp_path: Path) -> None:
    assert (cut(tmp_path, "os.unlink(home + 'old')") / "old").read_bytes() == b"old"


def test_a_disk_that_lies_about_syncs_holds_nothing(tmp_path: Path) -> None:
    assert not (cut(tmp_path, f"{SYNCED}; {FOLDER}", deaf=True) / "new").exists()


def test_a_scrambling_cut_keeps_parts_of_unsynced_writes_whole_by_sectors(tmp_path: Path) -> None:
    write = "f = os.open(home + 'old', os.O_RDWR); os.pwrite(f, b'a' * 65536, 0)"
    body = (cut(tmp_path, write, mode="scrambled") / "old").read_bytes()
    sectors = {body[at : at + 512] for at in range(0, len(body), 512)}
    assert sectors <= {b"a" * 512, bytes(512), b"old" + bytes(509)}
    assert b"a" * 512 in sectors
    assert sectors != {b"a" * 512}


def test_without_a_compiler_a_drill_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(NoCompiler, match="apt install gcc libc6-dev"):
        build.__wrapped__()
