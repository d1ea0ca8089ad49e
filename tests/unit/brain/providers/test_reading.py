"""Time, JSON and Unicode, whichever wire they come from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goclaw.brain.providers.reading import CALLS_LIMIT, Deadline, Meter, parse_json, whole
from goclaw.errors import ProviderUnavailable
from tests.fakes import FakeClock


@pytest.mark.spec("GC-BRN-114")
async def test_the_deadline_counts_the_whole_call_and_not_each_piece() -> None:
    clock = FakeClock()

    async def pieces() -> AsyncIterator[int]:
        for number in range(10):
            clock.advance(400)
            yield number

    stream = Deadline(clock, 1_000).each(pieces())
    assert [await anext(stream) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(TimeoutError):
        await anext(stream)


async def test_the_deadline_strikes_a_wait_and_never_the_consumer() -> None:
    deadline = Deadline(FakeClock(), 20)

    async def pieces() -> AsyncIterator[int]:
        yield 1
        await asyncio.Event().wait()

    stream = deadline.each(pieces())
    assert await anext(stream) == 1
    with pytest.raises(TimeoutError):
        await anext(stream)


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "-Infinity", "{'a': 1}", "[" * 200_000, "", "1 2"])
def test_what_is_not_json_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the text differs with the parser
        parse_json(text)


@given(st.text(st.characters(codec=None), max_size=20))
def test_any_text_can_be_stored_after_it_was_made_whole(text: str) -> None:
    assert whole(whole(text)) == whole(text)
    whole(text).encode()


def test_too_many_calls_are_refused() -> None:
    Meter("p").calls(CALLS_LIMIT)
    with pytest.raises(ProviderUnavailable):
        Meter("p").calls(CALLS_LIMIT + 1)
