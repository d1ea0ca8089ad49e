"""Artifacts are stored by content, and read in pieces."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from goclaw.errors import NotFound

if TYPE_CHECKING:
    from tests.unit.tools.conftest import House


async def test_a_body_is_found_by_its_hash_and_stored_once(house: House) -> None:
    sha256 = await house.artifacts.put(b"hello")
    assert sha256 == hashlib.sha256(b"hello").hexdigest()
    assert await house.artifacts.put(b"hello") == sha256
    assert await house.artifacts.get(sha256) == b"hello"
    assert os.listdir(house.home / "artifacts") == [sha256]


@pytest.mark.parametrize("name", ["0" * 64, "", "../auth.token", "x" * 500])
async def test_an_unknown_name_is_not_found(house: House, name: str) -> None:
    with pytest.raises(NotFound):
        await house.artifacts.get(name)


async def test_an_altered_body_is_not_given_out(house: House) -> None:
    sha256 = await house.artifacts.put(b"hello")
    (house.home / "artifacts" / sha256).write_bytes(b"other")
    with pytest.raises(NotFound):
        await house.artifacts.get(sha256)


async def test_a_failed_store_leaves_nothing(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        await house.artifacts.put(b"hello")
    assert os.listdir(house.home / "artifacts") == []


async def test_a_piece_is_read_by_offset_and_limit(house: House) -> None:
    sha256 = await house.artifacts.put("äbcdefghij".encode())
    output = await house.call("read_artifact", artifact=sha256, offset=1, limit=3)
    assert output.text == "bcd\n[... 6 characters follow; continue with offset 4 ...]"
    assert (await house.call("read_artifact", artifact=sha256, offset=8)).text == "ij"
    assert (await house.call("read_artifact", artifact=sha256, offset=99)).text == "nothing there"


async def test_a_large_artifact_is_never_cut_into_another_one(house: House) -> None:
    sha256 = await house.artifacts.put(b"x" * 100_000)
    output = await house.call("read_artifact", artifact=sha256)
    assert output.artifact is None
    assert len(output.text) <= 30_000


async def test_an_unknown_or_malformed_artifact_is_an_error_the_model_sees(house: House) -> None:
    assert (await house.call("read_artifact", artifact="0" * 64)).code == "TOOL_FAILED"
    assert (await house.call("read_artifact", artifact="../x")).code == "BAD_ARGUMENTS"


@pytest.mark.spec("GC-DATA-318")
async def test_only_what_is_old_is_listed_and_removed(house: House) -> None:
    old, young = await house.artifacts.put(b"old"), await house.artifacts.put(b"young")
    folder = house.home / "artifacts"
    (folder / "notes.txt").write_text("not ours")
    os.utime(folder / old, (1, 1))
    assert await house.artifacts.older(2_000) == {old}
    assert await house.artifacts.remove([old, young, "ab" * 32], 2_000) == 1
    assert sorted(os.listdir(folder)) == sorted([young, "notes.txt"])
    assert await house.artifacts.get(young) == b"young"


@pytest.mark.spec("GC-DATA-318")
async def test_what_is_stored_again_before_it_is_removed_stays(house: House) -> None:
    name = await house.artifacts.put(b"again")
    os.utime(house.home / "artifacts" / name, (1, 1))
    assert await house.artifacts.older(2_000) == {name}
    assert await house.artifacts.put(b"again") == name
    assert await house.artifacts.remove([name], 2_000) == 0
    assert await house.artifacts.get(name) == b"again"
