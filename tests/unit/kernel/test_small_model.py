"""Every state of a few small queues, with a crash at every point; and proof that the search finds what is wrong."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from goclaw.core import settle as judgement
from goclaw.core.settle import Transition
from goclaw.kernel import admission, operations, upkeep
from goclaw.store import concurrency, tasks
from tests.unit.kernel.small_scenarios import SHORT
from tests.unit.kernel.small_search import Broken, Search

Break = Callable[[pytest.MonkeyPatch], None]


@pytest.mark.spec("GC-STM-202", "GC-STM-203", "GC-STM-204")
@pytest.mark.parametrize("name", SHORT)
def test_a_small_queue_is_right_in_every_state(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = Search(SHORT[name]).run()
    with capsys.disabled():
        sys.stdout.write(f"\n{name}: {found}\n")
    assert found.finished
    assert found.rollbacks >= found.states


def forget_the_session(patch: pytest.MonkeyPatch) -> None:
    """The next turn of a session is not let in when the one before it ends."""
    patch.setattr(admission, "next_of_session", lambda _conn, _session: set())


def forget_the_name(patch: pytest.MonkeyPatch) -> None:
    """Who was parked for a name is never let in."""
    patch.setattr(concurrency, "admit", lambda _conn, _name, _count: set())


def tell_nobody(patch: pytest.MonkeyPatch) -> None:
    """Who was parked for a name is let in, and his agent is not told."""
    admit = concurrency.admit
    patch.setattr(concurrency, "admit", lambda conn, name, count: admit(conn, name, count) & set())


def keep_the_slot(patch: pytest.MonkeyPatch) -> None:
    """Who is handed back keeps his name, although a better one waits or the limit is lower now."""
    blocker = operations._blocker  # noqa: SLF001 (broken on purpose)
    patch.setattr(
        operations, "_blocker", lambda conn, one, *at: None if one.task.lease_token else blocker(conn, one, *at)
    )


def ignore_the_limit(patch: pytest.MonkeyPatch) -> None:
    """A name has room for everybody who enters."""
    patch.setattr(concurrency, "displace", lambda _conn, _name, _order: True)


def run_beside_a_suspect(patch: pytest.MonkeyPatch) -> None:
    """A task that was running at two unclean stops is claimed as any other."""
    lane = tasks.lane
    patch.setattr(tasks, "lane", lambda conn, agent: (seen := lane(conn, agent)) and seen._replace(suspects=False))


def charge_no_death(patch: pytest.MonkeyPatch) -> None:
    """Recovery forgets to count the death."""
    recover = judgement.recover

    def forgetful(task: Any, **given: Any) -> Transition:
        change = recover(task, **given)
        return replace(change, deaths=task.deaths)

    patch.setattr(upkeep, "recover", forgetful)


def forgive_the_third_death(patch: pytest.MonkeyPatch) -> None:
    """A task may kill the process once more."""
    patch.setattr(judgement, "DEATHS_UNTIL_POISON", 4)


def lose_the_timer(patch: pytest.MonkeyPatch) -> None:
    """A task that stands aside has no instant at which it is looked at."""
    transition = tasks.transition

    def without(conn: sqlite3.Connection, *args: Any, **named: Any) -> bool:
        done = transition(conn, *args, **named)
        conn.execute("UPDATE task SET wake_at = NULL WHERE wait_reason = 'delay'")
        return done

    patch.setattr(tasks, "transition", without)


def reuse_a_token(patch: pytest.MonkeyPatch) -> None:
    """A second attempt gets a token that was given before."""
    claim = tasks.claim
    patch.setattr(tasks, "claim", lambda conn, keys, lease, now: claim(conn, keys, replace(lease, token=3), now))


def believe_the_stale(patch: pytest.MonkeyPatch) -> None:
    """An end counts whatever lease it was reached with."""
    patch.setattr(tasks, "holds", lambda conn, key, _token: tasks.by_key(conn, key).task.lease_token is not None)


def end_it_twice(patch: pytest.MonkeyPatch) -> None:
    """The stale and the live end of one task are told apart by the task only."""
    patch.setattr(operations, "Counter", lambda given: dict.fromkeys(given, 1))
    patch.setattr(operations, "_claim_for", lambda _conn, ends: [None] * len(ends))


def charge_what_is_handed_back(patch: pytest.MonkeyPatch) -> None:
    """Who is handed back has used up an attempt."""
    handed_back = judgement._handed_back  # noqa: SLF001 (broken on purpose)
    patch.setattr(
        judgement,
        "_handed_back",
        lambda task, now, **given: replace(handed_back(task, now, **given), attempt=task.attempt),
    )


def forget_the_cancel(patch: pytest.MonkeyPatch) -> None:
    """A request to cancel is forgotten when the attempt fails and waits for the next one."""
    settle = judgement.settle
    patch.setattr(operations, "settle", lambda task, *given: settle(task._replace(cancel_requested=False), *given))


def leave_one_behind(patch: pytest.MonkeyPatch) -> None:
    """Recovery judges one task only."""
    orphans = tasks.orphans
    patch.setattr(tasks, "orphans", lambda conn, owner: orphans(conn, owner)[:1])


@pytest.mark.spec("GC-STM-205")
@pytest.mark.parametrize(
    ("name", "broken", "said"),
    [
        ("a session", forget_the_session, "a session lets its first one go"),
        ("a name", forget_the_name, "nobody waits for a name that has room"),
        ("a name", tell_nobody, "nobody told"),
        ("a name", keep_the_slot, "of a name"),
        ("a name", ignore_the_limit, "no more of a name may start"),
        ("suspects", run_beside_a_suspect, "runs alone"),
        ("suspects", charge_no_death, "deaths"),
        ("suspects", forgive_the_third_death, "the third death is the last"),
        ("a session", lose_the_timer, "a timer knows"),
        ("suspects", reuse_a_token, "token"),
        ("one call", believe_the_stale, "stale"),
        ("suspects", end_it_twice, "went from"),
        ("a name", charge_what_is_handed_back, "attempt"),
        ("one call", forget_the_cancel, "asked to end"),
        ("suspects", leave_one_behind, "nobody holds it"),
    ],
)
def test_the_search_finds_a_machine_that_is_broken(
    name: str, broken: Break, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch)
    with pytest.raises(Broken, match=said):
        Search(SHORT[name]).run()
