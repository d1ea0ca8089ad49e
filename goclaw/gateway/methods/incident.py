"""`incident.export`: everything there is about a task, a session or a span of time, in one file."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from goclaw.clock import new_id
from goclaw.errors import BadRequest
from goclaw.gateway.rpc import Call, Method
from goclaw.log.bundle import Lines, pack, pick_lines, thin_out
from goclaw.store import incident
from goclaw.wire.params import IncidentExport

MAX_DOCTOR = 200


def incident_methods(folder: Path, logs: Path, redact: Callable[[Any], Any]) -> tuple[Method, ...]:
    """The method. Bundles go into `folder`, the newest 20 stay; `redact` takes secrets out of a JSON value."""

    async def export(call: Call, params: IncidentExport) -> dict[str, Any]:
        query = incident.query_of(params.task_id, params.session_id, params.since, params.until)
        if len(params.doctor) > MAX_DOCTOR:
            raise BadRequest(f"doctor takes at most {MAX_DOCTOR} findings", field="doctor")
        house = call.house
        now = house.clock.wall()
        found = await house.database.read(partial(incident.collect, content=params.with_content), query, now)
        ids = found.task_ids | ({query.session_id} if query.session_id else set())
        lines = await asyncio.to_thread(pick_lines, logs, Lines(ids=ids, since=found.since, until=found.until))
        status = dict(await house.vitals.status())
        tables = {**found.rows, "log": lines, "status": [status], "doctor": params.doctor}
        facts = {
            **incident.facts(query, found, now, params.with_content),
            "server": f"goclaw/{house.identity.version}",
            "boot_id": house.identity.boot_id,
            "log_id": house.identity.log_id,
            "config_hash": status["config_hash"],
            "policy_version": status["policy_version"],
        }
        path = folder / f"incident-{new_id(house.clock)}.zip"
        manifest = await asyncio.to_thread(pack, path, tables, facts, redact)
        await asyncio.to_thread(thin_out, folder)
        return {"path": str(path), "bytes": path.stat().st_size, "manifest": manifest}

    return (Method("incident.export", IncidentExport, "acp.mutate", export),)
