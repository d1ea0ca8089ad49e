"""`system.*`: the handshake, the state of the daemon, pause and resume."""

from __future__ import annotations

import asyncio
from difflib import get_close_matches
from typing import Any

from goclaw.core.task import KINDS, TaskState
from goclaw.errors import BadRequest, HelloRequired, NotFound
from goclaw.gateway.rpc import Call, Method
from goclaw.store import tasks
from goclaw.store.tasks import TaskFilter
from goclaw.wire.frames import PROTOCOL, VERSION
from goclaw.wire.params import Hello, Nothing, Pause

KILL_PAGE = 500
FEATURES = [
    "events.cursor",
    "events.log_id",
    "deltas",
    "task.wait",
    "task.submit_many",
    "idempotency",
    "concurrency_key",
    "unique_key",
    "task.snooze",
    "subtask",
]


async def _hello(call: Call, params: Hello) -> dict[str, Any]:
    if params.version != VERSION:
        raise HelloRequired(
            f"version {params.version!r} is not supported", supported_min=VERSION, supported_max=VERSION
        )
    if call.peer is not None:
        call.peer.greeted = True
    identity = call.house.identity
    return {
        "protocol": PROTOCOL,
        "version": VERSION,
        "supported_min": VERSION,
        "supported_max": VERSION,
        "server": f"goclaw/{identity.version}",
        "boot_id": identity.boot_id,
        "log_id": identity.log_id,
        "features": FEATURES,
    }


async def _status(call: Call, _: Nothing) -> Any:
    return await call.house.vitals.status()


async def _ping(call: Call, _: Nothing) -> dict[str, Any]:
    return {"pong": True, "time": call.house.clock.wall()}


async def _pause(call: Call, params: Pause) -> dict[str, Any]:
    scope, name = _scope(params)
    _check_known(call, scope, name)
    await call.house.tasks.pause(scope, name)
    killed = await _kill(call, scope, name) if params.kill else 0
    return {"paused": True, "scope": scope, "name": name, "killed": killed}


async def _resume(call: Call, params: Pause) -> dict[str, Any]:
    scope, name = _scope(params)
    await call.house.tasks.resume(scope, name)
    return {"paused": False, "scope": scope, "name": name}


async def _kill(call: Call, scope: str, name: str) -> int:
    """End what runs in the scope, all of it at once; nothing new starts meanwhile."""
    where = TaskFilter(
        state=TaskState.RUNNING,
        agent_id=name if scope == "agent" else None,
        kind=name if scope == "kind" else None,
    )
    killed, cursor = 0, None
    while running := await call.house.database.read(tasks.page, where, KILL_PAGE, cursor):
        ended = await asyncio.gather(*(call.house.cancel(task.id, "emergency stop") for task in running))
        killed += sum(canceled for canceled, *_ in ended)
        cursor = running[-1].key
    return killed


def _check_known(call: Call, scope: str, name: str) -> None:
    """A pause of nothing is a typing error. A resume may name what is gone by now."""
    known = {"all": [""], "agent": sorted(call.house.agents()), "kind": sorted(KINDS)}[scope]
    if name not in known:
        raise NotFound(f"there is no {scope} {name!r}{_near(name, known)}", **{scope: name})


def _near(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known)}"


def _scope(params: Pause) -> tuple[str, str]:
    if params.scope == "all":
        return "all", ""
    name = params.agent_id if params.scope == "agent" else params.kind
    if not name:
        wanted = "agent_id" if params.scope == "agent" else "kind"
        raise BadRequest(f"scope {params.scope} needs {wanted}", field=wanted)
    return params.scope, name


TABLE = (
    Method("system.hello", Hello, "acp.read", _hello),
    Method("system.status", Nothing, "acp.read", _status),
    Method("system.ping", Nothing, "acp.read", _ping),
    Method("system.pause", Pause, "acp.mutate", _pause),
    Method("system.resume", Pause, "acp.mutate", _resume),
)
