"""The skills of this home, as one immutable picture that is replaced as a whole."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

from goclaw.core.ports import Emit
from goclaw.errors import NotFound, SkillFault, SkillRejected
from goclaw.sandbox.wasm import WasmEngine
from goclaw.skills.folder import Skill, read_skill
from goclaw.skills.manifest import SKILL_FILE
from goclaw.skills.quarantine import Quarantine, SkillRecord, SkillRegistry
from goclaw.skills.runner import SkillTool, Workshop

__all__ = ["Catalog", "SkillInfo", "SkillRecord", "SkillRegistry", "Snapshot"]

_FOLDERS = 256
_CANDIDATES = 1_000
_MODULE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was found at one time. `rejected` has the reason for each folder that is not in order; a name may
    stand in both, when the last good version is still in use."""

    skills: Mapping[str, Skill] = field(default_factory=dict)
    tools: Mapping[str, SkillTool] = field(default_factory=dict)
    rejected: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillInfo:
    """One line of `goclaw skill list`. `state` is active, quarantined or rejected; `callable` is False for a
    skill that has instructions only."""

    name: str
    description: str
    state: str
    callable: bool
    effect: str | None
    version: str | None
    path: str | None
    faults: int
    warnings: tuple[str, ...]
    reason: str | None

    def as_json(self) -> dict[str, Any]:
        """The line for the wire."""
        return {**asdict(self), "warnings": list(self.warnings)}


class Catalog:
    """Finds skills in `sources`, first source first: a name belongs to the first that has a folder of that
    name.

    Each direct subfolder with a SKILL.md is a skill; other entries and names that begin with a dot are passed
    over. `reserved` are names of other tools, which a skill cannot take. A folder that is not in order is
    reported once (skill.rejected) and does not displace the version that was in use.
    """

    def __init__(
        self,
        sources: Sequence[Path],
        engine: WasmEngine,
        registry: SkillRegistry,
        emit: Emit,
        reserved: frozenset[str] = frozenset(),
    ) -> None:
        self._sources = tuple(sources)
        self._quarantine = Quarantine(registry, emit)
        self._workshop = Workshop(engine, self._quarantine, emit)
        self._emit = emit
        self._reserved = reserved
        self._snapshot = Snapshot()
        self._changing = asyncio.Lock()

    @property
    def snapshot(self) -> Snapshot:
        """The present picture; one read of it is consistent, and running calls keep the one they began
        with."""
        return self._snapshot

    async def scan(self) -> None:
        """Read the folders at start, and the quarantines of earlier runs. Compiles nothing, so that a daemon
        whose skills are not called stays light; a module that cannot be used shows at its first call."""
        await self._quarantine.load()
        await self._replace(prove=False)

    async def reload(self) -> None:
        """Read the folders again and take over what changed, after every changed skill has been compiled: one
        that cannot be used does not replace one that can."""
        await self._replace(prove=True)

    def tools(self) -> tuple[SkillTool, ...]:
        """The callable skills, sorted by name. A quarantined one stays among them and says so when it is
        called."""
        return tuple(self._snapshot.tools.values())

    def tool(self, name: str) -> SkillTool:
        """One callable skill. Raises NotFound, which says whether it is unknown, rejected or has nothing to
        call."""
        snapshot = self._snapshot
        if name in snapshot.tools:
            return snapshot.tools[name]
        if name in snapshot.skills:
            raise NotFound(f"skill {name} has instructions only; there is no .wasm in its folder to call")
        if name in snapshot.rejected:
            raise NotFound(f"skill {name} was not loaded: {snapshot.rejected[name]}")
        raise NotFound(f"there is no skill {name!r}")

    def list(self) -> tuple[SkillInfo, ...]:
        """Every skill and every rejected folder, sorted by name."""
        names = sorted(self._snapshot.skills.keys() | self._snapshot.rejected.keys())
        return tuple(self.info(name) for name in names)

    def info(self, name: str) -> SkillInfo:
        """One of them. Raises NotFound."""
        reason = self._snapshot.rejected.get(name)
        skill = self._snapshot.skills.get(name)
        if skill is None:
            if reason is None:
                raise NotFound(f"there is no skill {name!r}")
            return _rejected(name, reason)
        record = self._quarantine.record(name, skill.version)
        return SkillInfo(
            name=name,
            description=skill.manifest.description,
            state="quarantined" if record.quarantined else "active",
            callable=skill.module is not None,
            effect=skill.manifest.effect.value if skill.module is not None else None,
            version=skill.version,
            path=str(skill.path),
            faults=record.faults,
            warnings=skill.manifest.warnings,
            reason=None if reason is None else f"an older version is in use: {reason}",
        )

    async def enable(self, name: str) -> bool:
        """Lift the quarantine of a skill; False when there was none. Raises NotFound."""
        self.info(name)
        return await self._quarantine.enable(name)

    async def _replace(self, *, prove: bool) -> None:
        async with self._changing:
            old = self._snapshot
            found = await asyncio.to_thread(_survey, self._sources, self._reserved, old)
            new = await self._staged(old, found, prove)
            self._snapshot = new
            self._announce(old, new)

    async def _staged(self, old: Snapshot, found: Mapping[str, Skill | str], prove: bool) -> Snapshot:
        skills: dict[str, Skill] = {}
        tools: dict[str, SkillTool] = {}
        rejected: dict[str, str] = {}
        for name in sorted(found):
            skill, reason = await self._judged(old, found[name], prove)
            if reason is not None:
                rejected[name] = reason
                skill = old.skills.get(name)
            if skill is None:
                continue
            skills[name] = skill
            tool = self._tool(old, skill)
            if tool is not None:
                tools[name] = tool
        return Snapshot(MappingProxyType(skills), MappingProxyType(tools), MappingProxyType(rejected))

    async def _judged(self, old: Snapshot, found: Skill | str, prove: bool) -> tuple[Skill | None, str | None]:
        if isinstance(found, str):
            return None, found
        known = old.skills.get(found.name)
        tool = self._tool(old, found)
        if prove and tool is not None and (known is None or known.version != found.version):
            try:
                await tool.prove()
            except (SkillFault, SkillRejected) as error:
                return None, error.message
        return found, None

    def _tool(self, old: Snapshot, skill: Skill) -> SkillTool | None:
        """The tool of a skill; an unchanged skill keeps the one it has, with what that has prepared."""
        present = old.tools.get(skill.name)
        if present is not None and present.skill.version == skill.version:
            return present
        return None if skill.module is None else SkillTool(skill, skill.module, self._workshop)

    def _announce(self, old: Snapshot, new: Snapshot) -> None:
        for name, skill in new.skills.items():
            if name not in old.skills or old.skills[name].version != skill.version:
                self._emit("skill.loaded", _loaded(skill))
        for name in old.skills.keys() - new.skills.keys():
            self._emit("skill.removed", {"skill": name})
        for name, reason in new.rejected.items():
            if old.rejected.get(name) != reason:
                self._emit("skill.rejected", {"skill": name, "reason": reason, "kept": name in new.skills})


