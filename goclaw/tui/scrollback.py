"""What has scrolled out of sight, in one widget: its lines are laid out once and drawn where they are looked
at.

A widget for every paragraph of a long conversation would make every new word cost more than the one before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.segment import Segment
from textual.content import Content
from textual.geometry import Size
from textual.selection import Selection
from textual.strip import Strip
from textual.visual import Visual
from textual.widget import Widget

from goclaw.tui.blocks import ANSWER_CHARS, PROMPT_CHARS, PROMPT_LINES, call_content, foot_content
from goclaw.tui.settled import markdown_strips
from goclaw.tui.turn import Called, Said, Turn, parts
from goclaw.tui.words import clean, head, tail

LINES = 10_000
"""Lines that are kept at most; the oldest go first, a turn or a note at a time."""
_INDENT = 2
_BAR = "\u258c"


@dataclass(frozen=True, slots=True)
class Entry:
    """A turn, or words of this screen, and how it is laid out."""

    key: str
    source: Turn | Content
    blocks: int
    lines: tuple[Strip, ...]


class Scrollback(Widget):
    """Entries below each other, the oldest at the top."""

    COMPONENT_CLASSES = {"scrollback--bar", "scrollback--note-bar", "scrollback--prompt"}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__(id="scrollback")
        self._entries: dict[str, Entry] = {}
        self._lines: list[Strip] = []
        self._width = 0
        self._notes = 0

    @property
    def blocks(self) -> int:
        """How many blocks it has."""
        return sum(entry.blocks for entry in self._entries.values())

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The turns it has, oldest first."""
        return tuple(entry.source for entry in self._entries.values() if isinstance(entry.source, Turn))

    @property
    def text(self) -> str:
        """Its lines as plain text."""
        return "\n".join(line.text.rstrip() for line in self._lines)

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def add(self, sources: Iterable[Turn | Content]) -> None:
        """Put these at the bottom. A turn that is here already is changed in its place."""
        for source in sources:
            self._notes += isinstance(source, Content)
            key = source.key if isinstance(source, Turn) else f"note {self._notes}"
            if key not in self._entries or self._entries[key].source != source:
                self._entries[key] = self._laid_out(key, source)
        self._relay()

    def keep(self, keys: set[str]) -> None:
        """Drop the turns that are not among `keys`."""
        gone = [turn.key for turn in self.turns if turn.key not in keys]
        for key in gone:
            del self._entries[key]
        if gone:
            self._relay()

    def drop(self, blocks: int) -> bool:
        """Drop the oldest entries, `blocks` blocks at least and what is beyond LINES; whether any were
        dropped.
        """
        lines, gone = len(self._lines) - LINES, []
        for key, entry in self._entries.items():
            if blocks <= 0 and lines <= 0:
                break
            blocks, lines = blocks - entry.blocks, lines - len(entry.lines)
            gone.append(key)
        for key in gone:
            del self._entries[key]
        if gone:
            self._relay()
        return bool(gone)

    def clear(self) -> None:
        """Have nothing."""
        self._entries = {}
        self._relay()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """All lines. Another width lays everything out anew."""
        if width and width != self._width:
            self._width = width
            for key, entry in self._entries.items():
                self._entries[key] = self._laid_out(key, entry.source)
            self._flatten()
        return len(self._lines)

    def render_line(self, y: int) -> Strip:
        """One line, with what is selected of it."""
        style = self.visual_style.rich_style
        if y >= len(self._lines):
            return Strip.blank(self.size.width, style)
        line = self._lines[y].apply_offsets(0, y).extend_cell_length(self.size.width, style)
        selection = self.text_selection
        span = selection.get_span(y) if selection is not None else None
        if span is None:
            return line
        end = line.cell_length if span[1] == -1 else span[1]
        mark = self.screen.get_component_rich_style("screen--selection")
        return Strip.join([line.crop(0, span[0]), line.crop(span[0], end).apply_style(mark), line.crop(end)])

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """The words that are selected."""
        return selection.extract(self.text), "\n"

    def selection_updated(self, selection: Selection | None) -> None:
        """Draw it."""
        self.refresh()

    def _relay(self) -> None:
        self._flatten()
        self.refresh(layout=True)

    def _flatten(self) -> None:
        self._lines = [line for entry in self._entries.values() for line in entry.lines]

    def _laid_out(self, key: str, source: Turn | Content) -> Entry:
        if not self._width:
            return Entry(key, source, 1, ())
        if isinstance(source, Content):
            return Entry(key, source, 1, (*self._barred(source, "scrollback--note-bar", ""), Strip([])))
        shown = parts(source)
        prompt = Content(head(source.prompt, PROMPT_LINES, PROMPT_CHARS))
        lines = [*self._barred(prompt, "scrollback--bar", "scrollback--prompt"), Strip([])]
        for before, part in zip((None, *shown), shown, strict=False):
            if isinstance(part, Said) and isinstance(before, Called):
                lines.append(Strip([]))
            lines += self._part(part)
        if shown and isinstance(shown[-1], Called):
            lines.append(Strip([]))
        foot = foot_content(source)
        if foot.plain:
            lines += [*self._indented(foot), Strip([])]
        return Entry(key, source, 1 + len(shown), tuple(lines))

    def _part(self, part: Said | Called) -> Sequence[Strip]:
        if isinstance(part, Called):
            return self._indented(call_content(part.step).truncate(self._width - 2 * _INDENT, ellipsis=True))
        words = clean(tail(part.text, ANSWER_CHARS))
        if part.plain:
            return [*self._indented(Content(words.rstrip("\n"))), Strip([])]
        room = self._width - 2 * _INDENT
        base = self.visual_style.rich_style
        lines = markdown_strips(words, room, self.app.console, self.app.theme_variables, base)
        return [*self._shifted(lines), Strip([])]

    def _indented(self, content: Content) -> list[Strip]:
        room = self._width - 2 * _INDENT
        strips = Visual.to_strips(self, content, room, None, self.visual_style, apply_selection=False)
        return self._shifted(strips)

    def _shifted(self, strips: Iterable[Strip]) -> list[Strip]:
        edge = Strip([Segment(" " * _INDENT, self.visual_style.rich_style)])
        return [Strip.join([edge, strip]) for strip in strips]

    def _barred(self, content: Content, bar: str, below: str) -> list[Strip]:
        """Words behind a bar, on the ground of the component class `below`."""
        style = self.get_visual_style("scrollback--prompt") if below else self.visual_style
        room = self._width - _INDENT
        strips = Visual.to_strips(self, content, room, None, style, pad=True, apply_selection=False)
        edge = Strip([Segment(_BAR, self.get_component_rich_style(bar)), Segment(" ", style.rich_style)])
        return [Strip.join([edge, strip]) for strip in strips]
