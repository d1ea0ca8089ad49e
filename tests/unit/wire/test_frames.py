"""Frames: what is taken, what is refused and with which code."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goclaw import errors
from goclaw.errors import BadRequest, Conflict, GoclawError, InvalidFrame, ParseFailed
from goclaw.wire.frames import (
    CODES,
    DEPTH,
    INTERNAL,
    dump,
    error_frame,
    error_object,
    notification,
    parse_frame,
    read_json,
    result_frame,
)


def frame(**fields: Any) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "system.ping"} | fields)


def nested(depth: int) -> str:
    """A frame of this depth: the object is the first level, params the second."""
    inner = "[" * (depth - 2) + "]" * (depth - 2)
    return '{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":' + inner + "}}"


def test_a_request_is_read() -> None:
    request = parse_frame(frame(params={"a": 1}))
    assert (request.id, request.method, request.params, request.answered) == (1, "system.ping", {"a": 1}, True)
    assert parse_frame(frame().encode()).params == {}


def test_a_request_without_an_id_is_not_answered() -> None:
    request = parse_frame('{"jsonrpc":"2.0","method":"m"}')
    assert (request.id, request.answered) == (None, False)
    assert parse_frame(frame(id=None)).answered


@pytest.mark.spec("GC-ACP-301")
@pytest.mark.parametrize("request_id", [1, -1, 0, 1.5, "a", "", 2**70])
def test_an_id_is_given_back_as_it_came_and_may_come_again(request_id: Any) -> None:
    for _ in range(2):
        assert parse_frame(frame(id=request_id)).id == request_id
    assert json.loads(result_frame(request_id, None))["id"] == request_id


@pytest.mark.parametrize("request_id", [True, False, [], {}, [1]])
def test_other_ids_are_refused(request_id: Any) -> None:
    with pytest.raises(InvalidFrame, match="id is a string or a number"):
        parse_frame(frame(id=request_id))


MALFORMED = [
    "",
    "{",
    "nonsense",
    '{"a":1,}',
    "{'a':1}",
    '{"jsonrpc":"2.0","id":1,"method":"m"} {}',
    '{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":NaN}}',
    '{"jsonrpc":"2.0","id":Infinity,"method":"m"}',
    '{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":-Infinity}}',
    '{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":1e999}}',
    '{"jsonrpc":"2.0","id":-1e999,"method":"m"}',
    '{"jsonrpc":"2.0","id":' + "1" * 5_000 + ',"method":"m"}',
    b"\xff\xfe",
    b'{"jsonrpc":"2.0","id":1,"method":"\xc3\x28"}',
]


@pytest.mark.spec("GC-ACP-301")
@pytest.mark.parametrize("text", MALFORMED)
def test_what_is_no_json_is_a_parse_error(text: str | bytes) -> None:
    with pytest.raises(ParseFailed) as refused:
        parse_frame(text)
    assert error_object(refused.value)["code"] == -32700


INVALID = [
    "[]",
    "[" + frame() + "]",
    "[" + frame() + "," + frame() + "]",
    "1",
    '"text"',
    "null",
    "{}",
    frame(jsonrpc="1.0"),
    frame(jsonrpc=2.0),
    '{"id":1,"method":"m"}',
    frame(method=""),
    frame(method=None),
    frame(method=1),
    frame(method=["m"]),
]


@pytest.mark.spec("GC-ACP-301")
@pytest.mark.parametrize("text", INVALID)
def test_what_is_no_request_is_an_invalid_request(text: str) -> None:
    with pytest.raises(InvalidFrame) as refused:
        parse_frame(text)
    assert error_object(refused.value)["code"] == -32600


def test_a_batch_is_refused_by_name() -> None:
    with pytest.raises(InvalidFrame, match="batches are not supported"):
        parse_frame("[" + frame() + "]")


@pytest.mark.parametrize("params", [[], [1], "a", 1, None])
def test_params_are_an_object(params: Any) -> None:
    with pytest.raises(BadRequest, match="object of named parameters") as refused:
        parse_frame(frame(params=params))
    assert refused.value.data["id"] == 1


@pytest.mark.spec("GC-ACP-302")
@pytest.mark.parametrize("depth", [3, DEPTH - 1, DEPTH])
def test_nesting_up_to_the_limit_is_taken(depth: int) -> None:
    assert parse_frame(nested(depth)).method == "m"


@pytest.mark.spec("GC-ACP-302")
@pytest.mark.parametrize("depth", [DEPTH + 1, 40, 500])
def test_deeper_nesting_is_an_invalid_request_with_its_id(depth: int) -> None:
    with pytest.raises(InvalidFrame, match="deeper than 32") as refused:
        parse_frame(nested(depth))
    assert refused.value.data["id"] == 1


@pytest.mark.spec("GC-ACP-302")
def test_nesting_beyond_the_parser_is_an_invalid_request_too() -> None:
    with pytest.raises(InvalidFrame, match="deeper than 32"):
        parse_frame(nested(100_000))
    with pytest.raises(InvalidFrame):
        read_json("[" * 100_000 + "]" * 100_000)


def test_a_wide_frame_is_not_a_deep_one() -> None:
    request = parse_frame(frame(params={"a": [{"b": [n]} for n in range(1_000)]}))
    assert len(request.params["a"]) == 1_000
    assert parse_frame(frame(params={"a": "[{" * 100})).params == {"a": "[{" * 100}


BAD_TEXT = [r'"\u0000"', r'"a\u0000b"', r'"\ud800"', r'"\udfff"', r'"\ud83dx"', r'["ok", {"k": "\udc00"}]']


@pytest.mark.spec("GC-ACP-303")
@pytest.mark.parametrize("text", BAD_TEXT)
def test_nul_and_lone_surrogates_are_refused_in_values_and_in_names(text: str) -> None:
    with pytest.raises(InvalidFrame, match="no NUL"):
        parse_frame('{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":' + text + "}}")
    with pytest.raises(InvalidFrame, match="no NUL"):
        read_json(text)
    if text.startswith('"'):
        with pytest.raises(InvalidFrame, match="no NUL"):
            parse_frame('{"jsonrpc":"2.0","id":1,"method":"m","params":{' + text + ":1}}")
        with pytest.raises(InvalidFrame, match="no NUL"):
            parse_frame('{"jsonrpc":"2.0","id":1,"method":' + text + "}")


def test_a_raw_nul_is_refused() -> None:
    with pytest.raises(InvalidFrame):
        parse_frame(frame(params={"a": "b"}).replace("b", "\0"))


def test_pairs_of_surrogates_and_other_escapes_are_text() -> None:
    request = parse_frame('{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":"\\ud83d\\ude00\\n\\u00e9"}}')
    assert request.params == {"a": "😀\né"}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from("abc"), JSON))
def test_whatever_may_be_sent_comes_back_as_it_was(params: dict[str, Any]) -> None:
    assert parse_frame(dump({"jsonrpc": "2.0", "id": 1, "method": "m", "params": params})).params == params
    assert json.loads(result_frame("x", params)) == {"jsonrpc": "2.0", "id": "x", "result": params}


@given(st.text() | st.binary())
def test_no_input_raises_anything_else(text: str | bytes) -> None:
    try:
        parse_frame(text)
    except (ParseFailed, InvalidFrame, BadRequest) as refused:
        json.loads(error_frame(None, refused))


@pytest.mark.spec("GC-ACP-304")
def test_an_error_says_its_number_its_word_and_whether_to_try_again() -> None:
    shown = json.loads(error_frame(7, Conflict("no", id="hidden", state="RUNNING")))
    assert shown == {
        "jsonrpc": "2.0",
        "id": 7,
        "error": {
            "code": 4090,
            "message": "no",
            "data": {"code": "CONFLICT", "retryable": False, "state": "RUNNING"},
        },
    }


@pytest.mark.spec("GC-ACP-304")
@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        (errors.HelloRequired(), 4001, False),
        (errors.Denied(), 4030, False),
        (errors.NotFound(), 4040, False),
        (errors.ReplayGap(), 4100, False),
        (errors.TooLarge(), 4130, False),
        (errors.Saturated(), 4290, True),
        (errors.ShuttingDown(), 4290, True),
        (errors.StoreFull(), 4290, True),
        (errors.ProviderUnavailable(), 5030, True),
        (errors.WaitTimeout(), 5040, True),
        (errors.MethodNotFound(), -32601, False),
        (errors.BadRequest(), -32602, False),
        (errors.LeaseLost(), INTERNAL, False),
        (GoclawError(), -32603, False),
    ],
)
def test_the_numbers_are_those_of_the_contract(error: GoclawError, code: int, retryable: bool) -> None:
    shown = error_object(error)
    assert (shown["code"], shown["data"]["retryable"]) == (code, retryable)
    assert shown["message"]


def test_every_word_with_a_number_belongs_to_an_error() -> None:
    words: set[str] = set()
    pending: list[type[GoclawError]] = [GoclawError]
    while pending:
        kind = pending.pop()
        words.add(kind.code)
        pending += kind.__subclasses__()
    assert set(CODES) <= words


def test_a_notification_has_no_id() -> None:
    assert json.loads(notification("agent.delta", {"seq": 1})) == {
        "jsonrpc": "2.0",
        "method": "agent.delta",
        "params": {"seq": 1},
    }
