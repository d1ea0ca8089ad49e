"""A database in which something of every kind has happened, made through the kernel's own face."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from goclaw.core.chat import NewMessage, Text
from goclaw.core.outcome import Failed, HandedBack, Succeeded
from goclaw.core.step import Effect, End, Intend, Start, StepState
from goclaw.core.task import NewTask
from goclaw.db import Database
from goclaw.kernel.claiming import Claimed
from goclaw.kernel.queue import Queue
from goclaw.store import heads
from tests.fakes_clock import START, FakeClock
from tests.kitchen import agent

SESSION = "session-1"


class Work:
    """A queue on a database of its own, and the shortest ways to use it."""

    def __init__(self, path: Path) -> None:
        self.clock = FakeClock()
        self.database = Database(path, self.clock)
        self.queue = Queue(
            self.database,
            self.clock,
            boot_id="boot-1",
            agents=lambda: {"default": agent("default")},
            policy_version=lambda: "policy-1",
            jitter=lambda: 0.0,
        )

    async def submit(self, kind: str = "noop", payload: dict[str, Any] | None = None, **fields: Any) -> str:
        done = await self.queue.submit(NewTask(kind=kind, payload=payload or {}, **fields))
        return done.task.id

    async def claim(self) -> Claimed:
        (claimed,) = await self.queue.claim("default", 1)
        return claimed

    async def do(self, outcome: Any, **fields: Any) -> str:
        """One task from its submission to that outcome of its first attempt."""
        await self.submit(**fields)
        claimed = await self.claim()
        await self.queue.finish(claimed.stored, outcome)
        return claimed.task.id

    async def say(self, text: str) -> str:
        """One turn in the session."""
        said = NewMessage(role="user", blocks=(Text(text),))
        return await self.submit("chat", {"content": text}, session_id=SESSION, messages=(said,))

    async def note(self) -> None:
        await self.database.write(heads.note, "stop", START)


async def work_through(path: Path) -> dict[str, str]:
    """Something of every kind in the new database at `path`; the ids of its tasks by name."""
    work = Work(path)
    named: dict[str, str] = {}
    async with work.database:
        await work.note()
        named["succeeded"] = await work.do(Succeeded({"text": "done"}))
        named["failed"] = await work.do(Failed("TOOL_FAILED", "it broke", permanent=True))
        named["redriven"] = await work.do(Failed("TOOL_FAILED", "once", permanent=True))
        await work.queue.redrive(named["redriven"])
        await work.queue.finish((await work.claim()).stored, Succeeded())
        named["waiting"] = await work.do(Failed("PROVIDER_UNAVAILABLE", "busy"))
        named["stepped"] = await _stepped(work)
        named["drained"] = await work.do(HandedBack())
        await work.queue.cancel(named["drained"], "not wanted")
        named["running"] = await work.submit()
        await work.claim()
        named["first"], named["second"] = await work.say("one"), await work.say("two")
        await work.claim()
        named["delayed"] = await work.submit(delay_ms=60_000)
        named["queued"] = await work.submit()
        await work.note()
    return named


async def _stepped(work: Work) -> str:
    """A task with a journal of three steps."""
    await work.submit("tool", {"name": "read_file", "arguments": {}})
    claimed = await work.claim()
    for name, state in (("a", StepState.DONE), ("b", StepState.FAILED), ("c", StepState.UNKNOWN)):
        intend = Intend(key=name, kind="tool", request={"n": name}, request_hash=name * 64, effect=Effect.PURE)
        await work.queue.record(claimed.stored, [intend, Start(name)])
        await work.queue.record(claimed.stored, [End(name, state, {"said": name})])
        await work.queue.progress(claimed.stored, {"at": name})
    await work.queue.finish(claimed.stored, Succeeded())
    return claimed.task.id
