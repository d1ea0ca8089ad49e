"""What a start makes of what an unclean stop left behind."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from goclaw.core.intake import chat_task
from goclaw.core.outcome import HandedBack, Succeeded
from goclaw.core.step import Effect, Intend, StepState
from goclaw.core.task import NewTask, Task, TaskState
from goclaw.kernel import claiming, operations, submission, upkeep
from goclaw.kernel.claiming import Claimed, Holder
from goclaw.store import events, steps, tasks
from goclaw.store.chains import first_break
from tests.fakes_clock import START
from tests.scratch import BOUNDS, HOLDER, at, commit, noop

UNSAFE = Intend(key="u", kind="tool", request={}, request_hash="h", tool="exec", effect=Effect.UNSAFE, running=True)
PURE = Intend(key="p", kind="tool", request={}, request_hash="h", tool="grep", effect=Effect.PURE, running=True)
INTENDED = Intend(key="i", kind="tool", request={}, request_hash="h", tool="exec", effect=Effect.UNSAFE)


class House:
    """A database with one boot after the other."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self.conn = conn
        self.boots = 1

    def submit(self, task_id: str, new: NewTask) -> None:
        commit(self.conn, submission.submit, new, task_id, BOUNDS, START)

    def claim(self, limit: int = 99) -> list[Claimed]:
        holder = Holder(f"boot-{self.boots}", 30_000, "policy-1", HOLDER.lanes)
        return commit(self.conn, claiming.claim, "default", limit, holder, at())

    def dies(self) -> dict[str, TaskState]:
        self.boots += 1
        judged = commit(self.conn, upkeep.recover_all, f"boot-{self.boots}", START + 1)
        return {task.id: state for task, state in judged}

    def get(self, task_id: str) -> Task:
        return operations.find(self.conn, task_id).task

    def story(self, task_id: str) -> list[str]:
        return [event.event_type for event in events.read_task(self.conn, task_id, 0)]


@pytest.fixture
def house(conn: sqlite3.Connection) -> House:
    return House(conn)


@pytest.mark.spec("GC-STM-108")
def test_deaths_are_counted_and_attempts_given_back(house: House) -> None:
    house.submit("a", noop())
    for deaths in (1, 2):
        house.claim()
        assert house.dies() == {"a": TaskState.QUEUED}
        task = house.get("a")
        assert (task.state, task.attempt, task.deaths, task.lease_token) == (TaskState.QUEUED, 0, deaths, None)
    house.claim()
    assert house.dies() == {"a": TaskState.DEAD_LETTER}
    task = house.get("a")
    assert (task.error_code, task.deaths, task.finished_at) == ("POISON", 3, START + 1)
    assert house.story("a") == [
        "task.enqueued",
        *(["task.claimed", "task.running", "task.recovered"] * 2),
        "task.claimed",
        "task.running",
        "task.dead_letter",
    ]
    assert events.read_task(house.conn, "a", 0)[-1].state_from == "RUNNING"


@pytest.mark.spec("GC-STM-108")
def test_a_drain_is_no_death(house: House) -> None:
    house.submit("a", noop())
    for _ in range(5):
        (claimed,) = house.claim()
        commit(house.conn, operations.finish, claimed.stored, HandedBack(), 0.0, START)
        assert house.dies() == {}
    assert (house.get("a").deaths, house.get("a").attempt) == (0, 0)


@pytest.mark.spec("GC-QUE-114")
def test_after_two_deaths_the_innocent_are_told_from_the_guilty(house: House) -> None:
    for name in ("innocent", "guilty"):
        house.submit(name, noop())
    for _ in range(2):
        assert len(house.claim()) == 2
        house.dies()
    (alone,) = house.claim()
    assert alone.task.id == "innocent"
    commit(house.conn, operations.finish, alone.stored, Succeeded(), 0.0, START)
    (alone,) = house.claim()
    assert alone.task.id == "guilty"
    assert house.dies() == {"guilty": TaskState.DEAD_LETTER}
    assert house.get("innocent").state is TaskState.SUCCEEDED


CALLS: list[tuple[str, dict[str, Any]]] = [
    ("exec", {"argv": ["true"]}),
    ("skill", {"skill": "x"}),
    ("tool", {"name": "exec"}),
]


