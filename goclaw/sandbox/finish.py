"""Finish what was begun before letting a cancellation through."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def finish(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which runs to its end even when the caller is canceled meanwhile.

    The caller is canceled then. For what must not go on unwatched: a thread that writes, a kill to be seen
    through.
    """
    job = asyncio.gather(work)
    canceled: asyncio.CancelledError | None = None
    while not job.done():
        try:
            await asyncio.shield(job)
        except asyncio.CancelledError as error:
            canceled = error
    (result,) = job.result()
    if canceled is not None:
        raise canceled
    return result
