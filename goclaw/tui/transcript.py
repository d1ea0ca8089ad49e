"""The conversation on screen: turns below each other, the newest at the bottom, at most BLOCKS blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Static

from goclaw.tui.blocks import Answer, CallLine, Foot, Note, PlainAnswer, Prompt
from goclaw.tui.scrollback import Scrollback
from goclaw.tui.turn import Called, Said, Turn, TurnState, parts

BLOCKS = 2_000
COALESCE_S = 0.05
"""Changes within this time are rendered together."""
SLOWER_PER = 100
"""For every so many blocks of a turn that time is added once more."""
RECENT = 3
"""Turns of a session that is opened which get widgets at once."""
PARTS = 300
"""Parts of one turn that are shown: the last ones."""
MARKDOWN_LINES = 500
"""Lines of one turn that are laid out as Markdown: the last ones. What stands above them is plain text."""
OLDER = "Earlier messages are not shown here; `goclaw session show {}` has them."


class TurnView(Vertical):
    """One turn. `show` may be called as often as the turn changes; it is rendered at its own pace."""

    class Rendered(Message):
        """A turn is on screen as it is now."""

    def __init__(self, turn: Turn) -> None:
        super().__init__(classes="turn")
        self.blocks = 0
        self._turn = turn
        self._views: dict[str, Widget] = {}
        self._timer: Timer | None = None
        self._prompt = Prompt(turn.prompt)
        self._foot = Foot(classes="foot")

    @property
    def turn(self) -> Turn:
        """What it shows, or will in a moment."""
        return self._turn

    @property
    def settled(self) -> bool:
        """Whether it shows what it should."""
        return self._timer is None

    def compose(self) -> ComposeResult:
        """The prompt, and below all parts how the turn stands."""
        yield self._prompt
        yield self._foot

    async def on_mount(self) -> None:
        """Render what there is."""
        await self._render_turn()

    def show(self, turn: Turn) -> None:
        """Show how the turn is now, soon."""
        if turn == self._turn:
            return
        self._turn = turn
        if self._timer is None:
            # The more a turn has on screen, the more it costs to lay it out again.
            self._timer = self.set_timer(COALESCE_S * (1 + self.blocks // SLOWER_PER), self._due)

    async def _due(self) -> None:
        self._timer = None
        await self._render_turn()

    async def _render_turn(self) -> None:
        """Change what differs from what is on screen; parts that stay are not touched."""
        turn = self._turn
        shown = _laid_out(parts(turn)[-PARTS:])
        for key in [key for key in self._views if key not in shown]:
            await self._views.pop(key).remove()
        above: Widget = self._prompt
        for key, part in shown.items():
            view = self._views.get(key)
            if view is None:
                view = self._views[key] = _view_of(part)
                await self.mount(view, after=above)
                if not view.is_attached:
                    return  # the screen is being closed
            elif self.children.index(view) != self.children.index(above) + 1:
                self.move_child(view, after=above)  # words that came before the call that they follow
            view.set_class(isinstance(above, CallLine), "below-call")
            above = view
            await _fill(view, part)
        self.set_class(turn.task_id is None, "unsent")
        self.set_class(turn.state in (TurnState.SENDING, TurnState.QUEUED), "pending")
        self._foot.set_class(isinstance(above, CallLine), "below-call")
        self._foot.show(turn)
        self.set_class(isinstance(above, CallLine | Prompt) and not self._foot.display, "ends-bare")
        self.blocks = 1 + sum(1 for _ in self.walk_children())
        self.post_message(self.Rendered())


class Transcript(VerticalScroll, can_focus=False):
    """All turns and notes of one session. Stays at the bottom unless somebody scrolled up.

    Turns are widgets while they are in sight or may still change; what is over and out of sight becomes
    scrollback.
    """

    def __init__(self) -> None:
        super().__init__(id="transcript")
        self._views: dict[str, TurnView] = {}
        self._session_id = ""
        self._older = Static(id="older", classes="note")
        self._scrollback = Scrollback()

    def compose(self) -> ComposeResult:
        """A line that stands for what is not kept, and what is out of sight."""
        yield self._older
        yield self._scrollback

    def on_mount(self) -> None:
        """Stay at the bottom."""
        self._older.display = False
        self.anchor()

    @property
    def turns(self) -> tuple[Turn, ...]:
        """What is shown, oldest first."""
        return (*self._scrollback.turns, *(view.turn for view in self._views.values()))

    @property
    def blocks(self) -> int:
        """How many blocks there are."""
        return self._scrollback.blocks + len(self.query(Note)) + sum(view.blocks for view in self._views.values())

    async def clear(self, session_id: str) -> None:
        """Show nothing; what comes now is of this session."""
        self._session_id = session_id
        self._views = {}
        self._scrollback.clear()
        self._older.display = False
        await self.query("TurnView, Note").remove()
        self.anchor()

    def open(self, turns: Sequence[Turn], more: bool) -> None:
        """Show exactly these turns. Those that are here already stay where they are; notes stay too."""
        kept = {turn.key for turn in turns}
        with self.app.batch_update():
            for key in [key for key in self._views if key not in kept]:
                self._views.pop(key).remove()
            self._scrollback.keep(kept)
            recent = self._first_recent(turns)
            self._scrollback.add(turns[:recent])
            above: Widget = self._scrollback
            for turn in turns[recent:]:
                above = self._place(turn, above)
        if more:
            self._tell_of_older()
        self._drop_old()

    def show(self, turn: Turn) -> None:
        """Show a turn that is new or changed."""
        if turn.key in self._scrollback:
            self._scrollback.add([turn])
        else:
            self._place(turn, None)

    def note(self, content: Content) -> None:
        """Show words of this screen below everything."""
        self.mount(Note(content))
        self.anchor()

    def on_turn_view_rendered(self) -> None:
        """A turn has changed on screen: others may be out of sight now, and there may be too much."""
        self.call_after_refresh(self._settle)

    def _settle(self) -> None:
        """Move what is over and above the visible part into the scrollback, while nobody looks at older
        things.
        """
        if self.scroll_offset.y < self.max_scroll_y:
            return
        over: list[TurnView | Note] = []
        for child in self.children:
            if isinstance(child, TurnView | Note):
                ended = isinstance(child, Note) or (child.turn.ended and child.settled)
                if not ended or child.virtual_region.bottom > self.scroll_offset.y:
                    break
                over.append(child)
        if over:
            with self.app.batch_update():
                self._scrollback.add([one.turn if isinstance(one, TurnView) else one.said for one in over])
                for one in over:
                    if isinstance(one, TurnView):
                        self._views.pop(one.turn.key, None)
                    one.remove()
        self._drop_old()

    def _drop_old(self) -> None:
        """Keep no more than BLOCKS blocks, and always the last turn."""
        dropped = self._scrollback.drop(self.blocks - BLOCKS)
        for key in tuple(self._views)[:-1]:
            if self.blocks <= BLOCKS:
                break
            self._views.pop(key).remove()
            dropped = True
        if dropped:
            self._tell_of_older()

    def _first_recent(self, turns: Sequence[Turn]) -> int:
        """Where the turns begin that need widgets: the open ones, those that have some, and the last few."""
        first = max(0, len(turns) - RECENT)
        for number, turn in enumerate(turns[:first]):
            if not turn.ended or turn.key in self._views:
                return number
        return first

    def _place(self, turn: Turn, after: Widget | None) -> TurnView:
        view = self._views.get(turn.key)
        if view is None:
            view = self._views[turn.key] = TurnView(turn)
            self.mount(view, after=after)
        view.show(turn)
        return view

    def _tell_of_older(self) -> None:
        self._older.update(Content(OLDER.format(self._session_id)))
        self._older.display = True


def _laid_out(shown: Sequence[Said | Called]) -> Mapping[str, Said | Called]:
    """The parts by the key of their block; long words lose their layout, the oldest first."""
    left, keyed = MARKDOWN_LINES, {}
    for part in reversed(shown):
        if isinstance(part, Said):
            left -= part.text.count("\n") + 1
            part = replace(part, plain=part.plain or left < 0)
        keyed[f"{part.key}-plain" if isinstance(part, Said) and part.plain else part.key] = part
    return dict(reversed(keyed.items()))


def _view_of(part: Said | Called) -> Widget:
    if isinstance(part, Called):
        return CallLine(part)
    return PlainAnswer() if part.plain else Answer()


async def _fill(view: Widget, part: Said | Called) -> None:
    if isinstance(part, Called) and isinstance(view, CallLine):
        view.show(part)
    elif isinstance(part, Said) and isinstance(view, Answer | PlainAnswer):
        await view.say(part.text, part.final)
