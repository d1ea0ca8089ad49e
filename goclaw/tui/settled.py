"""Markdown that will not change any more, laid out once by rich: one widget holds any number of answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.markdown import CodeBlock, Heading, Markdown
from rich.style import Style
from rich.syntax import Syntax
from rich.theme import Theme
from textual.strip import Strip

from goclaw.tui.theme import THEME

CODE_THEME = "nord-darker"


def markdown_strips(text: str, width: int, console: Console, colours: Mapping[str, str], base: Style) -> list[Strip]:
    """`text` as lines of at most `width` cells. `colours` are the names of the screen's theme; `base` lies
    below.
    """
    told = _Markdown(text, code_theme=CODE_THEME, hyperlinks=False)
    with console.use_theme(_theme(colours)):
        lines = console.render_lines(told, console.options.update_width(width), style=base, pad=False)
    return [Strip(line).simplify() for line in lines]


class _Heading(Heading):
    """Headings stand where everything else begins."""

    LEVEL_ALIGN: ClassVar[dict[str, JustifyMethod]] = dict.fromkeys(Heading.LEVEL_ALIGN, "left")


class _Code(CodeBlock):
    """Code on the ground that it has while it is written."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        code = str(self.text).rstrip()
        yield Syntax(
            code,
            self.lexer_name,
            theme=self.theme,
            word_wrap=True,
            padding=(1, 2),
            background_color=THEME.surface,
        )


class _Markdown(Markdown):
    elements: ClassVar = {**Markdown.elements, "heading_open": _Heading, "fence": _Code, "code_block": _Code}


def _theme(colours: Mapping[str, str]) -> Theme:
    primary, accent = colours["primary"], colours["accent"]
    return Theme(
        {
            "markdown.code": Style.parse(f"{colours['warning']} on {colours['surface']}"),
            "markdown.code_block": Style(),
            "markdown.block_quote": Style(italic=True),
            "markdown.list": Style(),
            "markdown.item.bullet": Style.parse(primary),
            "markdown.item.number": Style.parse(primary),
            "markdown.hr": Style.parse(colours["panel"]),
            "markdown.h1": Style.parse(f"bold {accent}"),
            "markdown.h2": Style.parse(f"underline {primary}"),
            "markdown.h3": Style.parse(f"bold {primary}"),
            "markdown.h4": Style.parse(f"underline {primary}"),
            "markdown.link": Style.parse("underline"),
            "markdown.link_url": Style.parse("underline"),
            "markdown.table.border": Style.parse(colours["panel"]),
            "markdown.table.header": Style.parse(primary),
        }
    )
