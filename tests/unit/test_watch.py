"""Files that change call back."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from goclaw.watch import watch

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux")


class Heard:
    """What the watch reported, awaitable."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[frozenset[Path]] = asyncio.Queue()

    async def on_change(self, changed: frozenset[Path]) -> None:
        self._queue.put_nowait(changed)

    async def next(self) -> frozenset[Path]:
        async with asyncio.timeout(5):
            return await self._queue.get()


@asynccontextmanager
async def watching(*paths: Path) -> AsyncIterator[Heard]:
    heard = Heard()
    task = asyncio.create_task(watch(paths, heard.on_change))
    try:
        assert await heard.next() == frozenset(paths)
        yield heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_file_replaced_by_renaming_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("one")
    async with watching(path) as heard:
        (tmp_path / ".swap").write_text("two")
        os.rename(tmp_path / ".swap", path)
        assert await heard.next() == {path}


async def test_a_file_created_later_and_then_deleted_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    async with watching(path) as heard:
        path.write_text("one")
        assert await heard.next() == {path}
        path.unlink()
        assert await heard.next() == {path}


async def test_a_file_made_unreadable_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("one")
    async with watching(path) as heard:
        path.chmod(0)
        assert await heard.next() == {path}


async def test_neighbours_of_a_watched_file_are_not_reported(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    async with watching(path) as heard:
        (tmp_path / "goclaw.db").write_text("noise")
        path.write_text("one")
        assert await heard.next() == {path}


async def test_everything_below_a_folder_counts_also_in_folders_made_later(tmp_path: Path) -> None:
    skills = tmp_path / "skills"
    async with watching(skills) as heard:
        skills.mkdir()
        assert await heard.next() == {skills}
        (skills / "hash").mkdir()
        assert await heard.next() == {skills}
        (skills / "hash" / "SKILL.md").write_text("hello")
        assert await heard.next() == {skills}


async def test_a_folder_that_is_not_there_to_hold_the_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await watch([tmp_path / "missing" / "policy.yaml"], Heard().on_change)


async def test_what_the_callback_raises_ends_the_watch(tmp_path: Path) -> None:
    async def broken(_: frozenset[Path]) -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await watch([tmp_path / "policy.yaml"], broken)
