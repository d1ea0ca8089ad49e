"""A streamed answer is whole at its end, however many deltas were lost on the way."""

from __future__ import annotations

import json
from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest

from goclaw.core.event import Delta
from goclaw.gateway.openai_stream import ShownText
from goclaw.gateway.openai_wire import Chunks

ANSWER = "one two three"


def delta(seq: int, content: str, *, reset: bool = False) -> Delta:
    return Delta(task_id="t", session_id="s", seq=seq, content=content, reset=reset)


async def shown(*deltas: Delta, answer: str = ANSWER) -> str:
    written: list[Any] = []

    async def write(frame: str) -> None:
        written.append(json.loads(frame.removeprefix("data: ")))

    text = ShownText(Chunks("id", 0, "goclaw"), write)
    reader: Any = SimpleNamespace(deltas=deque(deltas))
    await text.pass_on(reader)
    await text.complete(answer)
    return "".join(chunk["choices"][0]["delta"]["content"] for chunk in written)


@pytest.mark.spec("GC-ACP-248")
@pytest.mark.parametrize(
    ("deltas", "text"),
    [
        ([delta(1, "one "), delta(2, "two "), delta(3, "three")], ANSWER),
        ([], ANSWER),
        ([delta(1, "one "), delta(3, "three")], ANSWER),
        ([delta(1, "one "), delta(2, "two ")], ANSWER),
        ([delta(2, "two "), delta(3, "three")], ANSWER),
        ([delta(1, "Let me look. "), delta(2, ANSWER)], f"Let me look. {ANSWER}"),
        ([delta(1, "Let me look. "), delta(2, "one "), delta(4, "e")], f"Let me look. one \n\n{ANSWER}"),
        ([delta(1, "wro"), delta(2, "", reset=True), delta(3, ANSWER)], f"wro\n\n{ANSWER}"),
        ([delta(1, "wro"), delta(1, "one "), delta(2, "two three")], f"wro\n\n{ANSWER}"),
    ],
)
async def test_what_is_missing_comes_at_the_end(deltas: list[Delta], text: str) -> None:
    assert await shown(*deltas) == text
