"""Which agent one talks to, and in which session: found at the start, switched on request, remembered."""

from __future__ import annotations

from dataclasses import dataclass

from goclaw.clock import new_id
from goclaw.core.agent import DEFAULT_AGENT
from goclaw.core.intake import check_session_id
from goclaw.errors import BadRequest, NotFound, RpcError
from goclaw.tui.commands import nearest
from goclaw.tui.facts import SESSION_MARK, AgentFacts, Facts, latest_session
from goclaw.tui.reach import Reach
from goclaw.tui.talk import NOT_FOUND, Place

SESSIONS = 200
"""Sessions among which the latest one of an agent is looked for: the newest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Where to begin. Without `agent` that of the session, else the default one; without `session` the latest
    one of the agent.
    """

    agent: str | None = None
    session: str | None = None


class Desk:
    """Finds places. Its methods raise ClientError, NotFound for an agent nobody knows, BadRequest for an id
    that is none.
    """

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._last: dict[str, str] = {}

    async def first(self, start: Start) -> Place:
        """Where to begin."""
        if start.session is None:
            return await self.agent(start.agent or DEFAULT_AGENT)
        place = await self.session(start.session, start.agent or DEFAULT_AGENT)
        if start.agent is not None and place.agent.id != start.agent:
            raise BadRequest(f"session {start.session} belongs to agent {place.agent.id}", field="session")
        return place

    async def agent(self, name: str) -> Place:
        """The session in which that agent was last spoken to, in this run or before, else a new one."""
        return await self._of(_agent(await self._reach.facts(), name))

    async def session(self, session_id: str, agent_id: str) -> Place:
        """That session with the agent it belongs to. One that does not exist begins with its first message
        and will belong to `agent_id`.
        """
        check_session_id(session_id)
        facts = await self._reach.facts()
        try:
            found = await self._reach.client.call("session.get", {"session_id": session_id})
            owner = str(found["agent_id"])
        except RpcError as error:
            if error.rpc_code != NOT_FOUND:
                raise
            owner = agent_id
        return self._at(session_id, _agent(facts, owner))

    def fresh(self, agent: AgentFacts) -> Place:
        """A new session with that agent; it exists from its first message on."""
        return self._at(SESSION_MARK + new_id(self._reach.clock)[-12:], agent)

    async def _of(self, agent: AgentFacts) -> Place:
        if (known := self._last.get(agent.id)) is not None:
            return self._at(known, agent)
        sessions = (await self._reach.client.call("session.list", {"limit": SESSIONS}))["sessions"]
        latest = latest_session(sessions, agent.id)
        return self._at(latest, agent) if latest is not None else self.fresh(agent)

    def _at(self, session_id: str, agent: AgentFacts) -> Place:
        self._last[agent.id] = session_id
        return Place(session_id=session_id, agent=agent)


def _agent(facts: Facts, name: str) -> AgentFacts:
    found = facts.agent(name)
    if found is not None:
        return found
    known = sorted(one.id for one in facts.agents)
    near = nearest(name, known)
    guess = f" Did you mean {near}?" if near else ""
    raise NotFound(f"There is no agent {name!r}.{guess} Agents: {', '.join(known)}.", agent_id=name)
