"""A queue of a few tasks, small enough to look at every state it can come to: what can be done, and what must hold.

The operations are the real ones, on a database in memory. A state is what the rows say without names, ids and instants:
times count from now, ranks and places only by their order, and of what has ended only what a redrive would see.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from goclaw.core.outcome import HandedBack, Outcome, Snoozed, Succeeded
from goclaw.core.step import Effect, Intend
from goclaw.core.task import TERMINAL, TRANSITIONS, NewTask, TaskState
from goclaw.kernel import claiming, operations, submission, upkeep
from goclaw.kernel.claiming import Holder, Now
from goclaw.kernel.operations import Ended
from goclaw.store import concurrency, events, steps, tasks
from goclaw.store.tasks import Stored
from tests.fakes_clock import START
from tests.scratch import scratch
from tests.unit.kernel.laws import broken, unexplained

BOUNDS = {"default": 100, "other": 100}
SNOOZE_MS = 1_000
STALE_TOKEN = 1
"""The id of the event that enqueued the first task: no claim has it."""
FAIR = frozenset({"claim", "succeed", "timer", "resume"})
"""What happens by itself sooner or later; everything must come to an end by these alone."""
_S = TaskState


class Scenario(NamedTuple):
    """What is submitted, in this order, how attempts may end, and what else may be done (see `World.moves`)."""

    news: tuple[NewTask, ...]
    outcomes: tuple[Outcome, ...]
    extras: frozenset[str]
    lanes: Mapping[str, int] = {"default": 2, "other": 2}


class Move(NamedTuple):
    """One operation that can be done now. `do` answers with the agents that are told of new work."""

    kind: str
    label: str
    now: int
    do: Callable[[], Iterable[str]]
    outcomes: Mapping[int, Outcome] = {}
    looking: frozenset[str] = frozenset()
    """The agents whose workers look for work themselves."""


Rows = dict[int, Stored]
State = tuple[object, ...]


class World:
    """One database and the instant it is at."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.holder = Holder("boot-1", 30_000, "policy-1", scenario.lanes)
        self.now = START
        self.conn = sqlite3.connect(":memory:", isolation_level=None, cached_statements=256)
        self.conn.row_factory = sqlite3.Row
        self.conn.execute("PRAGMA foreign_keys = ON")
        self.restore(_empty(), START)

    def restore(self, image: bytes, now: int) -> None:
        """Be in another state."""
        with closing(sqlite3.connect(":memory:")) as source:
            source.deserialize(image)  # only read from: SQLite 3.40 writes to such a database crash
            source.backup(self.conn)
        self.now = now

    def rows(self) -> Rows:
        """All tasks by their keys."""
        keys = [row[0] for row in self.conn.execute("SELECT key FROM task ORDER BY key")]
        return {key: tasks.by_key(self.conn, key) for key in keys}

    # -- what can be done --------------------------------------------------------------------------------------

    def moves(self, rows: Rows) -> Iterator[Move]:
        """Every operation that can be done in this state."""
        conn, now, extras = self.conn, self.now, self.scenario.extras
        if len(rows) < len(self.scenario.news) and not self._is_refused(self.scenario.news[len(rows)], rows):
            yield Move("submit", f"submit {len(rows) + 1}", now, self._submit(len(rows)))
        for agent in self.scenario.lanes:
            yield Move("claim", f"claim {agent}", now, self._claim(agent), looking=frozenset({agent}))
        held = {key: stored for key, stored in rows.items() if stored.task.state is _S.RUNNING}
        yield from self._ends(held)
        wake = tasks.next_wake(conn)
        if wake is not None:
            yield Move("timer", "timer", max(now, wake), self._timer(max(now, wake)))
        for key, stored in rows.items():
            yield from self._words(key, stored)
        if "pause" in extras:
            paused = bool(tasks.pauses(conn))
            verb, function = ("resume", upkeep.resume) if paused else ("pause", upkeep.pause)
            yield Move(verb, f"{verb} all", now, self._all_told(lambda: function(conn, "all", "", now)))
        if "limit" in extras:
            limits = {} if concurrency.limits(conn) else {"n": 2}
            yield Move("limit", f"limits {limits}", now, lambda: upkeep.set_limits(conn, limits, {}))
        yield Move("crash", "crash", now, self._all_told(lambda: upkeep.recover_all(conn, "boot-2", now)))

    def _is_refused(self, new: NewTask, rows: Rows) -> bool:
        """Whether somebody above it was canceled: such a one takes no more children."""
        above, known = new.parent_task_id, {one.task.id: one.task for one in rows.values()}
        while above is not None:
            if known[above].cancel_requested or known[above].state is _S.CANCELED:
                return True
            above = known[above].parent_task_id
        return False

    def _ends(self, held: Rows) -> Iterator[Move]:
        for key in held:
            for outcome in self.scenario.outcomes:
                kind = "succeed" if type(outcome) is Succeeded else "end"
                yield self._end(kind, held, {key: outcome}, None)
        if held:
            # All end in one commit, whatever each comes to, and every worker takes one more.
            for outcome in self.scenario.outcomes:
                ends = dict.fromkeys(held, self.scenario.outcomes[0]) | {min(held): outcome}
                yield self._end("end", held, ends, self.holder)

    def _end(self, kind: str, held: Rows, ends: Mapping[int, Outcome], holder: Holder | None) -> Move:
        now = Now(self.now, self.now)
        given = [Ended(held[key], outcome, 0.0, holder, now) for key, outcome in ends.items()]
        if holder is not None:
            # A worker that was thought dead comes in the same commit.
            given.insert(0, Ended(_stale(held[min(ends)]), Succeeded(), 0.0, None, now))
        words = ", ".join(f"{key} {type(outcome).__name__}" for key, outcome in ends.items())

        def do() -> set[str]:
            return {agent for one in operations.settle_shared(self.conn, given) for agent in one.ready}

        looking = frozenset(held[key].task.agent_id for key in ends)
        return Move(kind, f"settle {words}{' and claim' if holder else ''}", self.now, do, ends, looking)

    def _words(self, key: int, stored: Stored) -> Iterator[Move]:
        """What a person, or the handler itself, may do to one task."""
        conn, now, extras, task = self.conn, self.now, self.scenario.extras, stored.task
        if "cancel" in extras and task.state not in TERMINAL and not task.cancel_requested:
            yield Move("cancel", f"cancel {key}", now, lambda: operations.ask_cancel(conn, task.id, None, now).ready)
        if "snooze" in extras and task.state is _S.QUEUED and task.wait_reason != "delay":
            yield Move("snooze", f"snooze {key}", now, lambda: upkeep.ask_snooze(conn, task.id, SNOOZE_MS, now)[1])
        if task.state in TERMINAL and task.state is not _S.SUCCEEDED:
            if steps.unsettled(conn, key):
                yield Move("resolve", f"resolve {key}", now, self._resolve(task.id))
            elif "redrive" in extras:
                yield Move("redrive", f"redrive {key}", now, lambda: upkeep.ask_redrive(conn, task.id, now)[1])
        if "begin" in extras and task.state is _S.RUNNING and not steps.load(conn, key):
            yield Move("begin", f"begin {key}", now, self._begin(stored))

    def _submit(self, number: int) -> Callable[[], set[str]]:
        def do() -> set[str]:
            new = self.scenario.news[number]
            done = submission.submit(self.conn, new, f"task-{number + 1}", BOUNDS, self.now)
            return {done.task.agent_id} if done.task.wait_reason is None else set()

        return do

    def _claim(self, agent: str) -> Callable[[], set[str]]:
        def do() -> set[str]:
            claiming.claim(self.conn, agent, 1, self.holder, Now(self.now, self.now))
            return set()

        return do

    def _timer(self, now: int) -> Callable[[], Iterable[str]]:
        return lambda: upkeep.run_timers(self.conn, now, self.now).ready

    def _all_told(self, function: Callable[[], object]) -> Callable[[], set[str]]:
        def do() -> set[str]:
            function()
            return {"*"}

        return do

    def _resolve(self, task_id: str) -> Callable[[], set[str]]:
        def do() -> set[str]:
            upkeep.settle_step(self.conn, task_id, None, False, None, self.now)
            return set()

        return do

    def _begin(self, stored: Stored) -> Callable[[], set[str]]:
        entry = Intend(
            key="step", kind="tool", request={}, request_hash="h", tool="exec", effect=Effect.UNSAFE, running=True
        )

        def do() -> set[str]:
            operations.record(self.conn, stored, [entry], self.now)
            return set()

        return do

    # -- what a state is ---------------------------------------------------------------------------------------

    def state(self, rows: Rows) -> State:
        """All that the future depends on."""
        conn, live = self.conn, [key for key, stored in rows.items() if stored.task.state not in TERMINAL]
        return (
            tuple(self._of_task(key, stored) for key, stored in rows.items()),
            tuple(sorted(live, key=lambda key: (rows[key].rank, key))),
            tuple(sorted((key for key in live if rows[key].place), key=lambda key: rows[key].place or 0)),
            tuple(tasks.pauses(conn)),
            tuple(concurrency.limits(conn).items()),
        )

    def _of_task(self, key: int, stored: Stored) -> State:
        task = stored.task
        deadline = None if task.deadline_at is None else max(0, task.deadline_at - self.now)
        kept = tuple(step.state.value for step in steps.load(self.conn, key).values())
        if task.state in TERMINAL:
            return task.state, deadline, kept
        waits = task.wait_reason in ("delay", "backoff")
        ahead = max(0, stored.rank - self.now)
        return (
            task.state, task.wait_reason, task.attempt, task.deaths, task.fingerprint, task.fingerprint_count, deadline,
            max(0, task.available_at - self.now) if waits else None, ahead, task.cancel_requested, task.cancel_reason,
            kept,
        )  # fmt: skip

    # -- what must hold ----------------------------------------------------------------------------------------

    def wrongs_of_state(self, rows: Rows) -> list[str]:
        """What does not hold here: the laws, the log, and that a stale attempt changes nothing."""
        wrongs = broken(self.conn, self.scenario.lanes) + unexplained(self.conn)
        head, now = events.head(self.conn), Now(self.now, self.now)
        stale = [Ended(_stale(one), Succeeded(), 0.0, None, now) for one in rows.values()]
        if stale:
            operations.settle_shared(self.conn, stale)
        return wrongs + (["a stale attempt was settled"] if events.head(self.conn) != head else [])

    def wrongs_of_move(self, move: Move, before: Rows, after: Rows, head: int) -> list[str]:
        """What a move should not have done. `head` is the event before it."""
        wrongs = [f"task {key} is gone" for key in before if key not in after]
        if len(after) != len(before) + (move.kind == "submit"):
            wrongs.append(f"there are {len(after)} tasks")
        if not self.conn.in_transaction:
            wrongs.append("the operation committed by itself")
        states: dict[int, str | None] = {key: stored.task.state for key, stored in before.items()}
        told = self.conn.execute(
            "SELECT task_key, state_from, state_to FROM event WHERE id > ? AND state_to IS NOT NULL ORDER BY id",
            (head,),
        )
        for key, came, to in told:
            if states.get(key) != came or _S(to) not in TRANSITIONS[_S(came) if came else None]:
                wrongs.append(f"task {key} went from {came} to {to}, and was {states.get(key)}")
            states[key] = to
        for key, stored in after.items():
            if states.get(key) != stored.task.state:
                wrongs.append(f"task {key} is {stored.task.state}, its events say {states.get(key)}")
            if key in before:
                wrongs += _wrongs_of_task(move, before[key], stored)
        return wrongs


