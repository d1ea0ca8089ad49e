"""What built-in tools share: names to places, and the access that a place needs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from goclaw.core.access import Access
from goclaw.core.tool import CallContext
from goclaw.errors import BadArguments, ToolFailed
from goclaw.policy.paths import is_inside

MAX_PATH = 4_096


@dataclass(frozen=True, slots=True)
class Workspace:
    """The folder that relative names start from. Both paths are resolved."""

    home: str
    folder: str

    def resolve(self, name: str) -> str:
        """What a file name means: `~` is the user's folder, a relative name lies in the workspace, links are
        followed. Reads the disk. Raises BadArguments."""
        check_name(name)
        return os.path.realpath(os.path.join(self.folder, os.path.expanduser(name)))

    def show(self, path: str) -> str:
        """A resolved path as a model is told it: short inside the workspace."""
        return os.path.relpath(path, self.folder) if is_inside(path, self.folder) else path


def check_name(name: str) -> None:
    """Refuse what can name no file."""
    if not name or "\0" in name:
        raise BadArguments("a path must not be empty and must not contain NUL")
    if len(os.fsencode(name)) > MAX_PATH:
        raise BadArguments(f"a path has at most {MAX_PATH} bytes")


def subject(context: CallContext) -> str:
    """On whose behalf a built-in tool acts."""
    return f"agent:{context.agent_id}"


def granted(context: CallContext) -> Access:
    """The access the gate granted for this run; a tool that was not called through the gate does nothing."""
    if not context.granted:
        raise ToolFailed("this call did not come through the gate")
    return context.granted[0]


def parameters(required: tuple[str, ...], **properties: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON Schema object that accepts these properties and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }
