"""What was begun is finished before a cancellation goes through."""

from __future__ import annotations

import asyncio

import pytest

from goclaw.sandbox.finish import finish


async def test_the_result_is_given_back() -> None:
    async def work() -> int:
        return 3

    assert await finish(work()) == 3


async def test_an_error_is_raised() -> None:
    async def work() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await finish(work())


async def test_the_work_ends_before_the_caller_is_canceled_however_often() -> None:
    begun, go = asyncio.Event(), asyncio.Event()
    ended: list[bool] = []

    async def work() -> None:
        begun.set()
        await go.wait()
        ended.append(True)

    caller = asyncio.create_task(finish(work()))
    await begun.wait()
    for _ in range(3):
        caller.cancel()
        await asyncio.sleep(0)
    assert not caller.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert ended == [True]
