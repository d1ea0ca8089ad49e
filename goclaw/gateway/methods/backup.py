"""`backup.*` and `system.verify`: copies of everything, and whether everything is explained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from goclaw.gateway.rpc import Call, Method
from goclaw.wire.params import BackupCreate, BackupPath, Nothing


class Told(Protocol):
    """Something that can say what it is."""

    def as_json(self) -> dict[str, Any]:
        """As the wire shows it."""
        ...


class Keeper(Protocol):
    """Whoever makes and looks at backups."""

    async def create(self, path: str | None, secrets: bool) -> Told:
        """Make one."""
        ...

    async def listed(self) -> Mapping[str, Any]:
        """Those there are."""
        ...

    async def check(self, path: str) -> Told:
        """Look at all of one."""
        ...

    async def verify(self) -> Told:
        """Look at all of the database that is served."""
        ...


def backup_methods(keeper: Keeper) -> tuple[Method, ...]:
    """The table of `backup.*` and `system.verify`. Each answers when it is done, and holds up no other request."""

    async def create(call: Call, params: BackupCreate) -> dict[str, Any]:
        async with call.waiting():
            return (await keeper.create(params.path, params.with_secrets)).as_json()

    async def listed(_: Call, __: Nothing) -> Mapping[str, Any]:
        return await keeper.listed()

    async def check(call: Call, params: BackupPath) -> dict[str, Any]:
        async with call.waiting():
            return (await keeper.check(params.path)).as_json()

    async def verify(call: Call, _: Nothing) -> dict[str, Any]:
        async with call.waiting():
            return (await keeper.verify()).as_json()

    return (
        Method("backup.create", BackupCreate, "acp.mutate", create),
        Method("backup.list", Nothing, "acp.read", listed),
        Method("backup.verify", BackupPath, "acp.read", check),
        Method("system.verify", Nothing, "acp.read", verify),
    )
