"""`session.*`: conversations, their history and their events."""

from __future__ import annotations

from typing import Any

from goclaw.clock import new_id
from goclaw.core.agent import DEFAULT_AGENT
from goclaw.core.intake import check_session_id
from goclaw.errors import BadRequest, Conflict, NotFound, ReplayGap
from goclaw.gateway.methods.agent import chat
from goclaw.gateway.methods.task import cursor_of
from goclaw.gateway.rpc import Call, Later, Method
from goclaw.gateway.shapes import event_object, session_object
from goclaw.store import events, removed, sessions
from goclaw.store.sessions import Session
from goclaw.wire.params import AgentChat, EventsRead, SessionCreate, SessionHistory, SessionId, SessionList, Subscribe

MAX_PAGE = 500
MAX_EVENTS = 1_000
ALL = "*"


async def _create(call: Call, params: SessionCreate) -> dict[str, Any]:
    check_session_id(params.session_id)
    agent_id = params.agent_id or DEFAULT_AGENT
    if agent_id not in call.house.agents():
        raise NotFound(f"there is no agent {agent_id!r}", agent_id=agent_id)
    session_id = params.session_id or new_id(call.house.clock)
    made = await call.house.database.write(sessions.ensure, session_id, agent_id, call.house.clock.wall())
    if made.agent_id != agent_id:
        raise Conflict(f"session {session_id} belongs to agent {made.agent_id}", session_id=session_id)
    return session_object(made)


async def _end(call: Call, params: SessionId) -> dict[str, Any]:
    # Looked up in the transaction that ends it: a mutation takes effect in the order of its frame.
    if not await call.house.database.write(sessions.end_named, params.session_id, call.house.clock.wall()):
        raise _absent(params.session_id)
    return {"session_id": params.session_id, "ended": True}


async def _list(call: Call, params: SessionList) -> dict[str, Any]:
    if not 1 <= params.limit <= MAX_PAGE:
        raise BadRequest(f"limit is from 1 to {MAX_PAGE}", field="limit")
    found = await call.house.database.read(sessions.page, params.limit + 1, cursor_of(params.cursor))
    page: dict[str, Any] = {"sessions": [session_object(session) for session in found[: params.limit]]}
    if len(found) > params.limit:
        page["next_cursor"] = str(found[params.limit - 1].key)
    return page


async def _get(call: Call, params: SessionId) -> dict[str, Any]:
    return session_object(await find(call, params.session_id))


async def _history(call: Call, params: SessionHistory) -> dict[str, Any]:
    if not 1 <= params.limit <= MAX_PAGE:
        raise BadRequest(f"limit is from 1 to {MAX_PAGE}", field="limit")
    session = await find(call, params.session_id)
    items = await call.house.database.read(sessions.history, session.key, params.limit, params.before)
    return {"items": items}


async def _subscribe(call: Call, params: Subscribe) -> Later:
    if params.session_id != ALL:
        check_session_id(params.session_id)
    head = await call.house.database.read(events.head)
    cursor = head if params.from_event_id == "latest" else params.from_event_id
    await _check_cursor(call, params, cursor, head)
    async with call.waiting():
        subscribed, sent = await call.connection.replay(params.session_id, cursor)
        try:
            # Retention may have taken something away in the middle of a long replay.
            await _check_cursor(call, params, cursor, head)
        except ReplayGap:
            call.connection.leave(params.session_id)
            raise
    answer = {"subscribed": True, "replayed": sent, "latest_event_id": subscribed.cursor}
    return Later(answer, lambda: call.connection.join(subscribed))


async def _check_cursor(call: Call, params: Subscribe, cursor: int, head: int) -> None:
    """Refuse a cursor behind which an event may be missing, or that is none of this log. 0 is always one."""
    wrong_log = params.log_id is not None and params.log_id != call.house.identity.log_id
    floor = await call.house.database.read(removed.floor)
    if not wrong_log and (cursor == 0 or floor <= cursor <= head):
        return
    # Behind the floor nothing is missing; what is kept below it (tasks that are not over) is read from 0.
    raise ReplayGap(
        "the cursor belongs to another log" if wrong_log else "the cursor lies outside the events that are kept",
        oldest_event_id=await call.house.database.read(events.oldest),
        resume_from=floor,
    )


async def _unsubscribe(call: Call, params: SessionId) -> dict[str, Any]:
    return {"unsubscribed": call.connection.leave(params.session_id)}


async def _read(call: Call, params: EventsRead) -> dict[str, Any]:
    if not 1 <= params.limit <= MAX_EVENTS:
        raise BadRequest(f"limit is from 1 to {MAX_EVENTS}", field="limit")
    if params.session_id == ALL:
        found = await call.house.database.read(events.read_after, params.from_event_id, params.limit)
    else:
        found = await call.house.database.read(
            events.read_session, params.session_id, params.from_event_id, params.limit
        )
    return {"events": [event_object(event) for event in found]}


async def find(call: Call, session_id: str) -> Session:
    """The session. Raises NotFound."""
    session = await call.house.database.read(sessions.find, session_id)
    if session is None:
        raise _absent(session_id)
    return session


def _absent(session_id: str) -> NotFound:
    return NotFound(f"there is no session {session_id}", session_id=session_id)


async def _message(call: Call, params: AgentChat) -> dict[str, Any]:
    return await chat(call, params)


TABLE = (
    Method("session.create", SessionCreate, "acp.mutate", _create),
    Method("session.message", AgentChat, "acp.mutate", _message),
    Method("session.end", SessionId, "acp.mutate", _end),
    Method("session.list", SessionList, "acp.read", _list),
    Method("session.get", SessionId, "acp.read", _get),
    Method("session.history", SessionHistory, "acp.read", _history),
    Method("session.events.subscribe", Subscribe, "acp.read", _subscribe, needs_socket=True),
    Method("session.events.unsubscribe", SessionId, "acp.read", _unsubscribe, needs_socket=True),
    Method("session.events.read", EventsRead, "acp.read", _read),
)
