"""Do the arguments match the tool's JSON Schema?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from goclaw.core.chat import ToolSpec

MAX_SHOWN = 300


class Checker:
    """Checks arguments, one compiled validator for each tool. The library is loaded at the first check.

    A reference in a schema that leads out of it is never fetched: such a schema fails.
    """

    def __init__(self) -> None:
        self._compiled: dict[str, tuple[ToolSpec, Any]] = {}

    def is_ready(self, spec: ToolSpec) -> bool:
        """Whether a check of this tool is quick; the first one loads a large library."""
        return spec.name in self._compiled and self._compiled[spec.name][0] == spec

    def mismatch(self, spec: ToolSpec, arguments: Mapping[str, Any]) -> str | None:
        """What does not match, naming the field, or None."""
        errors = sorted(
            self._validator(spec).iter_errors(dict(arguments)), key=lambda error: list(map(str, error.path))
        )
        if not errors:
            return None
        error = errors[0]
        where = ".".join(map(str, error.path)) or "arguments"
        return f"{where}: {_short(error.message)}"

    def _validator(self, spec: ToolSpec) -> Any:
        if not self.is_ready(spec):
            from jsonschema import Draft202012Validator
            from referencing import Registry

            self._compiled[spec.name] = (
                spec,
                Draft202012Validator(dict(spec.parameters), registry=Registry()),
            )
        return self._compiled[spec.name][1]


def _short(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN // 2]} ... {text[-MAX_SHOWN // 2 :]}"
