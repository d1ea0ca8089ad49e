"""The drill of the demo: submit, kill in mid-flight, restart, send again, wait, compare."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goclaw.cli import background, screen
from goclaw.cli.demo_home import DemoHome, quiet, read_ledger
from goclaw.cli.demo_report import Outcome
from goclaw.cli.demo_work import CUT, SLOW, Job, all_work
from goclaw.client import Client, find_daemon
from goclaw.core.event import Event
from goclaw.core.ports import Clock
from goclaw.core.task import TERMINAL
from goclaw.errors import RpcError, WaitTimeout

IN_FLIGHT_MS = 10_000
END_MS = 25_000
POLL_MS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What stood where when the daemon was killed."""

    acknowledged: int
    ended: int
    running: int

    @property
    def waiting(self) -> int:
        """Stored and not begun, or waiting for a retry."""
        return self.acknowledged - self.ended - self.running


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """The whole course, for the report. `restart_ms` is from the start of the second daemon to its readiness;
    `known_again` counts the submissions that were sent again and known; `left_alive` the processes of the first
    daemon that are still there."""

    killed_at: Snapshot
    restart_ms: int
    known_again: int
    left_alive: int
    outcomes: tuple[Outcome, ...]


class _Seen:
    """The last state of every task, by the event stream."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}

    async def follow(self, client: Client) -> None:
        async with aclosing(client.subscribe()) as stream:
            async for item in stream:
                if isinstance(item, Event) and item.task_id and item.state_to:
                    self.states[item.task_id] = item.state_to


async def run_drill(demo: DemoHome, environ: Mapping[str, str], clock: Clock) -> Drill:
    """Run it; tell the steps on stderr. Raises GoclawError when a daemon does not start or does not answer."""
    calm = quiet(environ)
    jobs = all_work(demo)
    process = await _daemon(demo, calm, clock)
    try:
        ids, killed_at = await _until_killed(demo, jobs, process, clock)
        orphans = {line.pid for line in read_ledger(demo.ledger) if line.label in (CUT, SLOW)}
        begun = clock.monotonic()
        process = await _daemon(demo, calm, clock)
        restart_ms = clock.monotonic() - begun
        left_alive = sum(_alive(pid) for pid in orphans)
        screen.say(
            f"4. started again, ready after {restart_ms} ms; of the {len(orphans)} programs that the killed daemon "
            f"left behind {left_alive} are still alive"
        )
        known_again, outcomes = await _to_the_end(demo, jobs, ids, clock)
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait)
    return Drill(
        killed_at=killed_at,
        restart_ms=restart_ms,
        known_again=known_again,
        left_alive=left_alive,
        outcomes=outcomes,
    )


async def _daemon(demo: DemoHome, environ: Mapping[str, str], clock: Clock) -> subprocess.Popen[bytes]:
    process = background.spawn(demo.home, environ, "127.0.0.1:0")
    try:
        await background.wait_ready(demo.home, clock, process)
    except BaseException:
        process.kill()
        process.wait()
        raise
    return process


async def _until_killed(
    demo: DemoHome, jobs: tuple[Job, ...], process: subprocess.Popen[bytes], clock: Clock
) -> tuple[dict[str, str], Snapshot]:
    """Submit everything; SIGKILL when some of it is done, some runs and some waits."""
    seen = _Seen()
    async with Client(lambda: find_daemon(demo.home, {}), clock) as client:
        url = find_daemon(demo.home, {}).url.replace("http", "ws", 1)
        screen.say(f"2. submitting {len(jobs)} pieces of real work over {url}/ws")
        async with asyncio.TaskGroup() as group:
            following = group.create_task(seen.follow(client))
            answers = [await client.call(job.method, job.params) for job in jobs]
            ids = {job.name: str(answer["task_id"]) for job, answer in zip(jobs, answers, strict=True)}
            await _true_within(lambda: _in_mid_flight(demo, seen, ids), clock)
            process.kill()
            following.cancel()
    await asyncio.to_thread(process.wait)
    states = [seen.states.get(task_id, "QUEUED") for task_id in ids.values()]
    snapshot = Snapshot(
        acknowledged=len(ids),
        ended=sum(state in TERMINAL for state in states),
        running=sum(state in ("CLAIMED", "RUNNING") for state in states),
    )
    screen.say(
        f"3. SIGKILL: of {snapshot.acknowledged} acknowledged pieces {snapshot.ended} had ended, "
        f"{snapshot.running} were running, {snapshot.waiting} were waiting"
    )
    return ids, snapshot


def _in_mid_flight(demo: DemoHome, seen: _Seen, ids: Mapping[str, str]) -> bool:
    """Both long effects have begun by the ledger, and some other work has ended."""
    begun = {line.label for line in read_ledger(demo.ledger) if line.word == "begin"}
    ended = sum(seen.states.get(task_id) in TERMINAL for task_id in ids.values())
    return {CUT, SLOW} <= begun and ended >= 5


async def _to_the_end(
    demo: DemoHome, jobs: tuple[Job, ...], ids: Mapping[str, str], clock: Clock
) -> tuple[int, tuple[Outcome, ...]]:
    async with Client(lambda: find_daemon(demo.home, {}), clock) as client:
        again = [await client.call(job.method, job.params) for job in jobs]
        known = sum(
            one["deduplicated"] and one["task_id"] == ids[job.name] for job, one in zip(jobs, again, strict=True)
        )
        screen.say(f"5. sending everything again under the same keys: {known} of {len(jobs)} known, nothing doubled")
        tasks = await asyncio.gather(*(_ended(client, task_id) for task_id in ids.values()))
        events = [await _events(client, task_id) for task_id in ids.values()]
    ledger = read_ledger(demo.ledger)
    return known, tuple(
        Outcome(job=job, task=task, events=told, lines=[line for line in ledger if line.label == job.name])
        for job, task, told in zip(jobs, tasks, events, strict=True)
    )


async def _ended(client: Client, task_id: str) -> Mapping[str, Any] | None:
    try:
        return await client.wait(task_id, END_MS)
    except RpcError as error:
        if error.rpc_code == 4040:
            return None
        raise


async def _events(client: Client, task_id: str) -> list[Mapping[str, Any]]:
    try:
        return list((await client.call("task.events", {"task_id": task_id}))["events"])
    except RpcError as error:
        if error.rpc_code == 4040:
            return []
        raise


async def _true_within(test: Callable[[], bool], clock: Clock) -> None:
    until = clock.monotonic() + IN_FLIGHT_MS
    while not test():
        if clock.monotonic() >= until:
            raise WaitTimeout("the work did not get under way; see the log of the demo's home")
        await clock.sleep(POLL_MS)


def _alive(pid: int) -> bool:
    """Whether the process runs; one that is dead and only not yet buried by its parent does not."""
    try:
        os.kill(pid, 0)
        status = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return status.rpartition(")")[2].split()[0] not in ("Z", "X")
