"""SKILL.md: what a skill says of itself, read leniently where that is harmless and strictly where it is not.

The frontmatter follows the Agent Skills standard, whose only keys are name, description, license,
compatibility, metadata and allowed-tools. What is ours stands under `metadata`, as strings:

    goclaw-effect         pure | idempotent | unsafe (default unsafe)
    goclaw-fuel           instructions a call may burn
    goclaw-memory-mb      MiB of memory a call may hold
    goclaw-timeout-ms     milliseconds a call may take
    goclaw-input-schema   JSON Schema of the input as JSON text; the file input.schema.json says the same
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from goclaw.core.step import Effect
from goclaw.errors import SkillRejected
from goclaw.sandbox.wasm import WasmLimits
from goclaw.skills.schema import ANY_OBJECT, read_schema

SKILL_FILE: Final = "SKILL.md"
SCHEMA_FILE: Final = "input.schema.json"
_STANDARD_KEYS = frozenset({"name", "description", "license", "compatibility", "metadata", "allowed-tools"})
_USABLE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_STANDARD_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_COLON_INSIDE = re.compile(r"^(?P<key>description|license|compatibility): +(?P<value>[^'\"|>\s].*:\s.*)$", re.MULTILINE)
_HEADER_CHARACTERS = 64 * 1024
_DESCRIPTION_CHARACTERS = 1024
_COMPATIBILITY_CHARACTERS = 500
_MIB = 1024 * 1024
# Setting: default, largest. What a skill asks for is only a wish; it cannot wish for more than this.
_FUEL = (1_000_000_000, 1_000_000_000_000)
_MEMORY_MB = (64, 512)
_TIMEOUT_MS = (10_000, 300_000)
_OWN_KEYS = frozenset(f"goclaw-{name}" for name in ("effect", "fuel", "memory-mb", "timeout-ms", "input-schema"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A SKILL.md in order. `warnings` says what was tolerated; `allowed_tools` is information and grants
    nothing."""

    name: str
    description: str
    license: str | None
    compatibility: str | None
    metadata: Mapping[str, str]
    allowed_tools: tuple[str, ...]
    body: str
    effect: Effect
    limits: WasmLimits
    input_schema: Mapping[str, Any]
    warnings: tuple[str, ...]


def read_manifest(text: str, folder: str, schema_text: str | None = None) -> Manifest:
    """Parse the SKILL.md found in `folder`, and the schema file beside it if there is one.

    Raises SkillRejected with the reason when there is no usable frontmatter, no description, a name that is
    not the folder's, or a setting of ours that cannot be honoured: a limit that is misread must not become a
    default.
    """
    header, body = _split(text)
    fields, warnings = _parse(header)
    name = _name(fields, folder, warnings)
    metadata = _metadata(fields.get("metadata"), warnings)
    warnings += [f"unknown key {key!r} is ignored" for key in fields if key not in _STANDARD_KEYS]
    return Manifest(
        name=name,
        description=_description(fields, warnings),
        license=_text(fields, "license"),
        compatibility=_compatibility(fields, warnings),
        metadata=metadata,
        allowed_tools=_allowed_tools(fields.get("allowed-tools")),
        body=body,
        effect=_effect(metadata),
        limits=_limits(metadata),
        input_schema=_schema(metadata, schema_text),
        warnings=tuple(warnings),
    )


def _split(text: str) -> tuple[str, str]:
    lines = text.removeprefix("\ufeff").splitlines(keepends=True)
    if not lines or lines[0].rstrip() != "---":
        raise SkillRejected("SKILL.md does not begin with a frontmatter (a first line of three dashes)")
    for number, line in enumerate(lines[1:], start=1):
        if line.rstrip() == "---":
            header = "".join(lines[1:number])
            if len(header) > _HEADER_CHARACTERS:
                raise SkillRejected(f"the frontmatter has more than {_HEADER_CHARACTERS:,} characters")
            return header, "".join(lines[number + 1 :]).strip()
    raise SkillRejected("the frontmatter of SKILL.md does not end (a line of three dashes is missing)")


def _parse(header: str) -> tuple[dict[str, Any], list[str]]:
    import yaml

    warnings: list[str] = []
    try:
        fields = _load(header)
    except yaml.YAMLError as error:
        # Many authors write `description: Use this when: ...`; the standard asks hosts to cope.
        try:
            fields = _load(_quoted(header))
        except yaml.YAMLError:
            raise SkillRejected(f"the frontmatter is not YAML: {' '.join(str(error).split())}") from error
        warnings.append("a value with a colon should be quoted")
    if not isinstance(fields, dict) or not all(isinstance(key, str) for key in fields):
        raise SkillRejected("the frontmatter is not a YAML mapping of names to values")
    return fields, warnings


