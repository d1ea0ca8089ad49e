"""Many tasks from a file of JSON lines, as batches that are stored all or none."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from goclaw.cli import exits, screen
from goclaw.client import Client
from goclaw.errors import BadRequest, RpcError

BATCH = 1_000
BATCH_BYTES = 3 * 1024 * 1024
"""Below the largest frame, with room for what stands around the tasks."""


@dataclass(frozen=True, slots=True)
class Line:
    """One submission, and which line it stands in, counted from 1."""

    number: int
    task: Mapping[str, Any]


def submissions(source: str) -> Iterator[list[Line]]:
    """The lines of a file, or of stdin for `-`, as batches. Raises BadRequest with the number of a bad line.

    A batch is read whole before it is given out, and no more than one at a time.
    """
    batch: list[Line] = []
    size = 0
    with _opened(source) as lines:
        for number, text in enumerate(lines, 1):
            if not text.strip():
                continue
            if batch and (len(batch) == BATCH or size + len(text.encode()) > BATCH_BYTES):
                yield batch
                batch, size = [], 0
            batch.append(Line(number, _object(number, text)))
            size += len(text.encode())
    if batch:
        yield batch


async def submit_batches(client: Client, batches: Iterator[list[Line]], as_json: bool) -> int:
    """Submit batch after batch; the exit code. What is wrong is told with its line, and what was stored before."""
    stored = 0
    batch: list[Line]
    try:
        # In a thread: stdin may keep us waiting, and the connection must live on meanwhile.
        while batch := await asyncio.to_thread(next, batches, []):
            answer = await client.call("task.submit_many", {"tasks": [line.task for line in batch]})
            stored += len(answer["results"])
            for result in answer["results"]:
                screen.data(result) if as_json else screen.text(result["task_id"])
    except (BadRequest, RpcError) as error:
        at = error.data.get("index")
        where = f"line {batch[at].number}: " if isinstance(at, int) and at < len(batch) else ""
        screen.say(f"goclaw: {where}{error.message}")
        screen.say(f"{stored} tasks were stored" if stored else "nothing was stored")
        return exits.of_error(error)
    return exits.OK


def _object(number: int, text: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"line {number} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadRequest(f"line {number} is not a JSON object")
    return value


@contextmanager
def _opened(source: str) -> Iterator[TextIO | Sequence[str]]:
    if source == "-":
        yield sys.stdin
        return
    try:
        with Path(source).open(encoding="utf-8") as lines:
            yield lines
    except OSError as error:
        raise BadRequest(f"{source}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadRequest(f"{source} is not UTF-8 text") from None
