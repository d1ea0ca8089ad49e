"""The chat on a screen that nobody sees, and ways to wait for what comes on it: by its messages, never by
time.
"""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from textual.message import Message
from textual.pilot import Pilot

from goclaw.client import Client, Find
from goclaw.core.ports import Clock
from goclaw.tui.app import ChatApp
from goclaw.tui.desk import Desk, Start
from goclaw.tui.prompt import PromptBox
from goclaw.tui.reach import Reach
from goclaw.tui.status import StatusLine
from goclaw.tui.transcript import Transcript
from goclaw.tui.turn import Turn

PATIENCE_S = 30
_PIECE = re.compile(r'<text class="[^"]*" x="([\d.]+)" y="([\d.]+)"[^>]*>(.*?)</text>', re.DOTALL)
_CELL = 12.2
"""How wide a cell is in an exported picture."""


class Screen:
    """One chat under a pilot."""

    def __init__(self, app: ChatApp, pilot: Pilot[int], stirred: asyncio.Event) -> None:
        self.app = app
        self.pilot = pilot
        self._stirred = stirred

    async def type(self, *lines: str) -> None:
        """Type lines, each with Enter."""
        for text in lines:
            self.app.query_one(PromptBox).insert(text)
            await self.pilot.press("enter")

    async def until(self, met: Callable[[], object]) -> None:
        """Return when `met` is, looking again whenever something happened on the screen."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not met():
                    self._stirred.clear()
                    await self.pilot.pause()
                    if met():
                        return
                    await self._stirred.wait()
        except TimeoutError:
            raise AssertionError(f"this never came:\n{self.text}") from None

    async def sees(self, *words: str) -> None:
        """Return when all these words are on the screen, line breaks aside."""
        await self.until(lambda: all(word in self.flat for word in words))

    @property
    def text(self) -> str:
        """What a person sees."""
        rows: dict[float, str] = {}
        for x, y, words in _PIECE.findall(self.app.export_screenshot()):
            row = rows.get(float(y), "").ljust(round(float(x) / _CELL))
            rows[float(y)] = row + html.unescape(words).replace("\xa0", " ")
        return "\n".join(rows[y].rstrip() for y in sorted(rows))

    @property
    def flat(self) -> str:
        """The same on one line."""
        return " ".join(re.sub(r"[\u258c\u2502]", " ", self.text).split())

    @property
    def status(self) -> str:
        """The line at the bottom."""
        return str(self.app.query_one(StatusLine).render())

    @property
    def turns(self) -> tuple[Turn, ...]:
        """What the transcript shows."""
        return self.app.query_one(Transcript).turns


@asynccontextmanager
async def screen(
    find: Find, clock: Clock, start: Start | None = None, size: tuple[int, int] = (80, 24), color: bool = True
) -> AsyncIterator[Screen]:
    """A chat with the daemon that `find` finds."""
    stirred = asyncio.Event()

    def stir(_: Message) -> None:
        stirred.set()

    async with Client(find, clock, "goclaw-tui") as client:
        reach = Reach(client=client, clock=clock, gone=lambda: find().guessed)
        desk = Desk(reach)
        app = ChatApp(reach, desk, await desk.first(start or Start()), color=color)
        async with app.run_test(size=size, message_hook=stir) as pilot:
            shown = Screen(app, pilot, stirred)
            await shown.until(lambda: "connected" in shown.status)
            yield shown
