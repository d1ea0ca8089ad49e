"""What the task machine should do, in a few lines for each rule and without tables: SPEC STM and QUE once more.

`Model` is the whole queue. Each method says what one operation changes; nothing here knows how it is stored.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil

from goclaw.core.outcome import Canceled, Died, Failed, HandedBack, Outcome, Snoozed, Succeeded, Unknown
from goclaw.core.step import End
from goclaw.core.task import NewTask
from goclaw.errors import Conflict, GoclawError, Saturated
from goclaw.kernel.claiming import Claimed

ENDED = {"SUCCEEDED", "FAILED", "CANCELED", "DEAD_LETTER"}
RESTING = ENDED - {"SUCCEEDED"}
MINUTE = 60_000


@dataclass(eq=False)
class OneTask:
    """What a task should look like. `wait` is what it waits for while it is QUEUED or in RETRY_WAIT."""

    id: str
    kind: str
    agent: str
    session: str | None
    priority: int
    order: int
    rank: int
    available: int
    deadline: int | None
    most: int
    parent: str | None
    name: str | None
    unique: str | None
    wait: str | None
    state: str = "QUEUED"
    place: int | None = None
    attempt: int = 0
    deaths: int = 0
    mark: str | None = None
    repeats: int = 0
    asked: str | None = None
    code: str | None = None
    until: int = 0
    held: Claimed | None = None
    steps: dict[str, str] = field(default_factory=dict)

    @property
    def is_turn(self) -> bool:
        return self.kind == "chat"

    @property
    def turn(self) -> tuple[int, int]:
        """Its place in the claim order."""
        return self.rank, self.order

    @property
    def begun(self) -> list[str]:
        return [key for key, state in self.steps.items() if state == "running"]

    @property
    def wake(self) -> int | None:
        """The instant a timer must look at it."""
        if self.state in ENDED or self.asked is not None:
            return None
        waits = self.wait in {"delay", "backoff"}
        return min((at for at in (self.deadline, self.available if waits else None) if at is not None), default=None)


@dataclass
class Rate:
    """Starts per minute: a bucket that holds a minute's worth. `used` of it, as a fraction, at the instant `at`."""

    most: int
    used: Fraction
    at: int

    def used_at(self, now: int) -> Fraction:
        return max(Fraction(0), self.used - Fraction(now - self.at, MINUTE))

    def room(self, now: int) -> int:
        return int((1 - self.used_at(now)) * self.most)

    def charge(self, now: int) -> None:
        self.used, self.at = self.used_at(now) + Fraction(1, self.most), now

    def opens_at(self, now: int) -> int:
        return now + max(0, ceil((self.used_at(now) + Fraction(1, self.most) - 1) * MINUTE))


