"""The kind `noop`: does nothing, for as long and with the end it is told. For benches and drills."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from goclaw.core.outcome import Failed, Outcome, Succeeded
from goclaw.core.ports import Attempt, Clock


def noop_handler(clock: Clock) -> Callable[[Attempt], Awaitable[Outcome]]:
    """A handler of {progress?, sleep_ms?, fail?, permanent?, result?}; `progress` is a list of values to report."""

    async def handle(attempt: Attempt) -> Outcome:
        payload = attempt.task.payload
        for value in payload.get("progress") or ():
            await attempt.progress(value)
        if payload.get("sleep_ms"):
            await clock.sleep(payload["sleep_ms"])
        if payload.get("fail") is not None:
            return Failed("NOOP_FAILED", payload["fail"], permanent=bool(payload.get("permanent")))
        return Succeeded(payload.get("result"))

    return handle
