"""The line at the bottom: who, where, with which model, under which policy, and how it stands."""

from __future__ import annotations

from dataclasses import dataclass

from textual.content import Content
from textual.reactive import reactive
from textual.widgets import Static

from goclaw.tui.facts import AgentFacts, LinkState
from goclaw.tui.turn import Turn, TurnState
from goclaw.tui.words import clean, seconds, short_id

_GAP = " \u00b7 "
_STYLES = {
    LinkState.UP: "$text-success",
    LinkState.CONNECTING: "$foreground 60%",
    LinkState.LOST: "$text-warning",
    LinkState.GONE: "$text-error",
    LinkState.REFUSED: "$text-error",
}
_SIGNS = {LinkState.UP: "\u25cf", LinkState.CONNECTING: "\u25cc", LinkState.LOST: "\u25cc"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the line shows: `turns` are the open ones, `model` answered last, `now` is the wall clock."""

    agent: AgentFacts | None = None
    session_id: str = ""
    policy_version: str = ""
    link: LinkState = LinkState.CONNECTING
    turns: tuple[Turn, ...] = ()
    model: str = ""
    now: int = 0


class StatusLine(Static):
    """Shows a `Standing` on one line; what has no room is left out, the least important first."""

    standing: reactive[Standing] = reactive(Standing())

    def render(self) -> Content:
        """The line for the present width."""
        return line(self.standing, self.size.width or 80)


def line(standing: Standing, width: int) -> Content:
    """`standing` in `width` cells: left who and where, right how it stands."""
    right = _right(standing)
    left = _left(standing)
    room = width - right.cell_length - 3
    while len(left) > 1 and sum(part.cell_length for part in left) + len(_GAP) * (len(left) - 1) > room:
        left = left[:-1]
    shown = Content(_GAP).join(left)
    filler = max(1, width - 2 - shown.cell_length - right.cell_length)
    return Content.assemble(" ", shown, " " * filler, right, " ")


def activity(turns: tuple[Turn, ...], now: int) -> str:
    """What goes on, in a few words."""
    if not turns:
        return "ready"
    current, behind = turns[0], len(turns) - 1
    word = "queued" if current.state is TurnState.QUEUED else str(current.state)
    if current.state in (TurnState.RUNNING, TurnState.WAITING) and current.since is not None:
        word = f"{word} {seconds(now - current.since)}"
    return f"{word}{_GAP}{behind} queued" if behind else word


def _right(standing: Standing) -> Content:
    busy = activity(standing.turns, standing.now)
    sign = _SIGNS.get(standing.link, "\u25cb")
    link = f"{sign} {standing.link}"
    return Content.assemble(
        (busy, "bold" if standing.turns else "$foreground 60%"),
        (_GAP, "$foreground 60%"),
        (link, _STYLES[standing.link]),
    )


def _left(standing: Standing) -> list[Content]:
    """The most important first."""
    agent = standing.agent
    parts = [Content.styled(clean(agent.id if agent else "goclaw"), "bold $text-accent")]
    if agent is not None:
        known = standing.model or agent.model or "".join(agent.providers[:1])
        model = "no model" if agent.offline else clean(known)
        parts.append(Content.styled(short_id(model, 24), "$text-warning" if agent.offline else ""))
    if standing.session_id:
        parts.append(Content.styled(short_id(standing.session_id), "$foreground 60%"))
    if standing.policy_version:
        parts.append(Content.styled(f"policy {standing.policy_version[:8]}", "$foreground 60%"))
    return [part for part in parts if part.plain]