class Model:
    """The queue: every task that was ever submitted, and what bounds them."""

    def __init__(self, bounds: dict[str, int], lanes: dict[str, int], now: int) -> None:
        self.bounds = bounds
        self.lanes = lanes
        self.now = now
        self.tasks: dict[str, OneTask] = {}
        self.keys: dict[str, tuple[NewTask, str]] = {}
        self.sessions: dict[str, str] = {}
        self.pauses: set[tuple[str, str]] = set()
        self.limits: dict[str, int] = {}
        self.rates: dict[tuple[str, str], Rate] = {}
        self.places = 0

    # -- who is next -------------------------------------------------------------------------------------------

    def those(self, *states: str) -> list[OneTask]:
        return [task for task in self.tasks.values() if task.state in states]

    def live(self) -> list[OneTask]:
        return self.those("RUNNING")

    def unfinished(self) -> list[OneTask]:
        return self.those("QUEUED", "RETRY_WAIT", "RUNNING")

    def below(self, task: OneTask) -> list[OneTask]:
        children = [one for one in self.tasks.values() if one.parent == task.id]
        return [below for child in children for below in (child, *self.below(child))]

    def head(self, session: str | None) -> OneTask | None:
        placed = [one for one in self.unfinished() if one.session == session and one.place is not None]
        return min(placed, key=lambda task: task.place or 0, default=None)

    def claimable(self) -> list[OneTask]:
        return [
            task
            for task in self.those("QUEUED")
            if task.wait is None
            and not self.pauses & {("all", ""), ("agent", task.agent), ("kind", task.kind)}
            and ((task.agent, task.kind) not in self.rates or self.rates[task.agent, task.kind].room(self.now))
        ]

    def next_for(self, agent: str) -> OneTask | None:
        live, ready = self.live(), sorted(self.claimable(), key=lambda task: task.turn)
        if any(task.deaths >= 2 for task in live) or sum(task.agent == agent for task in live) >= self.lanes[agent]:
            return None
        suspects = [task for task in ready if task.deaths >= 2]
        if suspects:
            return suspects[0] if not live and suspects[0].agent == agent else None
        return next((task for task in ready if task.agent == agent), None)

    def ready_agents(self) -> set[str]:
        return {agent for agent in self.lanes if self.next_for(agent) is not None}

    def starts(self, task: OneTask, claimed: Claimed) -> None:
        task.state, task.held, task.attempt = "RUNNING", claimed, task.attempt + 1
        if (task.agent, task.kind) in self.rates:
            self.rates[task.agent, task.kind].charge(self.now)

    # -- sessions and names ------------------------------------------------------------------------------------

    def lines_up(self, task: OneTask) -> None:
        """It may be claimed, or waits for its session or its name."""
        task.state = "QUEUED"
        head = self.head(task.session) if task.place is not None else None
        if head is not None and head is not task:
            task.wait = "session"
        else:
            self._wants_name(task)

    def _wants_name(self, task: OneTask) -> None:
        task.wait = None
        if task.name is None or self._room(task.name) >= 0:
            return
        last = max((task, self._last_in(task.name) or task), key=lambda one: one.turn)
        last.wait = "concurrency"

    def _room(self, name: str) -> int:
        return self.limits.get(name, 1) - sum(one.name == name and one.wait is None for one in self.unfinished())

    def _last_in(self, name: str) -> OneTask | None:
        ready = [one for one in self.those("QUEUED") if one.name == name and one.wait is None and one.deaths < 2]
        return max(ready, key=lambda one: one.turn, default=None)

    def balance(self, name: str | None) -> None:
        """As many of a name as its limit allows; who runs, or is to run alone, is left alone."""
        if name is None:
            return
        while self._room(name) < 0 and (last := self._last_in(name)) is not None:
            last.wait = "concurrency"
        waiting = sorted((one for one in self.unfinished() if one.name == name and one.wait == "concurrency"),
                         key=lambda one: one.turn)  # fmt: skip
        for one in waiting[: max(0, self._room(name))]:
            one.wait = None

    def _gives_way(self, task: OneTask) -> None:
        """It has ended, or left its session's order: the next ones may go."""
        head = self.head(task.session) if task.session is not None else None
        if head is not None and head.wait == "session":
            self._wants_name(head)
        self.balance(task.name)

    def takes_place(self, task: OneTask) -> None:
        if task.is_turn:
            self.places += 1
            task.place = self.places

    # -- what becomes of a task --------------------------------------------------------------------------------

    def answer(self, new: NewTask) -> str | type[GoclawError] | None:
        """The task that a submission is answered with, or the refusal; None: it makes a task."""
        agent = self.agent_of(new)
        if new.idempotency_key in self.keys:
            known, task_id = self.keys[new.idempotency_key or ""]
            return task_id if known == new else Conflict
        for one in self.unfinished():
            if new.unique_key is not None and one.unique == new.unique_key:
                return one.id
        if new.kind == "chat" and self.sessions.get(new.session_id or "", agent) != agent:
            return Conflict
        if new.parent_task_id is None and sum(t.agent == agent for t in self.those("QUEUED")) >= self.bounds[agent]:
            return Saturated
        above = self.tasks.get(new.parent_task_id or "")
        while above is not None:
            stops = above.state == "CANCELED" or (above.state == "RUNNING" and above.asked is not None)
            if stops or (new.session_id is not None and above.session == new.session_id):
                return Conflict
            above = self.tasks.get(above.parent or "")
        return None

    def agent_of(self, new: NewTask) -> str:
        return new.agent_id or self.sessions.get(new.session_id or "", "default")

    def submitted(self, new: NewTask, task_id: str, order: int) -> OneTask:
        agent, due = self.agent_of(new), self.now + new.delay_ms
        session = new.session_id or (task_id if new.kind == "chat" else None)
        if session is not None:
            self.sessions.setdefault(session, agent)
        if new.idempotency_key is not None:
            self.keys[new.idempotency_key] = (new, task_id)
        self.tasks[task_id] = task = OneTask(
            id=task_id, kind=new.kind, agent=agent, session=session, priority=new.priority, order=order,
            rank=due - 30_000 * new.priority, available=due, most=new.max_attempts, parent=new.parent_task_id,
            deadline=None if new.deadline_ms is None else self.now + new.deadline_ms,
            name=new.concurrency_key, unique=new.unique_key, wait="delay",
        )  # fmt: skip
        if not new.delay_ms:
            self.takes_place(task)
            self.lines_up(task)
        return task

    def ends(self, task: OneTask, state: str, code: str | None = None) -> None:
        if state != "SUCCEEDED":
            task.steps |= dict.fromkeys(task.begun, "unknown")
        task.state, task.code, task.held, task.wait = state, code, None, None
        self._gives_way(task)

    def comes_back(self, task: OneTask) -> None:
        """From a lease: it has its session, and lines up for its name again."""
        task.state, task.held = "QUEUED", None
        task.wait = None if task.name is None else "concurrency"
        self.balance(task.name)

    def stands_aside(self, task: OneTask, ms: int) -> None:
        task.state, task.held, task.wait, task.place = "QUEUED", None, "delay", None
        task.available = self.now + ms
        task.rank = task.available - 30_000 * task.priority
        self._gives_way(task)

    def is_asked(self, task: OneTask) -> bool:
        if task.asked is not None:
            overdue = task.deadline is not None and task.deadline <= self.now
            self.ends(task, "CANCELED", "DEADLINE" if task.asked == "DEADLINE" and overdue else "CANCELED")
            return True
        return False

    def fails(self, task: OneTask, code: str, text: str, permanent: bool, wait: int) -> None:
        mark = f"{code}/{text}"
        repeats = task.repeats + 1 if task.mark == mark else 1
        over = repeats >= 3 or task.attempt >= task.most
        rests = permanent or task.most == 1
        if not rests and not over and self.is_asked(task):
            return
        task.mark, task.repeats = mark, repeats
        if rests:
            self.ends(task, "FAILED", code)
        elif over:
            self.ends(task, "DEAD_LETTER", "POISON" if repeats >= 3 else code)
        else:
            task.state, task.held, task.wait, task.code = "RETRY_WAIT", None, "backoff", code
            task.available = self.now + max(min(30_000, 1_000 * 2 ** (task.attempt - 1)), wait)
            self.balance(task.name)

    def settles(self, task: OneTask, outcome: Outcome) -> None:  # noqa: C901 (one case for each outcome)
        for entry in outcome.closing.entries if isinstance(outcome, Failed) else ():
            assert isinstance(entry, End)
            task.steps[entry.key] = entry.state.value
        if task.kind == "exec" and task.begun and not isinstance(outcome, Succeeded | Canceled):
            outcome = Unknown("begun")
        match outcome:
            case Succeeded():
                self.ends(task, "SUCCEEDED")
            case Canceled():
                self.ends(task, "CANCELED", outcome.code)
            case Failed():
                self.fails(task, outcome.code, outcome.message, outcome.permanent, outcome.retry_after_ms)
            case Died() if task.attempt >= task.most:
                self.fails(task, "LEASE_LOST", "the lease ran out while this was running", False, 0)
            case _ if self.is_asked(task):
                pass
            case Unknown():
                self.ends(task, "FAILED", "OUTCOME_UNKNOWN")
            case HandedBack():
                task.attempt -= 1
                self.comes_back(task)
            case Snoozed():
                task.attempt -= 1
                self.stands_aside(task, outcome.delay_ms)
            case Died():
                task.code, task.mark, task.repeats = None, None, 0
                self.comes_back(task)

    def recovers(self, task: OneTask) -> None:
        if self.is_asked(task):
            return
        if task.deadline is not None and task.deadline <= self.now:
            self.ends(task, "CANCELED", "DEADLINE")
        elif task.kind == "exec" and task.begun:
            self.ends(task, "FAILED", "OUTCOME_UNKNOWN")
        else:
            task.deaths += 1
            if task.deaths >= 3:
                self.ends(task, "DEAD_LETTER", "POISON")
            else:
                task.attempt, task.code = task.attempt - 1, None
                self.comes_back(task)

    def holds_back(self, until: int) -> int:
        """In a crash loop everybody with a death who could be claimed waits, keeping place and rank; how many."""
        held = 0
        while found := [task for task in self.those("QUEUED") if task.wait is None and task.deaths >= 1]:
            for task in found:
                task.wait, task.available = "delay", until
            for task in found:
                self.balance(task.name)
            held += len(found)
        return held

    def cancels(self, task: OneTask, reason: str | None) -> None:
        for one in (task, *self.below(task)):
            if one.state == "RUNNING":
                one.asked = reason or "asked"
            elif one.state not in ENDED:
                self.ends(one, "CANCELED", "CANCELED")

    def redrives(self, task: OneTask) -> None:
        task.attempt, task.deaths, task.mark, task.repeats = 0, 0, None, 0
        task.code, task.asked = None, None
        task.rank, task.available = self.now - 30_000 * task.priority, self.now
        if task.deadline is not None and task.deadline <= self.now:
            task.deadline = None
        self.takes_place(task)
        self.lines_up(task)
        self.balance(task.name)

    def due(self) -> list[OneTask]:
        due = [task for task in self.tasks.values() if task.wake is not None and task.wake <= self.now]
        return sorted(due, key=lambda task: (task.wake or 0, task.order))

    def rings_for(self, task: OneTask) -> None:
        """The timer looks at a task whose instant has come."""
        if task.deadline is not None and task.deadline <= self.now:
            if task.state == "RUNNING":
                task.asked = "DEADLINE"
            else:
                self.ends(task, "CANCELED", "DEADLINE")
        elif task.state == "RETRY_WAIT":
            task.available = self.now
            self.lines_up(task)
            self.balance(task.name)
        else:
            if task.place is None:
                self.takes_place(task)
            self.lines_up(task)

    def next_wake(self) -> int | None:
        opens = [rate.opens_at(self.now) for rate in self.rates.values() if not rate.room(self.now)]
        return min([*(t.wake for t in self.tasks.values() if t.wake is not None), *opens], default=None)

    def limited(self, limits: dict[str, int], rates: Iterable[tuple[tuple[str, str], int]]) -> None:
        known, self.limits = self.rates, limits
        self.rates = {}
        for pair, most in rates:
            old = known.get(pair)
            self.rates[pair] = Rate(most, old.used if old else Fraction(0), old.at if old else self.now)
        for name in {task.name for task in self.unfinished()}:
            self.balance(name)
