"""Following a log file: new lines, torn lines, rotation."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import aclosing
from pathlib import Path

from goclaw.cli.logs import readable, tail
from tests.unit.cli.conftest import Goclaw
from tests.unit.client.conftest import FakeClock


async def test_the_last_lines_come_first_and_then_it_ends(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text("1\n2\n3\n")
    assert [line async for line in tail(file, 2, False, FakeClock())] == ["2", "3"]


async def test_following_joins_a_torn_line_and_goes_on_after_a_rotation(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text("1\n")
    async with asyncio.timeout(5), aclosing(tail(file, 10, True, FakeClock())) as lines:
        assert await anext(lines) == "1"
        with file.open("a") as out:
            out.write("tw")
        following = asyncio.ensure_future(anext(lines))
        await asyncio.sleep(0)
        with file.open("a") as out:
            out.write("o\n")
        assert await following == "two"
        os.rename(file, tmp_path / "log.1")
        file.write_text("three\n")
        assert await anext(lines) == "three"


def test_a_line_for_people_has_its_message_and_its_fields() -> None:
    line = json.dumps({"timestamp": 0, "level": "INFO", "msg": "ready", "component": "x", "url": "u", "task_id": None})
    assert readable(line).endswith("INFO    x          ready url=u")
    assert readable("no json") == "no json"
    assert readable("[1]") == "[1]"


async def test_logs_of_a_home_without_any_is_not_found(goclaw: Goclaw) -> None:
    assert (await goclaw("logs")).code == 6


async def test_logs_as_json_are_the_lines_as_they_are(goclaw: Goclaw, home: Path) -> None:
    (home / "logs").mkdir()
    (home / "logs" / "system.jsonl").write_text('{"msg":"one"}\n{"msg":"two"}\n')
    assert (await goclaw("logs", "-n", "1", "--json")).out == '{"msg":"two"}\n'
