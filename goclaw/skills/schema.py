"""The input schema of a skill: a stranger's JSON Schema, so only the part of it that cannot do harm."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from goclaw.errors import BadArguments, SkillRejected

ANY_OBJECT: Final[Mapping[str, Any]] = MappingProxyType({"type": "object"})
"""The schema of a skill that does not name one."""
_CHARACTERS = 64 * 1024
_DEPTH = 32
# A regular expression can run for hours on forty characters; a reference can turn in circles or reach the
# network.
_REFUSED = frozenset({"pattern", "patternProperties", "$ref", "$dynamicRef", "$recursiveRef"})
# Below these keys stand names and values of the author's choice, not keywords.
_NAMED = frozenset({"properties", "$defs", "definitions", "dependentSchemas"})
_VALUES = frozenset({"const", "enum", "default", "examples", "required", "dependentRequired"})


def read_schema(text: str, where: str) -> Mapping[str, Any]:
    """The schema in `text`. Raises SkillRejected for what is not JSON, not for an object, or refused.

    Whether it is valid JSON Schema is tested when the validator is built: that needs a library which a daemon
    without skills never loads.
    """
    if len(text) > _CHARACTERS:
        raise SkillRejected(f"{where} has more than {_CHARACTERS:,} characters")
    try:
        schema = json.loads(text, parse_constant=_not_json)
    except (ValueError, RecursionError) as error:
        raise SkillRejected(f"{where} is not JSON: {error}") from error
    if not isinstance(schema, dict) or schema.get("type") != "object":
        raise SkillRejected(f'{where} does not describe an object ("type": "object" is missing at the top)')
    _walk(schema, where, "schema", _DEPTH)
    return MappingProxyType(schema)


def build_validator(schema: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], None]:
    """A function that raises BadArguments, with the first fault in plain words, for an input that does not
    match.

    Raises SkillRejected when `schema` is not valid JSON Schema (draft 2020-12). Loads jsonschema; use a
    thread.
    """
    from jsonschema import Draft202012Validator, SchemaError
    from jsonschema.exceptions import best_match
    from referencing import Registry

    plain = dict(schema)
    try:
        Draft202012Validator.check_schema(plain)
    except SchemaError as error:
        raise SkillRejected(f"the input schema is not valid JSON Schema: {error.message[:300]}") from error
    # An empty registry of its own: without one the library would fetch what it does not know.
    validator = Draft202012Validator(plain, registry=Registry())

    def validate(arguments: Mapping[str, Any]) -> None:
        fault = best_match(validator.iter_errors(dict(arguments)))
        if fault is not None:
            raise BadArguments(f"{fault.json_path}: {fault.message[:300]}")

    return validate


def _walk(node: Any, where: str, place: str, depth: int) -> None:
    """`place` is what a dictionary here means: a schema, names that have schemas, or a plain value."""
    if depth == 0:
        raise SkillRejected(f"{where} is nested more than {_DEPTH} levels deep")
    if isinstance(node, list):
        for item in node:
            _walk(item, where, place, depth - 1)
    elif isinstance(node, dict):
        for key, value in node.items():
            if place == "schema" and key in _REFUSED:
                raise SkillRejected(f"{where} uses {key!r}, which a skill's schema may not")
            _walk(value, where, _place_below(place, key), depth - 1)


def _place_below(place: str, key: str) -> str:
    if place == "schema" and key in _NAMED:
        return "names"
    if place == "value" or (place == "schema" and key in _VALUES):
        return "value"
    return "schema"


def _not_json(word: str) -> Any:
    raise ValueError(f"{word} is not a JSON value")
