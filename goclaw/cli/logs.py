"""`goclaw logs`: the log lines of this home. Reads the file and needs no daemon."""

from __future__ import annotations

import asyncio
import json
import os
from collections import deque
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Annotated, Any

import typer

from goclaw.cli import exits, screen
from goclaw.cli.app import JsonFlag, place, single
from goclaw.core.ports import Clock
from goclaw.errors import NotFound

POLL_MS = 200
HEAD = ("timestamp", "level", "msg", "component")
app = single("Show the log lines of this home.")


@app.command()
def logs(
    ctx: typer.Context,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with new lines until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="The newest so many.")] = 50,
    as_json: JsonFlag = False,
) -> int:
    """Show the log lines of this home."""
    here = place(ctx)
    file = here.home.logs / "system.jsonl"
    if not file.exists():
        raise NotFound(f"there is no log yet at {file}")

    async def show() -> None:
        async for line in tail(file, lines, follow, here.clock):
            if as_json:
                screen.text(line)
            else:
                screen.text(readable(line))

    asyncio.run(show())
    return exits.OK


async def tail(file: Path, count: int, follow: bool, clock: Clock) -> AsyncGenerator[str]:
    """The last `count` lines, then, with `follow`, new ones as they are written, over rotations too."""
    opened = file.open("rb")
    try:
        for line in deque(opened, maxlen=count):
            yield line.decode("utf-8", "replace").rstrip("\n")
        rest = b""
        while follow:
            chunk = opened.read()
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                yield line.decode("utf-8", "replace")
            if not chunk:
                if _replaced(opened.fileno(), file):
                    opened.close()
                    opened, rest = file.open("rb"), b""
                else:
                    await clock.sleep(POLL_MS)
    finally:
        opened.close()


def readable(line: str) -> str:
    """A log line for people; what is no JSON is shown as it is."""
    try:
        told = json.loads(line)
    except ValueError:
        return line
    if not isinstance(told, dict):
        return line
    rest = " ".join(f"{name}={_word(value)}" for name, value in told.items() if name not in HEAD and value is not None)
    head = f"{screen.moment(told.get('timestamp'))} {told.get('level') or '':<7} {told.get('component') or '':<10}"
    return f"{head} {told.get('msg') or ''} {rest}".rstrip()


def _word(value: Any) -> str:
    return value if isinstance(value, str) and value and " " not in value else json.dumps(value, ensure_ascii=False)


def _replaced(number: int, file: Path) -> bool:
    try:
        there = file.stat()
    except FileNotFoundError:
        return False
    return not os.path.samestat(os.fstat(number), there)
