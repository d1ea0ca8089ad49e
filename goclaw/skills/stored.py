"""The skill registry bound to the table skill_registry."""

from __future__ import annotations

from collections.abc import Mapping

from goclaw.core.ports import Clock
from goclaw.db.database import Database
from goclaw.skills.quarantine import SkillRecord
from goclaw.store import skills


class StoredSkillRegistry:
    """Fits `SkillRegistry`; every change is durable before it counts."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def record_fault(self, name: str, version: str, limit: int) -> int:
        """Count one fault in a row of this version."""
        return await self._database.write(skills.record_fault, name, version, limit, self._clock.wall())

    async def clear(self, name: str) -> None:
        """Forget the faults of a skill."""
        await self._database.write(skills.clear, name, self._clock.wall())

    async def states(self) -> Mapping[str, SkillRecord]:
        """All records by name."""
        rows = await self._database.read(skills.states)
        return {name: SkillRecord(version, faults, quarantined) for name, version, faults, quarantined in rows}
