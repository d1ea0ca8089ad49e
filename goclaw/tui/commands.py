"""What a line of input means: words to an agent, or one of the few commands of this screen. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

COMMANDS: Mapping[str, tuple[str, str]] = {
    "agent": ("/agent NAME", "talk to another agent, in a session of its own"),
    "agents": ("/agents", "who there is"),
    "new": ("/new", "begin a new session with this agent"),
    "session": ("/session ID", "go to a session; without ID, say which one this is"),
    "cancel": ("/cancel [all]", "stop the running turn (Esc does the same); all: the queued ones too"),
    "help": ("/help", "this page"),
    "quit": ("/quit", "leave; what runs goes on in the background"),
}
KEYS: Sequence[tuple[str, str]] = (
    ("Enter", "send"),
    ("Ctrl+J, Shift+Enter", "new line"),
    ("Up, Down", "earlier messages"),
    ("PgUp, PgDn", "scroll"),
    ("Esc", "stop the running turn"),
    ("Ctrl+C", "copy what is selected, else clear the line, else leave"),
)
_ALIASES = {"exit": "quit", "?": "help"}
_WORD = re.compile(r"/([A-Za-z_?][\w-]*)(?:\s+(.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Say:
    """Words to the agent, as they were typed."""

    text: str


@dataclass(frozen=True, slots=True)
class Command:
    """One of COMMANDS, and what stands behind it."""

    word: str
    rest: str = ""


@dataclass(frozen=True, slots=True)
class Slip:
    """Most likely one of COMMANDS with a slip of the finger."""

    word: str
    near: str


def parse(text: str, tools: Collection[str] = ()) -> Say | Command | Slip | None:
    """What `text` means; None when it says nothing.

    A directive (`/tool key=value`) is for the agent, also when this screen does not know the tool: only a
    word that is none of `tools` and nearly one of ours is held back. A line that begins with a space is never
    a command.
    """
    if not text.strip():
        return None
    if text[0].isspace():
        return Say(text.strip())
    found = _WORD.fullmatch(text.strip())
    if found is None:
        return Say(text.strip())
    typed, rest = found.group(1), (found.group(2) or "").strip()
    word = _ALIASES.get(typed.lower(), typed.lower())
    if word in COMMANDS:
        return Command(word, rest)
    near = get_close_matches(word, COMMANDS, n=1, cutoff=0.75)
    if near and typed not in tools and "=" not in rest and not rest.startswith("{"):
        return Slip(typed, near[0])
    return Say(text.strip())


def nearest(name: str, known: Sequence[str]) -> str | None:
    """The known name that is most like `name`, if any is like it at all."""
    by_lower = {one.lower(): one for one in known}
    near = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.4)
    return by_lower[near[0]] if near else None
