"""A stranger's JSON Schema: used as far as it cannot do harm."""

from __future__ import annotations

import json
from typing import Any

import pytest

from goclaw.errors import BadArguments, SkillRejected
from goclaw.skills.schema import build_validator, read_schema


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"x": schema}}
    return schema


@pytest.mark.spec("GC-SKL-013")
@pytest.mark.parametrize(
    ("schema", "word"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "more than 65,536"),
        ("[" * 60_000, "not JSON"),
        ('{"type": "object", "maximum": NaN}', "not JSON"),
        ('"object"', "does not describe an object"),
        ("{}", "does not describe an object"),
        ('{"type": "array"}', "does not describe an object"),
        ('{"type": "object", "properties": {"a": {"pattern": "(a+)+$"}}}', "'pattern'"),
        ('{"type": "object", "patternProperties": {"(a+)+$": {}}}', "'patternProperties'"),
        ('{"type": "object", "properties": {"a": {"$ref": "#"}}}', "'$ref'"),
        ('{"type": "object", "$defs": {"a": {"anyOf": [{"$ref": "http://x/"}]}}}', "'$ref'"),
        ('{"type": "object", "$dynamicRef": "#a"}', "'$dynamicRef'"),
        (json.dumps(deep(40)), "levels deep"),
        ('{"type": "object", "const": ' + "[" * 100 + "]" * 100 + "}", "levels deep"),
    ],
)
def test_a_schema_that_could_do_harm_is_refused(schema: str, word: str) -> None:
    with pytest.raises(SkillRejected) as caught:
        read_schema(schema, "the schema")
    assert word in caught.value.message


def test_a_property_may_have_the_name_of_a_refused_word() -> None:
    schema = {"type": "object", "properties": {"pattern": {"type": "string", "enum": ["$ref"]}}}
    assert read_schema(json.dumps(schema), "x") == schema


def test_the_validator_names_the_place_and_the_fault() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer"}}}}
    validate = build_validator(read_schema(json.dumps(schema), "x"))
    validate({"a": [1, 2]})
    with pytest.raises(BadArguments, match=r"\$\.a\[1\]: 'two' is not of type 'integer'"):
        validate({"a": [1, "two"]})


def test_a_schema_that_is_no_schema_is_refused_when_the_validator_is_built() -> None:
    with pytest.raises(SkillRejected, match="not valid JSON Schema"):
        build_validator({"type": "object", "properties": {"a": {"type": "text"}}})
