"""A raw JSON-RPC client over the `websockets` library, for tests of the wire: nothing of goclaw's own client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from tests.system.running import RpcFailed, RunningDaemon

PATIENCE_S = 30
Frame = dict[str, Any]


class Speaker:
    """One connection. Frames that are not the awaited answer are kept in `told`, in their order."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.told: list[Frame] = []
        self._answers: dict[Any, Frame] = {}
        self._ids = 0

    async def say(self, method: str, **params: Any) -> int:
        """Send a request and do not wait; its id."""
        self._ids += 1
        await self.raw({"jsonrpc": "2.0", "id": self._ids, "method": method, "params": params})
        return self._ids

    async def raw(self, frame: Any) -> None:
        """Send text as it is, or anything else as JSON."""
        await self.connection.send(frame if isinstance(frame, str | bytes) else json.dumps(frame))

    async def hear(self) -> Frame:
        """The next frame, whatever it is."""
        async with asyncio.timeout(PATIENCE_S):
            frame: Frame = json.loads(await self.connection.recv())
        return frame

    async def answer(self, number: Any) -> Frame:
        """The whole answer to a request."""
        while number not in self._answers:
            frame = await self.hear()
            if "method" in frame:
                self.told.append(frame)
            else:
                self._answers[frame["id"]] = frame
        return self._answers.pop(number)

    async def ask(self, method: str, **params: Any) -> Any:
        """The result. Raises RpcFailed."""
        return result_of(await self.answer(await self.say(method, **params)))

    async def events(self, until: Callable[[list[Frame]], bool]) -> list[Frame]:
        """The events told so far and those that come, until the list is as wanted."""
        heard = [frame["params"] for frame in self.told if frame["method"] == "session.event"]
        self.told = [frame for frame in self.told if frame["method"] != "session.event"]
        while not until(heard):
            frame = await self.hear()
            if frame.get("method") == "session.event":
                heard.append(frame["params"])
            elif "method" in frame:
                self.told.append(frame)
            else:
                self._answers[frame["id"]] = frame
        return heard


def result_of(frame: Frame) -> Any:
    """The result of an answer. Raises RpcFailed."""
    if "error" in frame:
        raise RpcFailed(frame["error"])
    return frame["result"]


@asynccontextmanager
async def speak(daemon: RunningDaemon, *, hello: bool = True, **options: Any) -> AsyncIterator[Speaker]:
    """A connection to a daemon, greeted unless told otherwise."""
    headers = {"Authorization": f"Bearer {daemon.token}"}
    given = {"additional_headers": headers, "compression": None, "proxy": None, "max_size": None, "close_timeout": 1}
    async with connect(f"{daemon.url.replace('http', 'ws', 1)}/ws", **{**given, **options}) as connection:
        speaker = Speaker(connection)
        if hello:
            await speaker.ask("system.hello", version="1.0", client="test")
        yield speaker
