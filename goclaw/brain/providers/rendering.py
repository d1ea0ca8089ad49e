"""What holds for every request, whichever API it is written for. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from goclaw.core.chat import Block, Message, ToolCall, ToolResult

_ID = re.compile(r"[A-Za-z0-9_-]{1,40}")


def paired(messages: Iterable[Message]) -> Iterator[Message]:
    """The messages with call ids as every API takes them: of few characters, and each only once.

    Ids are unique within a turn, and a session has many: the second call of an id is told from the first by
    its number. A result belongs to the last call of its id. What comes later changes no earlier id, so that a
    longer conversation begins with the same bytes.
    """
    uses: dict[str, int] = {}

    def renamed(block: Block) -> Block:
        if isinstance(block, ToolCall):
            uses[block.id] = uses.get(block.id, 0) + 1
            return replace(block, id=_wire_id(block.id, uses[block.id]))
        if isinstance(block, ToolResult):
            return replace(block, call_id=_wire_id(block.call_id, uses.get(block.call_id, 1)))
        return block

    for message in messages:
        yield replace(message, blocks=tuple(renamed(block) for block in message.blocks))


def _wire_id(id_: str, use: int) -> str:
    if use == 1 and _ID.fullmatch(id_):
        return id_
    return "call_" + hashlib.sha256(f"{id_}#{use}".encode("utf-8", "surrogatepass")).hexdigest()[:32]


def system_note(text: str) -> str:
    """A notice of the house inside a conversation, for an API that knows no such role."""
    return f"<system-note>\n{text}\n</system-note>"