def _survey(sources: Sequence[Path], reserved: frozenset[str], old: Snapshot) -> dict[str, Skill | str]:
    """Read every source: a skill, or the reason why not, by folder name. Blocking."""
    found: dict[str, Skill | str] = {}
    room = _MODULE_BYTES
    for source in sources:
        try:
            paths = _folders(source)
        except OSError as error:
            reason = f"{source} cannot be read: {error.strerror}"
            found |= {name: reason for name, skill in old.skills.items() if skill.path.parent == source}
            continue
        for path in paths:
            name = os.fsencode(path.name).decode("utf-8", "replace")
            if name not in found:
                full = len(found) >= _FOLDERS
                found[name] = f"there are more than {_FOLDERS} skills" if full else _read(path, reserved, room)
                room -= _size(found[name])
    return found


def _folders(source: Path) -> list[Path]:
    """The candidates in a source. One that does not exist is empty; a link to a folder is one, to be told why
    not. Raises OSError."""
    try:
        with os.scandir(source) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except FileNotFoundError:
        return []
    candidates = (source / name for name in names if os.path.lexists(source / name / SKILL_FILE))
    return list(islice(candidates, _CANDIDATES))


def _read(path: Path, reserved: frozenset[str], room: int) -> Skill | str:
    if path.is_symlink():
        return "the folder is a symbolic link; copy it"
    try:
        skill = read_skill(path)
    except SkillRejected as error:
        return error.message
    if skill.module is not None and skill.name in reserved:
        return "a tool of goclaw has this name; rename the folder and the skill"
    if _size(skill) > room:
        return f"all modules together have more than {_MODULE_BYTES:,} bytes"
    return skill


def _size(found: Skill | str) -> int:
    return len(found.module.code) if isinstance(found, Skill) and found.module is not None else 0


def _loaded(skill: Skill) -> dict[str, Any]:
    return {
        "skill": skill.name,
        "version": skill.version,
        "callable": skill.module is not None,
        "warnings": list(skill.manifest.warnings),
    }


def _rejected(name: str, reason: str) -> SkillInfo:
    return SkillInfo(
        name=name,
        description="",
        state="rejected",
        callable=False,
        effect=None,
        version=None,
        path=None,
        faults=0,
        warnings=(),
        reason=reason,
    )
