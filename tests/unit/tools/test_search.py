"""glob and grep find what is inside, in bounded time."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from goclaw.tools import scan, search

if TYPE_CHECKING:
    from tests.unit.tools.conftest import House


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("*.py", ["a.py", "x/y/a.py"], ["a.pyc", "a.py/x"]),
        ("src/*.py", ["src/a.py"], ["a.py", "src/x/a.py", "x/src/a.py"]),
        ("src/**/*.py", ["src/a.py", "src/x/y/a.py"], ["a.py"]),
        ("**/**/a", ["a", "x/a", "x/y/a"], ["ba"]),
        ("src/**", ["src/a", "src/x/y"], ["src"]),
        ("a?c", ["abc"], ["ac", "a/c"]),
        ("*.{ts,tsx}", ["a.ts", "b/a.tsx"], ["a.js"]),
        ("[a-c]x", ["ax", "d/bx"], ["dx"]),
        ("[!a-c]x", ["dx"], ["ax"]),
        ("a.b+c", ["a.b+c"], ["axb+c"]),
        ("a}b", ["a}b"], ["ab"]),
        ("[x", ["[x"], ["x"]),
    ],
)
def test_globs_mean_what_people_expect(pattern: str, matching: list[str], other: list[str]) -> None:
    compiled = scan.translate(pattern)
    assert [path for path in matching + other if compiled.match(path)] == matching


@pytest.mark.parametrize("pattern", ["{a", "[z-a]"])
async def test_a_broken_glob_is_a_bad_argument(house: House, pattern: str) -> None:
    assert (await house.call("glob", pattern=pattern)).code == "BAD_ARGUMENTS"
    assert (await house.call("grep", pattern="x", glob=pattern)).code == "BAD_ARGUMENTS"


async def test_glob_finds_files_the_newest_first(house: House) -> None:
    for age, name in enumerate(["b.py", "sub/a.py", "c.txt", ".git/x.py"]):
        os.utime(house.write(name, "x"), (1_000 - age, 1_000 - age))
    output = await house.call("glob", pattern="**/*.py")
    assert output.text.splitlines() == ["b.py", "sub/a.py"]
    assert (await house.call("glob", pattern="*.py", path="sub")).text == "sub/a.py"
    assert (await house.call("glob", pattern="*.rs")).text == "no file matches"


async def test_glob_says_how_much_it_left_out(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MAX_FOUND", 1)
    for name in "abc":
        house.write(name, "x")
    assert (await house.call("glob", pattern="*")).text.splitlines()[1].startswith("[... 2 more files")


async def test_grep_lists_files_by_default(house: House) -> None:
    house.write("a.txt", "needle\n")
    house.write("sub/b.txt", "a needle here\n")
    house.write("c.txt", "hay\n")
    assert (await house.call("grep", pattern="need.e")).text.splitlines() == ["a.txt", "sub/b.txt"]
    assert (await house.call("grep", pattern="gold")).text == "nothing matches"


async def test_grep_shows_lines_with_numbers_and_context(house: House) -> None:
    house.write("a.txt", "1\n2\nX\n4\n5\n6\nX\n8\n")
    output = await house.call("grep", pattern="X", output_mode="content", **{"-B": 1, "-A": 1})
    assert output.text.splitlines() == [
        "a.txt-2-2",
        "a.txt:3:X",
        "a.txt-4-4",
        "--",
        "a.txt-6-6",
        "a.txt:7:X",
        "a.txt-8-8",
    ]
    plain = await house.call("grep", pattern="X", output_mode="content", **{"-n": False})
    assert plain.text.splitlines() == ["a.txt:X", "--", "a.txt:X"]


async def test_grep_counts_ignores_case_and_filters_by_glob(house: House) -> None:
    house.write("a.txt", "x\nX\n")
    house.write("b.md", "x\n")
    output = await house.call("grep", pattern="x", output_mode="count", glob="*.txt", **{"-i": True})
    assert output.text == "a.txt:2"


async def test_grep_of_one_file_looks_at_that_file(house: House) -> None:
    house.write("a.txt", "x\n")
    house.write("b.txt", "x\n")
    assert (await house.call("grep", pattern="x", path="b.txt")).text == "b.txt"


async def test_grep_stops_at_the_limit_and_says_so(house: House) -> None:
    for name in "abc":
        house.write(name, "x\nx\n")
    files = await house.call("grep", pattern="x", head_limit=2)
    assert files.text.splitlines()[:2] == ["a", "b"]
    assert files.data["cut"] is True
    lines = await house.call("grep", pattern="x", output_mode="content", head_limit=3)
    assert lines.text.splitlines()[:3] == ["a:1:x", "a:2:x", "b:1:x"]
    assert lines.data["cut"] is True


async def test_grep_skips_binary_files_links_and_git(house: House) -> None:
    (house.home / "secret").write_text("needle")
    house.write("binary", b"\0needle")
    house.write(".git/config", "needle")
    (house.folder / "link").symlink_to(house.home / "secret")
    (house.folder / "folder").symlink_to(house.home)
    assert (await house.call("grep", pattern="needle")).text == "nothing matches"


@pytest.mark.parametrize("tool", ["glob", "grep"])
async def test_the_daemons_own_files_are_never_looked_at(house: House, tool: str) -> None:
    house.policy("allow_capabilities: [tools.read_file]\nallow_paths: ['..']")
    (house.home / "auth.token").write_text("needle")
    (house.home / "secrets").mkdir()
    (house.home / "secrets" / "key").write_text("needle")
    house.write("auth.token", "needle")
    for path in (str(house.home), str(house.home.parent)):
        arguments = {"pattern": "needle" if tool == "grep" else "**", "path": path}
        assert (await house.call(tool, **arguments)).text == "auth.token", path


@pytest.mark.spec("GC-SEC-115")
async def test_a_pattern_that_never_ends_is_stopped_and_holds_nobody_up(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "SEARCH_MS", 500)
    house.write("a.txt", "a" * 60 + "b\n")
    output = await house.call("grep", pattern="(a+)+$")
    assert (output.is_error, output.code) == (True, "TOOL_FAILED")
    assert "took too long" in output.text
    house.write("a" * 200, "")
    output = await house.call("glob", pattern="*a" * 40 + "b")
    assert "took too long" in output.text


async def test_a_broken_pattern_is_a_bad_argument(house: House) -> None:
    output = await house.call("grep", pattern="(")
    assert output.code == "BAD_ARGUMENTS"
    assert "not a valid regular expression" in output.text


@pytest.mark.parametrize("tool", ["glob", "grep"])
async def test_searching_outside_is_denied_and_a_missing_folder_said(house: House, tool: str) -> None:
    assert (await house.call(tool, pattern="x", path="/etc")).code == "POLICY_DENIED"
    assert "does not exist" in (await house.call(tool, pattern="x", path="none")).text
