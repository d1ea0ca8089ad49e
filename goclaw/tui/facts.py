"""What the daemon says of itself and its agents, as far as the screen shows it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from goclaw.tui.turn import OFFLINE

SESSION_MARK = "tui-"
"""How the ids of sessions begin that this screen made."""


class LinkState(StrEnum):
    """How it stands with the daemon."""

    CONNECTING = "connecting"
    UP = "connected"
    LOST = "reconnecting"
    GONE = "daemon gone"
    """Nothing serves this home."""
    REFUSED = "not authorized"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentFacts:
    """An agent as `agent.list` tells it."""

    id: str
    display_name: str
    providers: tuple[str, ...]
    model: str

    @property
    def offline(self) -> bool:
        """Whether no model answers: directives run tools, and answers are what the tools gave."""
        return self.providers == (OFFLINE,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The daemon at one moment. `head` is the newest event, which is where a follower begins."""

    agents: tuple[AgentFacts, ...] = ()
    tools: frozenset[str] = frozenset()
    policy_version: str = ""
    head: int = 0

    def agent(self, name: str) -> AgentFacts | None:
        """The agent of this name; capital letters do not matter where that is unambiguous."""
        exact = [one for one in self.agents if one.id == name]
        alike = [one for one in self.agents if one.id.lower() == name.lower()]
        found = exact or alike
        return found[0] if len(found) == 1 else None


def facts_of(status: Mapping[str, Any], agents: Mapping[str, Any], tools: Mapping[str, Any]) -> Facts:
    """Facts from system.status, agent.list and tools.list."""
    return Facts(
        agents=tuple(_agent(one) for one in agents["agents"]),
        tools=frozenset(str(one["name"]) for one in tools["tools"]),
        policy_version=str(status.get("policy_version") or ""),
        head=int(status["db"]["latest_event_id"]),
    )


def latest_session(sessions: Sequence[Mapping[str, Any]], agent_id: str) -> str | None:
    """The session of this screen in which `agent_id` was last spoken to and which was not ended."""
    ours = [
        one
        for one in sessions
        if one["agent_id"] == agent_id and str(one["id"]).startswith(SESSION_MARK) and not one.get("ended_at")
    ]
    return str(max(ours, key=lambda one: int(one["updated_at"]))["id"]) if ours else None


def _agent(told: Mapping[str, Any]) -> AgentFacts:
    return AgentFacts(
        id=str(told["agent_id"]),
        display_name=str(told.get("display_name") or told["agent_id"]),
        providers=tuple(str(one) for one in told.get("providers") or ()),
        model=str(told.get("model") or ""),
    )
