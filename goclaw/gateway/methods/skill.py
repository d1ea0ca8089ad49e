"""`skill.*`: what skills there are; lifting a quarantine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from goclaw.gateway.rpc import Call, Method
from goclaw.wire.params import Nothing, SkillName


class SkillInfo(Protocol):
    """One skill as the catalog describes it."""

    def as_json(self) -> Mapping[str, Any]:
        """For the wire."""
        ...


class Skills(Protocol):
    """The catalog as this namespace needs it."""

    def list(self) -> Sequence[SkillInfo]:
        """Every skill and every rejected folder."""
        ...

    def info(self, name: str) -> SkillInfo:
        """One of them."""
        ...

    async def enable(self, name: str) -> bool:
        """Lift a quarantine."""
        ...


def skill_methods(skills: Skills) -> tuple[Method, ...]:
    """The table of `skill.*`."""

    async def list_(_: Call, __: Nothing) -> dict[str, Any]:
        return {"skills": [info.as_json() for info in skills.list()]}

    async def info(_: Call, params: SkillName) -> Mapping[str, Any]:
        return skills.info(params.name).as_json()

    async def enable(_: Call, params: SkillName) -> dict[str, Any]:
        return {"name": params.name, "enabled": await skills.enable(params.name)}

    return (
        Method("skill.list", Nothing, "acp.read", list_),
        Method("skill.info", SkillName, "acp.read", info),
        Method("skill.enable", SkillName, "skill.install", enable),
    )
