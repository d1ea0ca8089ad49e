"""Secrets out of text."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goclaw.secrets import MARKER, Redactor
from goclaw.secrets.redact import MAX_VALUES

SECRET = 'p@ss/wörd "quoted" & more+1'


@pytest.mark.spec("GC-SEC-003")
@pytest.mark.parametrize(
    "shown",
    [
        SECRET,
        SECRET.encode().hex(),
        SECRET.encode().hex().upper(),
        quote(SECRET),
        quote(SECRET, safe=""),
        quote_plus(SECRET),
        quote(SECRET, safe="").lower(),
        json.dumps(SECRET)[1:-1],
        json.dumps(SECRET, ensure_ascii=False)[1:-1],
    ],
)
def test_a_value_is_found_in_every_usual_spelling(shown: str) -> None:
    assert Redactor(SECRET)(f"before {shown} after") == f"before {MARKER} after"


@pytest.mark.spec("GC-SEC-003")
@given(before=st.binary(max_size=9), after=st.binary(max_size=9))
def test_a_value_is_found_in_base64_at_every_offset(before: bytes, after: bytes) -> None:
    secret = b"a-secret-of-24-characters"
    redact = Redactor(secret.decode())
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        text = encode(before + secret + after).decode()
        assert MARKER in redact(text)
        rest = redact(text).split(MARKER)
        assert max(map(len, rest)) <= 16  # what is left are the neighbours and no piece of the secret to speak of


@pytest.mark.spec("GC-SEC-003")
@pytest.mark.parametrize(
    "key",
    [
        "sk-ant-api03-" + "a1B2" * 10,
        "sk-proj-" + "Z9" * 20,
        "ghp_" + "a1" * 18,
        "github_pat_" + "a1" * 20,
        "glpat-" + "a1" * 10,
        "AKIA" + "A1" * 8,
        "AIza" + "a1B2c" * 7,
        "xoxb-1234567890-abc",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMIIE\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_well_known_shapes_of_keys_are_found_unregistered(key: str) -> None:
    assert Redactor()(f"key={key}, and so on") == f"key={MARKER}, and so on"


def test_a_bearer_header_and_a_password_in_an_address_are_hidden() -> None:
    redact = Redactor()
    assert redact("Authorization: Bearer abcdefghijklmnop0123") == f"Authorization: Bearer {MARKER}"
    assert redact("postgres://user:hunter2@db/x") == f"postgres://{MARKER}@db/x"


@pytest.mark.parametrize(
    "text",
    [
        "a task-queue-with-a-very-long-name-indeed and a disk-that-is-full-again-and-again",
        "https://example.org:8080/path?x=1@2",
        "the eyJ word, AKIA alone, sk-short, Bearer of news",
        "-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----",
        "",
    ],
)
def test_plain_text_is_returned_as_it_is(text: str) -> None:
    assert Redactor("some-secret-value")(text) is text


def test_a_secret_inside_another_one_leaves_no_rest() -> None:
    redact = Redactor("abcdefgh", "abcdefgh-and-more")
    assert redact("x abcdefgh-and-more y abcdefgh") == f"x {MARKER} y {MARKER}"


def test_values_too_short_to_protect_are_passed_over() -> None:
    assert Redactor("test", "")("a test of it") == "a test of it"


def test_values_can_be_added_later_and_are_bounded() -> None:
    redact = Redactor()
    redact.add("added-later-1")
    assert redact("added-later-1") == MARKER
    with pytest.raises(ValueError, match="at most"):
        redact.add(*(f"value-number-{n}" for n in range(MAX_VALUES)))
    with pytest.raises(ValueError, match="at most"):
        redact.add("x" * 100_000)
    assert redact("added-later-1 value-number-5") == f"{MARKER} value-number-5"


@pytest.mark.spec("GC-SEC-003")
def test_json_values_are_redacted_whole_names_included() -> None:
    redact = Redactor("some-secret-value")
    value = {"a": ["x some-secret-value", {"some-secret-value": 1}], "n": None, "t": True, "f": 1.5}
    assert redact.json(value) == {"a": [f"x {MARKER}", {MARKER: 1}], "n": None, "t": True, "f": 1.5}
    deep: object = "leaf"
    for _ in range(100):
        deep = [deep]
    assert "leaf" not in json.dumps(redact.json(deep))


_KEY = "sk-" + "a" * 24
_PIECES = st.sampled_from(["plain", SECRET, f"x {_KEY} y", "sk-", "a" * 24, "https://u:", "p@h", "Bearer ", "b" * 20])


@pytest.mark.spec("GC-SEC-003")
@given(pieces=st.lists(st.tuples(_PIECES, _PIECES), max_size=5))
def test_a_json_value_is_redacted_text_by_text_whatever_stands_beside_it(pieces: list[tuple[str, str]]) -> None:
    redact = Redactor(SECRET)
    value = {name: [text, {text: name}, len(text)] for name, text in pieces}
    wanted = {redact(name): [redact(text), {redact(text): redact(name)}, len(text)] for name, text in pieces}
    assert redact.json(value) == wanted


@pytest.mark.parametrize(
    "text",
    ["sk-" * 30_000, "://" * 30_000, "://a:" * 20_000, "eyJ" + "a" * 100_000, "eyJaaaaaaaaaaaa.eyJ" * 5_000,
     "-----BEGIN PRIVATE KEY-----" * 3_000, "Bearer " * 10_000],
)  # fmt: skip
def test_hostile_text_takes_no_time(text: str) -> None:
    # Far above what linear patterns need (milliseconds), far below what a quadratic one takes.
    import time

    began = time.process_time()
    Redactor("some-secret-value")(text)
    assert time.process_time() - began < 1
