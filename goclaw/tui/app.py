"""The chat: what a person types goes to the daemon, what the daemon says comes on screen."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Static

from goclaw.clock import new_id
from goclaw.errors import ClientError, GoclawError
from goclaw.tui import pages
from goclaw.tui.commands import Command, Say, Slip, parse
from goclaw.tui.desk import Desk
from goclaw.tui.facts import Facts, LinkState
from goclaw.tui.outbox import LIMIT, Message, Outbox
from goclaw.tui.prompt import PromptBox
from goclaw.tui.reach import Reach
from goclaw.tui.status import Standing, StatusLine
from goclaw.tui.talk import Place, Talk
from goclaw.tui.theme import THEME
from goclaw.tui.transcript import COALESCE_S, Transcript
from goclaw.tui.turn import Turn

TICK_S = 1.0


class ChatApp(App[int]):
    """The screen, begun at `place`, which came from `desk`. Without `color` it uses bold and dim only.

    It is the `Board` of its conversation and gets the `Receipts` of what is sent.
    """

    CSS_PATH = "goclaw.tcss"
    TITLE = "goclaw"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop the running turn", priority=True),
        Binding("ctrl+c", "copy_clear_leave", "Copy, clear or leave", priority=True),
        Binding("ctrl+d", "leave_when_empty", "Leave", priority=True),
        Binding("pageup", "scroll_up", "Scroll up", priority=True),
        Binding("pagedown", "scroll_down", "Scroll down", priority=True),
        Binding("f1", "help", "Help", priority=True),
    ]

    def __init__(self, reach: Reach, desk: Desk, place: Place, color: bool = True) -> None:
        super().__init__(ansi_color=None if color else True)
        self._reach = reach
        self._desk = desk
        self._outbox = Outbox(reach, self)
        self._talk = Talk(reach, self._outbox, self, place)
        self._transcript = Transcript()
        self._banner = Static(id="banner")
        self._prompt = PromptBox()
        self._status = StatusLine(id="status")
        self._typed: asyncio.Queue[Say | Command] = asyncio.Queue(LIMIT)
        self._facts = Facts()
        self._link = LinkState.CONNECTING
        self._welcomed = False
        self._leaving = False
        self._tick: Timer | None = None
        self._standing: Timer | None = None

    @property
    def unsent(self) -> int:
        """Messages that the daemon has not acknowledged."""
        return len(self._outbox.waiting())

    @property
    def place(self) -> Place:
        """Where one is."""
        return self._talk.place

    def compose(self) -> ComposeResult:
        """From top to bottom."""
        yield self._transcript
        yield self._banner
        yield self._prompt
        yield self._status

    async def on_mount(self) -> None:
        """Begin."""
        self.register_theme(THEME)
        self.theme = THEME.name
        self._prompt.focus()
        self._tick = self.set_interval(TICK_S, self._stand, pause=True)
        self.run_worker(self._outbox.run(), group="outbox")
        self.run_worker(self._work_off(), group="typed")
        await self._enter(self._talk)

    # What the daemon says (Board, Receipts)

    def opened(self, turns: Sequence[Turn], more: bool) -> None:
        """See `Board`."""
        if self._closing_down:
            return
        if not turns and not self._welcomed:
            self._transcript.note(pages.welcome(self.place.agent))
        self._welcomed = True
        self._transcript.open(turns, more)
        self._restand()

    def shown(self, turn: Turn) -> None:
        """See `Board`."""
        if not self._closing_down:
            self._transcript.show(turn)
            self._restand()

    def linked(self, state: LinkState, why: str) -> None:
        """See `Board`."""
        self._link = state
        content = pages.banner(state, why)
        self._banner.update(content)
        self._banner.display = bool(content.plain)
        self._restand()

    def informed(self, facts: Facts) -> None:
        """See `Board`."""
        self._facts = facts
        self._restand()

    def sent(self, message: Message, answer: Mapping[str, Any]) -> None:
        """See `Receipts`."""
        if message.session_id == self.place.session_id:
            self._talk.sent(message, answer)

    def refused(self, message: Message, error: ClientError) -> None:
        """See `Receipts`."""
        if message.session_id == self.place.session_id:
            self._talk.refused(message, error)
            self._prompt.put_back(message.text)
        else:
            self._note(pages.trouble(f"A message to {message.agent_id} was refused: {pages.why(error)}"))

    # What the person does

    def on_prompt_box_submitted(self, event: PromptBox.Submitted) -> None:
        """A line was typed. Lines are taken up one after the other, so what is said after `/agent` goes
        there.
        """
        meant = parse(event.text, self._facts.tools)
        match meant:
            case Command(word="quit"):
                self.exit(0)
            case Slip():
                self._note(pages.slip(meant.word, meant.near))
            case Say() | Command():
                self._queue(meant, event.text)

    def on_text_area_changed(self) -> None:
        """Something is typed, so nobody is leaving."""
        self._leaving = False

    def action_stop(self) -> None:
        """Stop the running turn."""
        self.run_worker(self._cancel(everything=False), group="cancel")

    def action_help(self) -> None:
        """Show the help."""
        self._note(pages.help_page())

    def action_copy_clear_leave(self) -> None:
        """Copy what is selected; else clear the line; else leave, at the second time."""
        prompt = self._prompt
        selected = self.screen.get_selected_text() or prompt.selected_text
        if selected:
            self.copy_to_clipboard(selected)
            self.screen.clear_selection()
            self.notify("Copied")
        elif prompt.text:
            prompt.clear()
        elif self._leaving:
            self.exit(0)
        else:
            self._leaving = True
            self.notify("Press Ctrl+C again to leave; what runs goes on.")

    def action_leave_when_empty(self) -> None:
        """Leave, unless something is being typed; then delete to the right, as everywhere."""
        prompt = self._prompt
        if prompt.text:
            prompt.action_delete_right()
        else:
            self.exit(0)

    def action_scroll_up(self) -> None:
        """One page up."""
        self._transcript.scroll_page_up(animate=False)

    def action_scroll_down(self) -> None:
        """One page down."""
        self._transcript.scroll_page_down(animate=False)

    def _queue(self, meant: Say | Command, text: str) -> None:
        try:
            self._typed.put_nowait(meant)
        except asyncio.QueueFull:
            self._prompt.put_back(text)
            self._note(pages.trouble(f"More than {LIMIT} lines wait already; this one was not taken."))

    async def _work_off(self) -> None:
        while True:
            meant = await self._typed.get()
            try:
                if isinstance(meant, Say):
                    self._say(meant.text)
                else:
                    await self._obey(meant)
            except GoclawError as error:
                self._note(pages.trouble(pages.why(error)))

    def _say(self, text: str) -> None:
        place = self.place
        key = f"tui-{new_id(self._reach.clock)}"
        message = Message(key=key, session_id=place.session_id, agent_id=place.agent.id, text=text)
        if self._outbox.put(message):
            self._talk.begin(message)
            self._transcript.anchor()
        else:
            self._prompt.put_back(text)
            self._note(pages.trouble(f"{self.unsent} messages wait to be sent; this one was not taken."))

    async def _obey(self, command: Command) -> None:
        match command.word:
            case "agent" if command.rest:
                await self._go(await self._desk.agent(command.rest))
            case "agent" | "agents":
                self.informed(await self._reach.facts())
                self._note(pages.agents_page(self._facts, self.place.agent.id))
            case "new":
                await self._go(self._desk.fresh(self.place.agent))
            case "session" if command.rest:
                await self._go(await self._desk.session(command.rest, self.place.agent.id))
            case "session":
                self._note(pages.said(f"This is session {self.place.session_id} with {self.place.agent.id}."))
            case "cancel":
                # It is answered when the turn has ended; nobody has to wait for that to type on.
                self.run_worker(self._cancel(command.rest == "all"), group="cancel")
            case "help":
                self._note(pages.help_page())

    async def _cancel(self, everything: bool) -> None:
        if not self._talk.open_turns:
            self._note(pages.said("Nothing is running."))
            return
        try:
            await self._talk.cancel(everything)
        except ClientError as error:
            self._note(pages.trouble(f"It could not be canceled: {pages.why(error)}"))

    async def _go(self, place: Place) -> None:
        if place == self.place:
            self._note(pages.said(f"This is session {place.session_id} with {place.agent.id} already."))
            return
        await self._enter(Talk(self._reach, self._outbox, self, place))

    async def _enter(self, talk: Talk) -> None:
        """Show another conversation. The one before is not followed any more; what runs in it goes on."""
        self.workers.cancel_group(self, "follow")
        self._talk = talk
        self._welcomed = False
        await self._transcript.clear(talk.place.session_id)
        self._restand()
        self.run_worker(talk.follow(), group="follow")

    def _note(self, content: Content) -> None:
        if not self._closing_down:
            self._transcript.note(content)

    @property
    def _closing_down(self) -> bool:
        """Whether the screen is being put away: what comes now is not shown any more."""
        return not self._transcript.is_attached

    def _restand(self) -> None:
        """Bring the status line up to date, soon: many changes at once are drawn once."""
        if self._standing is None and not self._closing_down:
            self._standing = self.set_timer(COALESCE_S, self._stand)

    def _stand(self) -> None:
        """Draw the status line; it ticks only while something runs."""
        self._standing = None
        turns = self._talk.open_turns
        models = [turn.model for turn in self._transcript.turns if turn.model]
        place = self.place
        self._status.standing = Standing(
            agent=place.agent,
            session_id=place.session_id,
            policy_version=self._facts.policy_version,
            link=self._link,
            turns=turns,
            model=models[-1] if models else "",
            now=self._reach.clock.wall(),
        )
        if self._tick is not None:
            self._tick.resume() if turns else self._tick.pause()