def _stale(stored: Stored) -> Stored:
    return stored._replace(task=stored.task._replace(lease_token=STALE_TOKEN))


def _wrongs_of_task(move: Move, before: Stored, after: Stored) -> list[str]:
    was, now = before.task, after.task
    wrongs = []
    redriven = move.label == f"redrive {was.key}"
    if was.state in TERMINAL and now.state is not was.state and not redriven:
        wrongs.append(f"task {was.key} was {was.state}, which is final")
    attempt, deaths = (0, 0) if redriven else (was.attempt, was.deaths)
    if was.state is _S.RUNNING and now.lease_token != was.lease_token and now.state not in TERMINAL:
        # Who was interrupted by no fault of his own gets his charge back.
        attempt -= move.kind == "crash" or isinstance(move.outcomes.get(was.key), HandedBack | Snoozed)
    if was.state is _S.RUNNING and move.kind == "crash" and now.state in (_S.QUEUED, _S.DEAD_LETTER):
        deaths += 1
    if now.state is _S.RUNNING and now.lease_token != was.lease_token:
        attempt += 1
    if (now.attempt, now.deaths) != (attempt, deaths):
        wrongs.append(f"task {was.key} has attempt {now.attempt} and deaths {now.deaths}, not {attempt} and {deaths}")
    if move.kind == "crash" and now.state is _S.RUNNING:
        wrongs.append(f"task {was.key} runs, and nobody holds it")
    if was.cancel_requested and not redriven and now.lease_token is None and now.state not in TERMINAL:
        wrongs.append(f"task {was.key} was asked to end and is {now.state}")
    return wrongs


def _empty() -> bytes:
    """A migrated database, as small as it can be: many copies of it are kept."""
    with tempfile.TemporaryDirectory() as folder:
        conn = scratch(Path(folder) / "d.db")
        conn.execute("PRAGMA journal_mode = DELETE")
        conn.execute("PRAGMA page_size = 512")
        conn.execute("VACUUM")
        conn.close()
        return (Path(folder) / "d.db").read_bytes()
