"""read_file and list_directory show what is inside and nothing else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from goclaw.errors import ToolFailed
from goclaw.tools import files

if TYPE_CHECKING:
    from tests.unit.tools.conftest import House


async def test_lines_come_with_their_numbers(house: House) -> None:
    house.write("a.txt", "one\ntwo\r\nthree")
    output = await house.call("read_file", file_path="a.txt")
    assert output.text == "     1\tone\n     2\ttwo\n     3\tthree"
    assert output.data == {"path": str(house.folder / "a.txt"), "first_line": 1, "lines": 3, "more": False}


async def test_offset_and_limit_choose_lines_and_the_rest_is_named(house: House) -> None:
    house.write("a.txt", "".join(f"line {n}\n" for n in range(1, 11)))
    output = await house.call("read_file", file_path="a.txt", offset=3, limit=2)
    assert output.text.splitlines() == [
        "     3\tline 3",
        "     4\tline 4",
        "[... more lines follow; continue with offset 5 ...]",
    ]
    last = await house.call("read_file", file_path="a.txt", offset=9, limit=2)
    assert last.data["more"] is False


async def test_a_long_line_is_cut_and_the_next_one_keeps_its_number(house: House) -> None:
    house.write("a.txt", "x" * 100_000 + "\nnext\n")
    output = await house.call("read_file", file_path="a.txt")
    first, second = output.text.splitlines()
    assert first == f"     1\t{'x' * 2000} [... line cut ...]"
    assert second == "     2\tnext"


async def test_an_empty_file_and_a_line_beyond_the_end_are_said_in_words(house: House) -> None:
    house.write("empty", "")
    house.write("one", "x\n")
    assert (await house.call("read_file", file_path="empty")).text.endswith("is empty")
    assert (await house.call("read_file", file_path="one", offset=5)).text.endswith("has no line 5")


async def test_broken_utf8_is_shown_and_binary_files_are_not(house: House) -> None:
    house.write("latin", b"caf\xe9\n")
    house.write("binary", b"\x7fELF\0\0")
    assert (await house.call("read_file", file_path="latin")).text == "     1\tcaf\ufffd"
    output = await house.call("read_file", file_path="binary")
    assert (output.is_error, output.code) == (True, "TOOL_FAILED")
    assert "not text" in output.text


async def test_a_file_that_is_too_large_is_refused(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 3)
    house.write("a.txt", "four")
    assert "takes up to 3" in (await house.call("read_file", file_path="a.txt")).text


async def test_what_is_missing_or_no_file_is_an_error(house: House) -> None:
    os.mkfifo(house.folder / "pipe")
    assert "does not exist" in (await house.call("read_file", file_path="none.txt")).text
    assert "not a regular file" in (await house.call("read_file", file_path=".")).text
    assert "not a regular file" in (await house.call("read_file", file_path="pipe")).text
    assert "cannot be opened" in (await house.call("list_directory", path="pipe")).text


@pytest.mark.spec("GC-SEC-111")
@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "sub/../../secret", "link", "folder/secret", "~/x"])
async def test_nothing_outside_is_read_by_any_spelling_or_link(house: House, name: str) -> None:
    (house.home / "secret").write_text("classified")
    (house.folder / "sub").mkdir()
    (house.folder / "link").symlink_to(house.home / "secret")
    (house.folder / "folder").symlink_to(house.home)
    output = await house.call("read_file", file_path=name)
    assert output.code == "POLICY_DENIED"
    assert "classified" not in output.text


async def test_a_link_to_an_allowed_file_is_followed(house: House) -> None:
    (house.folder / "link").symlink_to(house.write("a.txt", "hello"))
    assert (await house.call("read_file", file_path="link")).text == "     1\thello"


@pytest.mark.spec("GC-SEC-112")
async def test_a_file_swapped_for_a_link_after_the_check_is_not_followed(house: House) -> None:
    secret = house.home / "secret"
    secret.write_text("classified")
    path = house.write("a.txt", "harmless")
    tool = house.tools["read_file"]
    accesses = await tool.accesses({"file_path": "a.txt"}, house.context())
    path.unlink()
    path.symlink_to(secret)
    with pytest.raises(ToolFailed, match="cannot be opened"):
        await tool.run({"file_path": "a.txt"}, house.context(granted=tuple(accesses)))


async def test_a_folder_swapped_for_a_link_after_the_check_is_not_followed(house: House) -> None:
    (house.home / "outside").mkdir()
    (house.home / "outside" / "a.txt").write_text("classified")
    house.write("sub/a.txt", "harmless")
    tool = house.tools["read_file"]
    accesses = await tool.accesses({"file_path": "sub/a.txt"}, house.context())
    (house.folder / "sub").rename(house.folder / "old")
    (house.folder / "sub").symlink_to(house.home / "outside")
    with pytest.raises(ToolFailed, match="cannot be opened"):
        await tool.run({"file_path": "sub/a.txt"}, house.context(granted=tuple(accesses)))


async def test_a_folder_is_listed_sorted_with_kinds_and_sizes(house: House) -> None:
    house.write("b.txt", "12345")
    house.write("sub/x", "")
    (house.folder / "link").symlink_to("b.txt")
    output = await house.call("list_directory")
    assert output.text.splitlines() == ["b.txt (5)", "link@", "sub/"]
    assert (await house.call("list_directory", path="sub")).text == "x (0)"


async def test_a_large_folder_is_cut_and_an_empty_one_said(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_ENTRIES", 2)
    assert (await house.call("list_directory")).text == ". is empty"
    for name in "abc":
        house.write(name, "")
    assert (await house.call("list_directory")).text.splitlines()[-1].startswith("[... 1 more entries")


async def test_the_daemons_own_files_are_not_even_listed(house: House) -> None:
    house.policy("allow_capabilities: [tools.read_file]\nallow_paths: ['.']")
    (house.home / "auth.token").write_text("t")
    (house.home / "goclaw.db").write_text("t")
    assert (await house.call("list_directory", path=str(house.home))).text == "workspace/"


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 5_000])
async def test_what_can_name_no_file_is_a_bad_argument(house: House, name: str) -> None:
    assert (await house.call("read_file", file_path=name)).code == "BAD_ARGUMENTS"


async def test_a_tool_called_past_the_gate_does_nothing(house: House) -> None:
    house.write("a.txt", "x")
    with pytest.raises(ToolFailed, match="did not come through the gate"):
        await house.tools["read_file"].run({"file_path": "a.txt"}, house.context())


def test_the_names_shown_are_short_inside_the_workspace(house: House) -> None:
    assert house.workspace.show(str(house.folder / "a" / "b")) == "a/b"
    assert house.workspace.show(str(Path("/etc/passwd"))) == "/etc/passwd"
