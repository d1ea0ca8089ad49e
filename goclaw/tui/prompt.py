"""The line where a person types: Enter sends, Ctrl+J and Shift+Enter begin a new line, Up recalls."""

from __future__ import annotations

from textual import events
from textual.message import Message
from textual.widgets import TextArea

HISTORY = 200
"""Messages that Up recalls."""
_SEND = frozenset({"enter", "kp_enter"})
_NEW_LINE = frozenset({"ctrl+j", "shift+enter", "alt+enter"})


class PromptBox(TextArea):
    """A text area that grows with its text, up to eight lines."""

    class Submitted(Message):
        """The person pressed Enter; `text` as it was typed."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self) -> None:
        super().__init__(
            id="prompt",
            compact=True,
            highlight_cursor_line=False,
            placeholder="Message, or /help",
            tab_behavior="focus",
        )
        self._sent: list[str] = []
        self._at = 0
        self._draft = ""

    async def _on_key(self, event: events.Key) -> None:
        if event.key in _SEND or event.key in _NEW_LINE or self._recalls(event.key):
            event.stop()
            event.prevent_default()
        if event.key in _SEND:
            self._submit()
        elif event.key in _NEW_LINE:
            self.insert("\n")
        elif self._recalls(event.key):
            self._recall(-1 if event.key == "up" else 1)
        else:
            await super()._on_key(event)

    def put_back(self, text: str) -> None:
        """Give a text back that could not be sent, unless something new is being typed."""
        if not self.text.strip():
            self._show(text)

    def _submit(self) -> None:
        text = self.text
        if not text.strip():
            return
        if self._sent[-1:] != [text]:
            self._sent = [*self._sent, text][-HISTORY:]
        self._at, self._draft = len(self._sent), ""
        self.clear()
        self.post_message(self.Submitted(text))

    def _recalls(self, key: str) -> bool:
        """Whether this key leaves the text: Up in its first line, Down in its last."""
        if key == "up":
            return self.cursor_at_first_line and self._at > 0
        return key == "down" and self.cursor_at_last_line and self._at < len(self._sent)

    def _recall(self, step: int) -> None:
        if self._at == len(self._sent):
            self._draft = self.text
        self._at += step
        self._show(self._sent[self._at] if self._at < len(self._sent) else self._draft)

    def _show(self, text: str) -> None:
        self.load_text(text)
        self.move_cursor(self.document.end)
