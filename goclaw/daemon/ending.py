"""The end of a run: a last look for those who watch, and the one reason among all that failed."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from goclaw.errors import StartupError, StoreError
from goclaw.gateway.house import House

LAST_LOOK_S = 1.0


async def last_look(house: House) -> None:
    """Let those who watch see how it ended. One who takes nothing is not waited for: he resumes by cursor."""
    house.waiters.close()
    await asyncio.sleep(0)
    with suppress(TimeoutError):
        async with asyncio.timeout(LAST_LOOK_S):
            await house.bus.settle()


def reason(failed: BaseException) -> BaseException:
    """Why it could not serve, where that is an error of ours; else all that failed, as it came."""
    if isinstance(failed, BaseExceptionGroup):
        found = (reason(one) for one in failed.exceptions)
        return next((one for one in found if isinstance(one, StartupError | StoreError)), failed)
    return failed
