"""The grammar of directives."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goclaw.brain.providers.directives import DIRECTIVES_LIMIT, DirectiveError, parse_directives
from goclaw.core.chat import ToolSpec

WRITE = ToolSpec("write_file", "", {"type": "object", "properties": {"content": {"type": "string"}}})
EXEC = ToolSpec("exec", "", {"type": "object", "properties": {"argv": {"type": "array"}}})
TOOLS = (WRITE, EXEC)


def arguments(line: str) -> Any:
    [directive] = parse_directives(line, TOOLS)
    return directive.arguments


@pytest.mark.spec("GC-BRN-130")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("/exec", {}),
        ("/exec cwd=src", {"cwd": "src"}),
        ("/exec cwd='two words'", {"cwd": "two words"}),
        ("/exec cwd=a=b", {"cwd": "a=b"}),
        ("/exec cwd=", {"cwd": ""}),
        ("/exec timeout_ms=500", {"timeout_ms": 500}),
        ("/exec x=-1.5 y=true z=null", {"x": -1.5, "y": True, "z": None}),
        ("""/exec argv='["ls", "-l"]'""", {"argv": ["ls", "-l"]}),
        ("""/exec env='{"A": "b"}'""", {"env": {"A": "b"}}),
        ('/exec {"argv": ["ls"]}', {"argv": ["ls"]}),
        ("""/exec cwd='"quoted"'""", {"cwd": '"quoted"'}),
        ("/exec x=NaN", {"x": "NaN"}),
        ("/exec x=[1", {"x": "[1"}),
        ("/exec x=01", {"x": "01"}),
        ("  /exec   cwd=src  ", {"cwd": "src"}),
        ("/write_file content=42", {"content": "42"}),  # its schema asks for text
        ("""/write_file content='{"a": 1}'""", {"content": '{"a": 1}'}),
    ],
)
def test_a_value_is_json_where_it_is_one_and_text_otherwise(line: str, expected: dict[str, Any]) -> None:
    assert arguments(line) == expected


@pytest.mark.spec("GC-BRN-132")
@pytest.mark.parametrize(
    ("prompt", "part"),
    [
        ("/exec ls", "'ls' is not key=value"),
        ("/exec =x", "is not key=value"),
        ("/exec cwd='open", "quotes do not match"),
        ("/exec cwd=a cwd=b", "given twice"),
        ("/exec {", "not valid JSON"),
        ('/exec {"x": NaN}', "not valid JSON"),
        ('/exec {"a": 1} extra', "not valid JSON"),
        ("/exec\nand then?", "not a directive: and then?"),
        ("/", "no tool ''"),
        ("/zzzzzz", "Tools: exec, write_file."),
        ("/exec\n" * (DIRECTIVES_LIMIT + 1), "at most 32"),
    ],
)
def test_a_bad_directive_says_what_is_wrong_with_it(prompt: str, part: str) -> None:
    with pytest.raises(DirectiveError) as caught:
        parse_directives(prompt, TOOLS)
    assert part in str(caught.value)


def test_without_tools_that_is_what_it_says() -> None:
    with pytest.raises(DirectiveError, match="has no tools"):
        parse_directives("/exec", ())


@given(st.text(max_size=80))
def test_no_text_makes_the_parser_fail_in_another_way(text: str) -> None:
    with suppress(DirectiveError):
        parse_directives("/exec " + text, TOOLS)
