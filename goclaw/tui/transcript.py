"""The conversation on screen: turns below each other, the newest at the bottom, never more than BLOCKS blocks."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Static

from goclaw.tui.blocks import Answer, CallLine, Foot, Note, PlainAnswer, Prompt
from goclaw.tui.turn import Called, Said, Turn, parts

BLOCKS = 2_000
COALESCE_S = 0.05
"""Changes within this time are rendered together."""
PARTS = 300
"""Parts of one turn that are shown: the last ones."""
MARKDOWN_LINES = 500
"""Lines of one turn that are laid out as Markdown: the last ones. What stands above is plain text."""


class TurnView(Vertical):
    """One turn. `show` may be called as often as the turn changes; it is rendered at its own pace."""

    def __init__(self, turn: Turn) -> None:
        super().__init__(classes="turn")
        self._turn = turn
        self._views: dict[str, Widget] = {}
        self._timer: Timer | None = None
        self._foot = Foot(classes="foot")

    def compose(self) -> ComposeResult:
        """The prompt, and below all parts how the turn stands."""
        yield Prompt(self._turn.prompt)
        yield self._foot

    async def on_mount(self) -> None:
        """Render what there is."""
        await self._render_turn()

    def show(self, turn: Turn) -> None:
        """Show how the turn is now, soon."""
        self._turn = turn
        if self._timer is None:
            self._timer = self.set_timer(COALESCE_S, self._due)

    @property
    def blocks(self) -> int:
        """How many blocks this turn has on screen."""
        return len(self.query("*"))

    async def _due(self) -> None:
        self._timer = None
        await self._render_turn()

    async def _render_turn(self) -> None:
        """Change what differs from what is on screen; parts that stay are not touched."""
        turn = self._turn
        shown = _with_modes(parts(turn)[-PARTS:])
        for key in [key for key in self._views if key not in shown]:
            await self._views.pop(key).remove()
        above: Widget = self.query_one(Prompt)
        for key, part in shown.items():
            view = self._views.get(key)
            if view is None:
                view = self._views[key] = _view_of(key, part)
                await self.mount(view, after=above)
            above = view
            if isinstance(part, Called) and isinstance(view, CallLine):
                view.show(part)
            elif isinstance(part, Said) and isinstance(view, Answer | PlainAnswer):
                await view.say(part.text, part.final)
        self.set_class(turn.task_id is None, "unsent")
        self._foot.show(turn)


class Transcript(VerticalScroll, can_focus=False):
    """All turns and notes. Stays at the bottom unless somebody scrolled up."""

    def compose(self) -> ComposeResult:
        """A line for what is not shown."""
        yield Static("", id="older", classes="note")

    def on_mount(self) -> None:
        """Stay at the bottom."""
        self.query_one("#older").display = False
        self.anchor()

    async def open(self, turns: Sequence[Turn], more: bool) -> None:
        """Show these turns. Those that are on screen stay where they are; notes stay too."""
        kept = {turn.key for turn in turns}
        for key, view in self._turn_views().items():
            if key not in kept:
                await view.remove()
        for turn in turns:
            self.show(turn)
        if more:
            self._tell_of_older()

    def show(self, turn: Turn) -> None:
        """Show a turn that is new or changed."""
        view = self._turn_views().get(turn.key)
        if view is not None:
            view.show(turn)
            return
        view = TurnView(turn)
        view.key = turn.key
        self.mount(view)
        self._drop_old()

    def note(self, content: Content) -> None:
        """Show words of this screen below everything."""
        self.mount(Note(content))
        self._drop_old()

    async def clear(self) -> None:
        """Show nothing."""
        await self.query("TurnView, Note").remove()
        self.query_one("#older").display = False
