"""Messages on their way to the daemon: sent in order, each until the daemon has acknowledged it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from goclaw.errors import ClientError, RpcError, Unreachable
from goclaw.tui.reach import Reach

LIMIT = 100
RETRY_MS = 500
_LATER = frozenset({"SHUTTING_DOWN"})
"""Refusals of a daemon that will be another one soon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What a person typed. `key` is its idempotency key: sent twice, it is still one turn."""

    key: str
    session_id: str
    agent_id: str
    text: str


class Receipts(Protocol):
    """Who wants to know what became of a message."""

    def sent(self, message: Message, answer: Mapping[str, Any]) -> None:
        """The daemon has stored it; `answer` is that of agent.chat."""
        ...

    def refused(self, message: Message, error: ClientError) -> None:
        """The daemon does not take it."""
        ...


class Outbox:
    """Up to LIMIT messages. Nothing here is durable: what was not sent when the screen closes is lost, and
    the person is told.
    """

    def __init__(self, reach: Reach, receipts: Receipts) -> None:
        self._reach = reach
        self._receipts = receipts
        self._waiting: dict[str, Message] = {}
        self._filled = asyncio.Event()

    def put(self, message: Message) -> bool:
        """Take a message; False when there is no room."""
        if len(self._waiting) >= LIMIT:
            return False
        self._waiting[message.key] = message
        self._filled.set()
        return True

    def drop(self, key: str) -> bool:
        """Take a message back; False when it has left. One that is being sent may arrive all the same."""
        return self._waiting.pop(key, None) is not None

    def waiting(self, session_id: str | None = None) -> tuple[Message, ...]:
        """What the daemon has not acknowledged, of one session or of all, in order."""
        return tuple(one for one in self._waiting.values() if session_id in (None, one.session_id))

    async def run(self) -> None:
        """Send, for as long as the screen is open."""
        while True:
            await self._filled.wait()
            if not self._waiting:
                self._filled.clear()
                continue
            await self._send(next(iter(self._waiting.values())))

    async def _send(self, message: Message) -> None:
        params = {
            "content": message.text,
            "session_id": message.session_id,
            "agent_id": message.agent_id,
            "idempotency_key": message.key,
        }
        try:
            answer = await self._reach.client.call("agent.chat", params)
        except Unreachable:
            await self._reach.clock.sleep(RETRY_MS)
        except ClientError as error:
            if isinstance(error, RpcError) and error.word in _LATER:
                await self._reach.clock.sleep(RETRY_MS)
            elif self.drop(message.key):
                self._receipts.refused(message, error)
        else:
            self.drop(message.key)
            self._receipts.sent(message, answer)