def _load(header: str) -> Any:
    import yaml

    try:
        # The base loader builds strings, lists and mappings and nothing else: `yes`, `1.0` and a date stay as
        # written.
        return yaml.load(header, Loader=yaml.BaseLoader)  # noqa: S506 - safer still than the safe loader
    except RecursionError as error:
        raise SkillRejected("the frontmatter is nested too deeply") from error


def _quoted(header: str) -> str:
    def quote(line: re.Match[str]) -> str:
        value = line["value"].replace("'", "''")
        return f"{line['key']}: '{value}'"

    return _COLON_INSIDE.sub(quote, header)


def _text(fields: Mapping[str, Any], key: str) -> str | None:
    value = fields.get(key)
    return value.strip() or None if isinstance(value, str) else None


def _name(fields: Mapping[str, Any], folder: str, warnings: list[str]) -> str:
    name = _text(fields, "name")
    if name is None:
        raise SkillRejected("the frontmatter gives no name")
    if name != folder:
        raise SkillRejected(f"the name {name!r} is not the name of its folder, {folder!r}")
    if not _USABLE_NAME.fullmatch(name):
        raise SkillRejected("the name is not 1 to 64 letters, digits and hyphens")
    if not _STANDARD_NAME.fullmatch(name):
        warnings.append("the name should be lowercase letters, digits and single hyphens")
    return name


def _description(fields: Mapping[str, Any], warnings: list[str]) -> str:
    description = _text(fields, "description")
    if description is None:
        raise SkillRejected("the description is missing or empty; without it no model knows when to use the skill")
    if len(description) > _DESCRIPTION_CHARACTERS:
        warnings.append(f"the description is cut after {_DESCRIPTION_CHARACTERS:,} characters")
    return description[:_DESCRIPTION_CHARACTERS]


def _compatibility(fields: Mapping[str, Any], warnings: list[str]) -> str | None:
    compatibility = _text(fields, "compatibility")
    if compatibility is not None and len(compatibility) > _COMPATIBILITY_CHARACTERS:
        warnings.append(f"compatibility should have at most {_COMPATIBILITY_CHARACTERS} characters")
    return compatibility


def _allowed_tools(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(value.split())
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _metadata(value: Any, warnings: list[str]) -> Mapping[str, str]:
    if value in (None, ""):
        return MappingProxyType({})
    if not isinstance(value, dict):
        raise SkillRejected("metadata is not a mapping of names to strings")
    kept: dict[str, str] = {}
    for key, item in value.items():
        if isinstance(key, str) and isinstance(item, str):
            kept[key] = item
        elif str(key).startswith("goclaw-"):
            raise SkillRejected(f"metadata {key} is not a string")
        else:
            warnings.append(f"metadata {key!r} is not a string and is ignored")
    warnings += [
        f"unknown setting {key!r} is ignored" for key in kept if key.startswith("goclaw-") and key not in _OWN_KEYS
    ]
    return MappingProxyType(kept)


def _effect(metadata: Mapping[str, str]) -> Effect:
    """The author's promise about repeating a call. Verifiable is not on offer: a skill has no probe."""
    text = metadata.get("goclaw-effect", Effect.UNSAFE.value)
    offered = (Effect.PURE, Effect.IDEMPOTENT, Effect.UNSAFE)
    if text not in {effect.value for effect in offered}:
        raise SkillRejected(f"goclaw-effect is {text!r}; it can be {', '.join(offered)}")
    return Effect(text)


def _limits(metadata: Mapping[str, str]) -> WasmLimits:
    return WasmLimits(
        fuel=_number(metadata, "goclaw-fuel", _FUEL),
        memory_bytes=_number(metadata, "goclaw-memory-mb", _MEMORY_MB) * _MIB,
        timeout_ms=_number(metadata, "goclaw-timeout-ms", _TIMEOUT_MS),
    )


def _number(metadata: Mapping[str, str], key: str, bounds: tuple[int, int]) -> int:
    default, largest = bounds
    text = metadata.get(key, str(default)).replace("_", "")
    if not re.fullmatch(r"[0-9]{1,15}", text) or not 1 <= int(text) <= largest:
        raise SkillRejected(f"{key} is {metadata[key]!r}; it is a whole number from 1 to {largest:,}")
    return int(text)


def _schema(metadata: Mapping[str, str], file: str | None) -> Mapping[str, Any]:
    inline = metadata.get("goclaw-input-schema")
    if inline is not None and file is not None:
        raise SkillRejected(f"the input schema stands twice, in goclaw-input-schema and in {SCHEMA_FILE}")
    if inline is not None:
        return read_schema(inline, "goclaw-input-schema")
    return ANY_OBJECT if file is None else read_schema(file, SCHEMA_FILE)
