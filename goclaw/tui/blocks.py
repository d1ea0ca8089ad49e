"""What a conversation is made of on screen: prompts, answers, tool calls, and notes of this screen itself."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Markdown, Static
from textual.widgets.markdown import MarkdownStream

from goclaw.tui.turn import Called, Step, Turn, TurnState
from goclaw.tui.words import call_text, clean, first_line, head, tail

PROMPT_LINES = 40
PROMPT_CHARS = 8_000
ANSWER_CHARS = 60_000
"""Of a longer answer the end is shown."""
_SIGNS = {"intended": "\u00b7", "running": "\u25b8", "done": "\u2713", "failed": "\u2717", "unknown": "?"}
_DENIED = "\u2298"
_WORDS = {
    "intended": "waits",
    "running": "running \u2026",
    "unknown": "it may or may not have happened; look before it is done again",
}
"""What is said of a call instead of what it gave."""


class Prompt(Static):
    """What the user said."""

    def __init__(self, text: str) -> None:
        super().__init__(Content(head(text, PROMPT_LINES, PROMPT_CHARS)), classes="prompt")


class Answer(Markdown):
    """What the model said, as Markdown. What was rendered stays as it is while more is appended."""

    def __init__(self) -> None:
        super().__init__(open_links=False, classes="answer")
        self._shown = ""
        self._flow: MarkdownStream | None = None

    async def say(self, text: str, final: bool) -> None:
        """Show `text`; where it continues what is shown, only the rest is rendered."""
        text = clean(tail(text, ANSWER_CHARS))
        if text != self._shown:
            before, self._shown = self._shown, text
            if before and text.startswith(before):
                self._flow = self._flow or Markdown.get_stream(self)
                await self._flow.write(text[len(before) :])
            else:
                await self._stop()
                await self.update(text)
        if final:
            await self._stop()

    async def on_unmount(self) -> None:
        """Nothing is rendered any more."""
        await self._stop()

    def on_markdown_link_clicked(self, event: Markdown.LinkClicked) -> None:
        """A model wrote this link, so nothing is opened: the address is shown, to be judged and copied."""
        self.notify(clean(event.href), title="Link", markup=False)

    async def _stop(self) -> None:
        flow, self._flow = self._flow, None
        if flow is not None:
            await flow.stop()


class PlainAnswer(Static):
    """Words that are no Markdown: what a tool gave, or an answer too long to be laid out."""

    def __init__(self) -> None:
        super().__init__(classes="answer plain")

    async def say(self, text: str, final: bool) -> None:
        """Show `text`."""
        self.update(Content(clean(tail(text.rstrip("\n"), ANSWER_CHARS))))


class CallLine(Static):
    """A tool call on one line: its state, the tool, what it was called with, what it gave."""

    def __init__(self, part: Called) -> None:
        super().__init__(call_content(part.step), classes="call")
        self._step = part.step

    def show(self, part: Called) -> None:
        """Show how far the call is."""
        if part.step != self._step:
            self._step = part.step
            self.update(call_content(part.step))


class Foot(Static):
    """How a turn stands, where that is not plain from its answer."""

    def show(self, turn: Turn) -> None:
        """Show it, or nothing."""
        content = foot_content(turn)
        self.display = bool(content.plain)
        self.set_class(turn.state is TurnState.FAILED, "failed")
        self.update(content)


class Note(Static):
    """Words of this screen, not of the conversation."""

    def __init__(self, content: Content) -> None:
        super().__init__(content, classes="note")
        self.said = content


def call_content(step: Step) -> Content:
    """A tool call on one line. The state is told by a sign and a word, never by colour alone."""
    word = "denied" if step.denied else step.state
    style = {"denied": "$text-warning", "failed": "$text-error", "unknown": "$text-warning"}.get(word, "")
    sign = _DENIED if step.denied else _SIGNS.get(step.state, "?")
    given = call_text(step.arguments)
    told = _WORDS.get(word, first_line(step.text))
    if style:
        told = f"{word}: {told.removeprefix('denied by policy: ')}" if told else word
    return Content.assemble(
        (f"{sign} ", style or ("$text-success" if word == "done" else "$text-accent")),
        (clean(step.tool), "bold"),
        f" {given}" if given else "",
        ("  ", ""),
        (told, style or "$foreground 60%"),
    )


def foot_content(turn: Turn) -> Content:
    """How a turn stands, in words; empty where its answer says it all."""
    note = clean(turn.note)
    match turn.state:
        case TurnState.SENDING:
            return Content.styled("sending \u2026", "$foreground 60% italic")
        case TurnState.QUEUED:
            return Content.styled(f"queued{_because(note)}", "$foreground 60% italic")
        case TurnState.RUNNING if turn.live.strip():
            return Content.styled(note, "$foreground 60% italic")
        case TurnState.RUNNING:
            return Content.styled(f"working \u2026 {note}".rstrip(), "$foreground 60% italic")
        case TurnState.WAITING:
            return Content.styled(f"waiting to try again{_because(note)}", "$text-warning")
        case TurnState.FAILED:
            return _failure(turn.code, note)
        case TurnState.CANCELED:
            return Content.styled(f"canceled{_because(note)}", "$foreground 60% italic")
    return Content("")


def _failure(code: str, note: str) -> Content:
    told = note or "The turn failed, and the daemon does not say why; see `goclaw logs`."
    word = f"  {clean(code)}" if code else ""
    return Content.assemble((f"\u2717 {told}", "$text-error"), (word, "$foreground 60%"))


def _because(note: str) -> str:
    return f": {note}" if note else ""
