"""write_file and edit_file replace a whole file or nothing, and a probe can tell which."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any

import pytest

from goclaw.core.step import Effect
from goclaw.core.tool import CannotTell, DidNotHappen, Happened
from goclaw.errors import ToolFailed
from goclaw.tools import edit

if TYPE_CHECKING:
    from tests.unit.tools.conftest import House


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


async def test_a_file_is_created_with_its_folders_and_then_replaced(house: House) -> None:
    output = await house.call("write_file", file_path="deep/er/a.txt", content="hello\n")
    assert output.text == "deep/er/a.txt: created, 6 bytes"
    assert output.data == {"path": str(house.folder / "deep/er/a.txt"), "sha256": sha256("hello\n")}
    assert (await house.call("write_file", file_path="deep/er/a.txt", content="x")).text.endswith("replaced, 1 bytes")
    assert (house.folder / "deep/er/a.txt").read_text() == "x"
    assert os.listdir(house.folder / "deep/er") == ["a.txt"]


async def test_the_mode_of_a_replaced_file_stays(house: House) -> None:
    path = house.write("run.sh", "old")
    path.chmod(0o750)
    await house.call("write_file", file_path="run.sh", content="new")
    assert path.stat().st_mode & 0o7777 == 0o750


async def test_an_edit_replaces_the_one_occurrence_and_keeps_the_other_bytes(house: House) -> None:
    path = house.write("a.txt", b"one\r\ntwo\r\n\xff")
    assert (
        await house.call("edit_file", file_path="a.txt", old_string="two", new_string="2")
    ).text == "a.txt: 1 replaced"
    assert path.read_bytes() == b"one\r\n2\r\n\xff"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [("absent", "x", "does not occur"), ("a", "x", "occurs 3 times"), ("b", "b", "are the same")],
)
async def test_an_edit_that_is_not_clear_changes_nothing(house: House, old: str, new: str, told: str) -> None:
    path = house.write("a.txt", "a a a b")
    output = await house.call("edit_file", file_path="a.txt", old_string=old, new_string=new)
    assert output.is_error
    assert told in output.text
    assert path.read_text() == "a a a b"


async def test_replace_all_replaces_all(house: House) -> None:
    path = house.write("a.txt", "a a a b")
    await house.call("edit_file", file_path="a.txt", old_string="a", new_string="x", replace_all=True)
    assert path.read_text() == "x x x b"


async def test_an_edit_of_a_missing_file_is_an_error(house: House) -> None:
    output = await house.call("edit_file", file_path="no/a.txt", old_string="a", new_string="b")
    assert "does not exist" in output.text


@pytest.mark.spec("GC-SEC-113")
@pytest.mark.parametrize("name", ["../a.txt", "/etc/goclaw-test", "link", "folder/new.txt", "../policy.yaml"])
async def test_nothing_outside_is_written(house: House, name: str) -> None:
    outside = house.home / "outside"
    outside.mkdir()
    (outside / "a.txt").write_text("old")
    (house.folder / "link").symlink_to(outside / "a.txt")
    (house.folder / "folder").symlink_to(outside)
    assert (await house.call("write_file", file_path=name, content="new")).code == "POLICY_DENIED"
    assert (outside / "a.txt").read_text() == "old"
    assert os.listdir(outside) == ["a.txt"]


@pytest.mark.spec("GC-SEC-112")
async def test_a_file_swapped_for_a_link_after_the_check_is_not_written(house: House) -> None:
    secret = house.home / "secret"
    secret.write_text("old")
    path = house.write("a.txt", "harmless")
    tool = house.tools["write_file"]
    arguments = {"file_path": "a.txt", "content": "new"}
    accesses = await tool.accesses(arguments, house.context())
    path.unlink()
    path.symlink_to(secret)
    with pytest.raises(ToolFailed, match="not a regular file"):
        await tool.run(arguments, house.context(granted=tuple(accesses)))
    assert secret.read_text() == "old"


async def test_a_file_with_a_second_name_elsewhere_is_not_written(house: House) -> None:
    secret = house.home / "secret"
    secret.write_text("old")
    os.link(secret, house.folder / "a.txt")
    output = await house.call("write_file", file_path="a.txt", content="new")
    assert "2 names (hard links)" in output.text
    assert secret.read_text() == "old"


async def test_a_folder_and_too_much_are_refused(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    (house.folder / "sub").mkdir()
    assert "not a regular file" in (await house.call("write_file", file_path="sub", content="x")).text
    monkeypatch.setattr(edit, "MAX_BYTES", 3)
    assert "larger than 3" in (await house.call("write_file", file_path="a.txt", content="four")).text
    assert os.listdir(house.folder) == ["sub"]


async def test_a_failed_write_leaves_the_old_file_and_no_rubbish(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    path = house.write("a.txt", "old")

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    output = await house.call("write_file", file_path="a.txt", content="new")
    assert "No space left" in output.text
    assert path.read_text() == "old"
    assert os.listdir(house.folder) == ["a.txt"]


async def test_what_an_interrupted_write_left_is_taken_away_by_the_next_one(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = await house.ready("write_file", {"file_path": "a.txt", "content": "new"})
    left = f".goclaw-{hashlib.sha256(ready.context.effect_key.encode()).hexdigest()[:16]}.tmp"
    house.write(left, "half")
    assert not (await house.gate.run(ready)).is_error
    assert os.listdir(house.folder) == ["a.txt"]


WRITE = ("write_file", {"file_path": "a.txt", "content": "new"}, "new")
EDIT = ("edit_file", {"file_path": "a.txt", "old_string": "old", "new_string": "new"}, "new")


@pytest.mark.spec("GC-SEC-114")
@pytest.mark.parametrize(("tool", "arguments", "after"), [WRITE, EDIT])
async def test_a_probe_tells_done_from_not_done(house: House, tool: str, arguments: dict[str, Any], after: str) -> None:
    path = house.write("a.txt", "old")
    ready = await house.ready(tool, arguments)
    assert ready.effect is Effect.VERIFIABLE
    evidence = await house.gate.evidence(ready)
    assert evidence == {"path": str(path), "pre_sha256": sha256("old"), "post_sha256": sha256(after)}
    assert await house.gate.probe(ready, evidence) == DidNotHappen()
    await house.gate.run(ready)
    probed = await house.gate.probe(ready, evidence)
    assert isinstance(probed, Happened)
    assert probed.output.data == {"path": str(path), "sha256": sha256(after)}
    path.write_text("somebody else")
    assert isinstance(await house.gate.probe(ready, evidence), CannotTell)


async def test_a_probe_of_a_new_file_tells_too(house: House) -> None:
    ready = await house.ready("write_file", {"file_path": "new/a.txt", "content": "x"})
    evidence = await house.gate.evidence(ready)
    assert evidence["pre_sha256"] is None
    assert await house.gate.probe(ready, evidence) == DidNotHappen()
    await house.gate.run(ready)
    assert isinstance(await house.gate.probe(ready, evidence), Happened)


async def test_an_edit_that_will_be_refused_has_no_hash_afterwards_and_may_run_again(house: House) -> None:
    house.write("a.txt", "nothing fits")
    ready = await house.ready("edit_file", EDIT[1])
    evidence = await house.gate.evidence(ready)
    assert evidence["post_sha256"] is None
    assert await house.gate.probe(ready, evidence) == DidNotHappen()


@pytest.mark.parametrize("evidence", [None, {}, {"path": "/elsewhere"}, "x"])
async def test_a_probe_without_evidence_cannot_tell(house: House, evidence: Any) -> None:
    ready = await house.ready("write_file", WRITE[1])
    assert isinstance(await house.gate.probe(ready, evidence), CannotTell)
