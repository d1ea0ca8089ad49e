"""Setting aside a skill that keeps failing, until a person enables it again."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from goclaw.core.ports import Emit
from goclaw.errors import SkillQuarantined

FAULTS_UNTIL_QUARANTINE: Final = 3


@dataclass(frozen=True, slots=True)
class SkillRecord:
    """What is remembered of one version of a skill, beyond restarts."""

    version: str
    faults: int = 0
    quarantined: bool = False


class SkillRegistry(Protocol):
    """The durable memory of faults, one record for each skill name."""

    async def record_fault(self, name: str, version: str, limit: int) -> int:
        """Count one fault, in one commit: the faults in a row of this version, this one included. Another
        version than the recorded one starts at 1 and active; reaching `limit` makes the record
        quarantined."""
        ...

    async def clear(self, name: str) -> None:
        """No faults and active. A name that is not recorded is no error."""
        ...

    async def states(self) -> Mapping[str, SkillRecord]:
        """All records by name."""
        ...


class Quarantine:
    """Counts faults in a row. Answers from memory; every change is durable before it counts.

    A quarantine holds for the version that earned it: a skill that was changed starts afresh.
    """

    def __init__(self, registry: SkillRegistry, emit: Emit) -> None:
        self._registry = registry
        self._emit = emit
        self._records: dict[str, SkillRecord] = {}
        self._changing = asyncio.Lock()

    async def load(self) -> None:
        """Read what earlier runs recorded; call it before the first skill runs."""
        self._records = dict(await self._registry.states())

    def record(self, name: str, version: str) -> SkillRecord:
        """The record of this version; an unblemished one if nothing is known against it."""
        known = self._records.get(name)
        return known if known is not None and known.version == version else SkillRecord(version)

    def refuse(self, name: str, version: str) -> None:
        """Raises SkillQuarantined, naming the way out, while this version is set aside."""
        record = self.record(name, version)
        if record.quarantined:
            raise SkillQuarantined(
                f"skill {name} failed {record.faults} times in a row and is quarantined; "
                f"when its fault is found, run: goclaw skill enable {name}",
                skill=name,
            )

    async def faulted(self, name: str, version: str) -> int:
        """Record one more fault and return how many it are in a row."""
        async with self._changing:
            already = self.record(name, version).quarantined
            faults = await self._registry.record_fault(name, version, FAULTS_UNTIL_QUARANTINE)
            quarantined = already or faults >= FAULTS_UNTIL_QUARANTINE
            self._records[name] = SkillRecord(version, faults, quarantined)
        if quarantined and not already:
            self._emit("skill.quarantined", {"skill": name, "version": version, "faults": faults})
        return faults

    async def succeeded(self, name: str, version: str) -> None:
        """End a row of faults. Costs nothing when there is none, and lifts no quarantine."""
        if not self.record(name, version).faults:
            return
        async with self._changing:
            # Asked again: calls run beside one another, and a fault may have come in while this one waited.
            if not self.record(name, version).quarantined:
                await self._registry.clear(name)
                self._records.pop(name, None)

    async def enable(self, name: str) -> bool:
        """Lift the quarantine and forget the faults; False when the skill was not quarantined."""
        async with self._changing:
            record = self._records.get(name)
            await self._registry.clear(name)
            self._records.pop(name, None)
        if record is None or not record.quarantined:
            return False
        self._emit("skill.enabled", {"skill": name, "version": record.version})
        return True
