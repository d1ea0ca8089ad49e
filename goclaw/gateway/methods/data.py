"""`session.export` and `session.purge`: a conversation taken along, and a conversation forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Protocol

from goclaw.errors import BadRequest
from goclaw.gateway.methods.session import find
from goclaw.gateway.methods.task import cursor_of
from goclaw.gateway.rpc import Call, Method
from goclaw.gateway.shapes import session_object
from goclaw.store import export
from goclaw.store.purge import Report
from goclaw.wire.params import SessionExport, SessionId

MAX_PAGE = 500


class Purging(Protocol):
    """Who forgets."""

    async def sessions(self, session_ids: Sequence[str]) -> Report:
        """Forget these sessions."""
        ...


def data_methods(purging: Purging) -> tuple[Method, ...]:
    """The two methods."""

    async def purge(_: Call, params: SessionId) -> dict[str, Any]:
        report = asdict(await purging.sessions([params.session_id]))
        return {"session_id": params.session_id, "purged": True, **report, "copies": list(report["copies"])}

    return (
        Method("session.export", SessionExport, "acp.read", _export),
        Method("session.purge", SessionId, "acp.mutate", purge),
    )


async def _export(call: Call, params: SessionExport) -> dict[str, Any]:
    if not 1 <= params.limit <= MAX_PAGE:
        raise BadRequest(f"limit is from 1 to {MAX_PAGE}", field="limit")
    session = await find(call, params.session_id)
    after = cursor_of(params.cursor) or 0
    items = await call.house.database.read(export.messages, session.key, after, params.limit + 1)
    page: dict[str, Any] = {"session": session_object(session)}
    shown = items[: params.limit]
    if params.format == "markdown":
        page["markdown"] = (export.head(session) if not after else "") + "".join(map(export.markdown, shown))
    else:
        page["items"] = shown
    if len(items) > params.limit:
        page["next_cursor"] = str(shown[-1]["id"])
    return page
