"""What this screen says by itself: the welcome, the help, who there is, what went wrong."""

from __future__ import annotations

from collections.abc import Iterable

from textual.content import Content

from goclaw.errors import GoclawError, RpcError
from goclaw.tui.commands import COMMANDS, KEYS
from goclaw.tui.facts import AgentFacts, Facts, LinkState
from goclaw.tui.words import clean

BANNERS = {
    LinkState.LOST: "The daemon does not answer; trying again. If it was stopped: `goclaw daemon start`",
    LinkState.GONE: "No daemon serves this home; `goclaw daemon start` starts one, and all goes on.",
    LinkState.REFUSED: "The daemon refuses to answer:",
}
NO_MODEL = (
    "No model is configured, so only directives are answered, for example /list_directory path=. "
    "For a model set ANTHROPIC_API_KEY, OPENAI_API_KEY or OPENROUTER_API_KEY, or start Ollama, "
    "and restart the daemon."
)


def welcome(agent: AgentFacts) -> Content:
    """The first words of an empty session."""
    name = clean(agent.display_name)
    parts: list[tuple[str, str] | str] = [
        ("goclaw", "bold $text-accent"),
        (f"  You are talking to {name}. Type a message and press Enter; /help shows what else there is.", ""),
    ]
    if agent.offline:
        parts.append((f"\n{NO_MODEL}", "$text-warning"))
    return Content.assemble(*parts)


def help_page() -> Content:
    """The commands and the keys."""
    lines = [Content.styled("Commands", "bold"), *_table(COMMANDS.values())]
    lines += [Content.styled("Keys", "bold"), *_table(KEYS)]
    lines.append(
        Content.styled(
            "Any other /word goes to the agent; with a space before it, these do too.",
            "$foreground 60%",
        )
    )
    return Content("\n").join(lines)


def agents_page(facts: Facts, current: str) -> Content:
    """Who there is."""
    lines = [Content.styled("Agents", "bold")]
    for agent in facts.agents:
        mark = "\u25cf" if agent.id == current else " "
        model = agent.model or ", ".join(agent.providers) or "no provider"
        told = f"{agent.display_name}, {'no model' if agent.offline else model}"
        lines.append(
            Content.assemble(
                (f"{mark} ", "$text-accent"),
                (f"{clean(agent.id):<20} ", ""),
                (clean(told), "$foreground 60%"),
            )
        )
    return Content("\n").join(lines)


def said(words: str) -> Content:
    """A plain sentence."""
    return Content.styled(clean(words), "$foreground 60%")


def slip(word: str, near: str) -> Content:
    """A command that was most likely meant to be another."""
    return trouble(f"There is no /{word}; did you mean /{near}? A space before the slash sends it as it is.")


def trouble(words: str) -> Content:
    """A sentence about something that did not work."""
    return Content.styled(clean(words), "$text-error")


def why(error: GoclawError) -> str:
    """An error in one line, with its stable word where it has one."""
    word = error.word if isinstance(error, RpcError) else ""
    return f"{error.message} ({word})" if word else error.message


def banner(state: LinkState, reason: str) -> Content:
    """The line that stands above the prompt while the daemon does not answer; empty while it does."""
    words = BANNERS.get(state, "")
    if state is LinkState.REFUSED:
        words = f"{words} {clean(reason)}"
    return Content(words)


def _table(rows: Iterable[tuple[str, str]]) -> list[Content]:
    return [Content.assemble((f"  {left:<21}", "$text-accent"), (right, "$foreground 60%")) for left, right in rows]
