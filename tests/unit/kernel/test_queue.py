"""The async face of the queue: intake, bells, and answers that come after the commit."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from goclaw.core.intake import chat_task
from goclaw.core.outcome import Failed, Succeeded
from goclaw.core.task import NewTask, TaskState
from goclaw.errors import BadRequest, Conflict, NotFound, Saturated, ShuttingDown
from goclaw.kernel.queue import Queue
from goclaw.store.tasks import TaskFilter
from tests.kitchen import Kitchen, agent
from tests.scratch import noop


class Bells:
    """What the queue told its listeners."""

    def __init__(self, queue: Queue) -> None:
        self.rung: list[set[str]] = []
        self.rearmed = 0
        queue.listen(lambda ready: self.rung.append(set(ready)), self._rearm)

    def _rearm(self) -> None:
        self.rearmed += 1

    def take(self) -> tuple[list[set[str]], int]:
        taken = (self.rung, self.rearmed)
        self.rung, self.rearmed = [], 0
        return taken


def kitchen_in(folder: Path, *agents: Any) -> Kitchen:
    return Kitchen(folder / "d.db", {}, *agents)


@pytest.mark.spec("GC-QUE-119")
async def test_whoever_has_new_work_is_told_and_nobody_else(tmp_path: Path) -> None:
    async with kitchen_in(tmp_path) as kitchen:
        bells = Bells(kitchen.queue)
        await kitchen.submit(noop())
        assert bells.take() == ([{"default"}], 0)
        await kitchen.submit(noop(agent_id="other"))
        assert bells.take() == ([{"other"}], 0)
        await kitchen.submit(noop(delay_ms=5))
        assert bells.take() == ([], 1)
        await kitchen.submit(noop(deadline_ms=5, idempotency_key="k"))
        assert bells.take() == ([{"default"}], 1)
        await kitchen.submit(noop(deadline_ms=5, idempotency_key="k"))
        assert bells.take() == ([], 0), "nothing new"
        for session in ("s", "s"):
            await kitchen.submit(chat_task("hi", agent_id=None, session_id=session))
        assert bells.take() == ([{"default"}], 0), "the second turn waits for the first"
        await kitchen.queue.submit_many([noop(), noop(agent_id="other"), noop()])
        assert bells.take() == ([{"default", "other"}], 0)
        await kitchen.queue.pause("all", "")
        await kitchen.queue.resume("all", "")
        assert bells.take() == ([{"*"}, {"*"}], 0)


async def test_ends_waits_and_redrives_ring_too(tmp_path: Path) -> None:
    async with kitchen_in(tmp_path) as kitchen:
        one = await kitchen.submit(chat_task("one", agent_id=None, session_id="s"))
        two = await kitchen.submit(chat_task("two", agent_id=None, session_id="s"))
        bells = Bells(kitchen.queue)
        (claimed,) = await kitchen.queue.claim("default", 9)
        task = await kitchen.queue.finish(claimed.stored, Failed("E", "x"))
        assert (task.id, task.state) == (one.id, TaskState.RETRY_WAIT)
        assert bells.take() == ([], 1)
        kitchen.clock.advance(1_000)
        await kitchen.queue.run_timers()
        assert bells.take() == ([{"default"}], 0)
        (claimed,) = await kitchen.queue.claim("default", 9)
        done, following = await kitchen.queue.finish_and_claim(claimed.stored, Failed("E", "y", permanent=True))
        assert (done.state, following and following.task.id) == (TaskState.FAILED, two.id)
        assert bells.take() == ([{"default"}], 0)
        await kitchen.queue.redrive(one.id)
        assert bells.take() == ([], 0), "it waits for the turn that has begun meanwhile"


@pytest.mark.spec("GC-QUE-120")
async def test_a_closed_intake_refuses_before_it_looks(tmp_path: Path) -> None:
    async with kitchen_in(tmp_path) as kitchen:
        known = await kitchen.submit(noop(idempotency_key="k"))
        kitchen.queue.close_intake()
        for ask in (kitchen.queue.submit(noop()), kitchen.queue.submit_many([noop()])):
            with pytest.raises(ShuttingDown) as refused:
                await ask
            assert refused.value.retryable
        assert await kitchen.queue.page(TaskFilter(), 10, None) == [known]


@pytest.mark.spec("GC-QUE-104")
async def test_a_key_names_its_task_over_a_restart(tmp_path: Path) -> None:
    async with kitchen_in(tmp_path) as kitchen:
        first = await kitchen.queue.submit(noop(idempotency_key="k"))
        assert not first.known
    async with kitchen_in(tmp_path) as kitchen:
        again = await kitchen.queue.submit(noop(idempotency_key="k"))
        assert (again.known, again.task) == (True, first.task)
        with pytest.raises(Conflict):
            await kitchen.queue.submit(noop(idempotency_key="k", priority=1))


@pytest.mark.spec("GC-QUE-104")
async def test_of_many_at_once_with_one_key_one_is_stored(tmp_path: Path) -> None:
    async with kitchen_in(tmp_path) as kitchen:
        done = await asyncio.gather(*(kitchen.queue.submit(noop(idempotency_key="k")) for _ in range(50)))
        assert len({one.task.id for one in done}) == 1
        assert sum(not one.known for one in done) == 1


async def test_many_are_stored_in_one_commit_or_not_at_all(tmp_path: Path) -> None:
    async with kitchen_in(tmp_path) as kitchen:
        done = await kitchen.queue.submit_many([noop(payload={"result": n}) for n in range(1_000)])
        assert len({one.task.id for one in done}) == 1_000
        assert kitchen.database.commits == 1
        head = await kitchen.queue.head()
        with pytest.raises(BadRequest):
            await kitchen.queue.submit_many([noop(), noop(priority=11)])
        assert await kitchen.queue.head() == head == 1_000


@pytest.mark.spec("GC-QUE-108")
async def test_the_bound_is_that_of_the_agent_at_the_moment(tmp_path: Path) -> None:
    async with kitchen_in(tmp_path, agent("default", depth=1)) as kitchen:
        await kitchen.submit(noop())
        with pytest.raises(Saturated):
            await kitchen.submit(noop())
        kitchen.agents = {"default": agent("default", depth=2)}
        await kitchen.submit(noop())
        with pytest.raises(NotFound, match="there is no agent 'other'; agents are default"):
            await kitchen.submit(noop(agent_id="other"))


async def test_ids_are_of_version_seven_and_rise_with_time(tmp_path: Path) -> None:
    async with kitchen_in(tmp_path) as kitchen:
        ids = []
        for _ in range(5):
            ids.append((await kitchen.submit(noop())).id)
            kitchen.clock.advance(1)
        assert ids == sorted(ids)
        assert all(one[14] == "7" and one[19] in "89ab" and len(one) == 36 for one in ids)


async def test_a_claim_bears_the_policy_and_the_boot(tmp_path: Path) -> None:
    async with kitchen_in(tmp_path) as kitchen:
        await kitchen.submit(noop())
        (claimed,) = await kitchen.queue.claim("default", 1)
        assert (claimed.task.lease_owner, claimed.task.policy_version) == ("boot-1", "policy-1")
        assert kitchen.queue.boot_id == "boot-1"
        token = claimed.task.lease_token or 0
        assert await kitchen.queue.renew([token]) == []
        kitchen.clock.advance(30_001)
        assert await kitchen.queue.renew([token]) == [token]


async def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    async with kitchen_in(tmp_path) as kitchen:
        for ask in (
            kitchen.queue.get("x"),
            kitchen.queue.cancel("x", None),
            kitchen.queue.redrive("x"),
            kitchen.queue.resolve("x", None, True, None),
        ):
            with pytest.raises(NotFound, match="there is no task x"):
                await ask


async def test_a_person_settles_a_step_through_the_queue(tmp_path: Path) -> None:
    async with kitchen_in(tmp_path) as kitchen:
        task = await kitchen.submit(NewTask(kind="exec", payload={"argv": ["true"]}))
        with pytest.raises(Conflict, match="no unknown step"):
            await kitchen.queue.resolve(task.id, None, True, None)


async def test_recovery_finds_what_another_boot_held(tmp_path: Path) -> None:
    async with kitchen_in(tmp_path) as kitchen:
        task = await kitchen.submit(noop())
        await kitchen.queue.claim("default", 1)
        assert await kitchen.queue.recover() == []
        await kitchen.database.write(_of_another_boot)
        ((found, state),) = await kitchen.queue.recover()
        assert (found.id, state) == (task.id, TaskState.QUEUED)
        (claimed,) = await kitchen.queue.claim("default", 1)
        assert (await kitchen.queue.finish(claimed.stored, Succeeded())).state is TaskState.SUCCEEDED


def _of_another_boot(conn: Any) -> None:
    conn.execute("UPDATE task SET lease_owner = 'boot-0'")