@pytest.mark.spec("GC-STM-111")
@pytest.mark.parametrize(("kind", "payload"), CALLS)
@pytest.mark.parametrize(
    ("step", "state", "code"),
    [(UNSAFE, TaskState.FAILED, "OUTCOME_UNKNOWN"), (PURE, TaskState.QUEUED, None), (INTENDED, TaskState.QUEUED, None)],
)
def test_an_unsafe_call_that_had_begun_is_never_queued_again(
    house: House, kind: str, payload: dict[str, Any], step: Intend, state: TaskState, code: str | None
) -> None:
    house.submit("a", NewTask(kind=kind, payload=payload))
    (claimed,) = house.claim()
    commit(house.conn, operations.record, claimed.stored, [step], START)
    assert house.dies() == {"a": state}
    assert house.get("a").error_code == code
    expected = StepState.UNKNOWN if code else (StepState.RUNNING if step.running else StepState.INTENDED)
    assert steps.load(house.conn, claimed.task.key)[step.key].state is expected


def test_a_turn_is_queued_again_with_its_running_step(house: House) -> None:
    house.submit("a", chat_task("hi", agent_id=None, session_id="s"))
    house.submit("b", chat_task("ho", agent_id=None, session_id="s"))
    (claimed,) = house.claim()
    commit(house.conn, operations.record, claimed.stored, [UNSAFE], START)
    assert house.dies() == {"a": TaskState.QUEUED}
    (again,) = house.claim()
    assert (again.task.id, again.steps["u"].state) == ("a", StepState.RUNNING)


@pytest.mark.spec("GC-STM-107")
def test_a_committed_cancel_survives_the_crash(house: House) -> None:
    house.submit("a", NewTask(kind="exec", payload={"argv": ["true"]}))
    (claimed,) = house.claim()
    commit(house.conn, operations.record, claimed.stored, [UNSAFE], START)
    commit(house.conn, operations.ask_cancel, "a", "enough", START)
    assert house.dies() == {"a": TaskState.CANCELED}
    assert (house.get("a").error_code, house.get("a").error) == ("CANCELED", "enough")
    assert steps.load(house.conn, 1)["u"].state is StepState.UNKNOWN


def test_a_poisoned_head_lets_the_next_turn_go(house: House) -> None:
    house.submit("a", chat_task("hi", agent_id=None, session_id="s"))
    house.submit("b", chat_task("ho", agent_id=None, session_id="s"))
    for _ in range(3):
        assert [claimed.task.id for claimed in house.claim()] == ["a"]
        house.dies()
    assert [claimed.task.id for claimed in house.claim()] == ["b"]


@pytest.mark.spec("GC-STM-110")
def test_a_worker_of_the_dead_boot_can_write_nothing(house: House) -> None:
    house.submit("a", noop())
    (stale,) = house.claim()
    house.dies()
    (live,) = house.claim()
    assert (live.task.lease_token or 0) > (stale.task.lease_token or 0)
    commit(house.conn, operations.finish, stale.stored, Succeeded("from beyond"), 0.0, START)
    assert (house.get("a").state, house.get("a").result) == (TaskState.RUNNING, None)


def test_what_this_boot_holds_and_what_waits_is_left_alone(house: House) -> None:
    house.submit("mine", noop())
    house.claim()
    house.submit("queued", noop())
    house.submit("delayed", noop(delay_ms=9_000))
    assert commit(house.conn, upkeep.recover_all, "boot-1", START) == []
    assert {name: house.get(name).state.value for name in ("mine", "queued", "delayed")} == {
        "mine": "RUNNING",
        "queued": "QUEUED",
        "delayed": "QUEUED",
    }


def test_recovery_can_be_killed_and_begun_again(house: House) -> None:
    for name in ("a", "b"):
        house.submit(name, noop())
    house.claim()
    house.conn.execute("BEGIN IMMEDIATE")
    upkeep.recover_all(house.conn, "boot-2", START)
    house.conn.execute("ROLLBACK")
    assert set(house.dies().values()) == {TaskState.QUEUED}
    assert house.get("a").deaths == house.get("b").deaths == 1
    assert tasks.depth(house.conn, "default") == 2
    assert first_break(house.conn) is None
