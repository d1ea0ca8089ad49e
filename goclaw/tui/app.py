"""The chat: what a person types goes to the daemon, what the daemon says comes on screen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Static

from goclaw.client import Client
from goclaw.clock import new_id
from goclaw.core.ports import Clock
from goclaw.errors import ClientError, GoclawError
from goclaw.tui import pages
from goclaw.tui.commands import Command, Say, Slip, parse
from goclaw.tui.desk import Desk
from goclaw.tui.facts import Facts, LinkState
from goclaw.tui.outbox import LIMIT, Message, Outbox
from goclaw.tui.prompt import PromptBox
from goclaw.tui.status import Standing, StatusLine
from goclaw.tui.talk import Place, Talk, Wiring
from goclaw.tui.theme import THEME
from goclaw.tui.transcript import Transcript
from goclaw.tui.turn import Turn

TICK_S = 1.0


class ChatApp(App[int]):
    """The screen, begun at `place`. `client` is open; `gone` says whether no daemon serves this home.

    It is a `Board` for the conversation and takes the `Receipts` of what is sent.
    """

    CSS_PATH = "goclaw.tcss"
    TITLE = "goclaw"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop the running turn", priority=True),
        Binding("ctrl+c", "copy_clear_quit", "Copy, clear or leave", priority=True),
        Binding("ctrl+d", "quit_when_empty", "Leave", priority=True),
        Binding("pageup", "scroll(-1)", "Scroll up", priority=True),
        Binding("pagedown", "scroll(1)", "Scroll down", priority=True),
        Binding("f1", "help", "Help"),
    ]

    def __init__(self, client: Client, clock: Clock, place: Place, gone: Callable[[], bool], color: bool = True) -> None:
        super().__init__(ansi_color=None if color else True)
        self._clock = clock
        self._desk = Desk(client, clock)
        self._outbox = Outbox(client, clock, self)
        self._wiring = Wiring(client=client, clock=clock, board=self, outbox=self._outbox, gone=gone)
        self._talk = Talk(self._wiring, place)
        self._typed: asyncio.Queue[Say | Command] = asyncio.Queue(LIMIT)
        self._facts = Facts()
        self._link = LinkState.CONNECTING
        self._leaving = False

    @property
    def unsent(self) -> int:
        """Messages that the daemon has not acknowledged."""
        return len(self._outbox.waiting())

    def compose(self) -> ComposeResult:
        """From top to bottom."""
        yield Transcript()
        yield Static(id="banner")
        yield PromptBox()
        yield StatusLine(id="status")
