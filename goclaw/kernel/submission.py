"""Taking work in. Transactions of the queue: plain functions that run on the writer thread.

A refusal is an exception of `submit` and a value of `submit_shared`; either way nothing of it is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from goclaw.core import intake
from goclaw.core.agent import DEFAULT_AGENT
from goclaw.core.event import NewEvent, said
from goclaw.core.intake import Prepared
from goclaw.core.settle import static_rank
from goclaw.core.task import TURN_KINDS, NewTask, Task, TaskState
from goclaw.db import Connection
from goclaw.errors import Conflict, GoclawError, NotFound, Saturated
from goclaw.kernel import admission
from goclaw.store import events, sessions, tasks
from goclaw.store.tasks import Placement, Stored

RETRY_AFTER_MS = 1_000
"""When a client that met a full queue may look again."""
TREE_DEPTH = 100
"""How many ancestors a task may have."""


class Submitted(NamedTuple):
    """A stored task; `known` when its idempotency key or its unique key was there before."""

    task: Task
    known: bool


class Wish(NamedTuple):
    """A submission on its way to the writer. `bounds` are the known agents with their longest queues; `agent_id` is
    None until somebody has looked whose session it is."""

    prepared: Prepared
    task_id: str
    bounds: Mapping[str, int]
    now: int
    agent_id: str | None

    @property
    def new(self) -> NewTask:
        """What is to be stored."""
        return self.prepared.new

    @property
    def is_plain(self) -> bool:
        """Whether nothing but the depth of its queue decides on it: it can be stored in one statement with others."""
        new = self.prepared.new
        return (
            new.session_id is None
            and new.kind not in TURN_KINDS
            and self.agent_id in self.bounds
            and not (new.parent_task_id or new.concurrency_key or new.unique_key)
        )


def as_wish(new: NewTask, task_id: str, bounds: Mapping[str, int], now: int) -> Wish:
    """`new` on its way to the writer. Raises BadRequest or TooLarge, naming the field."""
    agent_id = DEFAULT_AGENT if new.agent_id is None and new.session_id is None else new.agent_id
    return Wish(intake.prepare(new), task_id, bounds, now, agent_id)


def submit(conn: Connection, new: NewTask, task_id: str, bounds: Mapping[str, int], now: int) -> Submitted:
    """Store a task with its event and its message, or find the one its key names.

    Raises BadRequest, TooLarge, Conflict, NotFound or Saturated, having written nothing that its savepoint would not
    undo.
    """
    return _submit_one(conn, as_wish(new, task_id, bounds, now))


def submit_many(
    conn: Connection, news: Sequence[tuple[NewTask, str]], bounds: Mapping[str, int], now: int
) -> list[Submitted]:
    """Store all of (task, id) or none; an error has the position of its task as `index` in its data."""
    wishes = []
    for index, (new, task_id) in enumerate(news):
        with _of(index):
            wishes.append(as_wish(new, task_id, bounds, now))
    if _plain_run(wishes, 0) == len(wishes):
        done = _submit_plain(conn, wishes)
    else:
        done = []
        for index, wish in enumerate(wishes):
            with _of(index):
                done.append(_submit_one(conn, wish))
    for index, one in enumerate(done):
        if isinstance(one, GoclawError):
            with _of(index):
                raise one
    return [one for one in done if isinstance(one, Submitted)]


@contextmanager
def _of(index: int) -> Iterator[None]:
    """A refusal says which of several tasks it is about."""
    try:
        yield
    except GoclawError as refusal:
        refusal.data["index"] = index
        raise


def submit_shared(conn: Connection, wishes: Sequence[Wish]) -> list[Submitted | GoclawError]:
    """Store each task for itself, in order, those that stand together in one statement."""
    answers: list[Submitted | GoclawError] = []
    start = 0
    while start < len(wishes):
        end = _plain_run(wishes, start)
        if end > start:
            answers += _submit_plain(conn, wishes[start:end])
        else:
            end = start + 1
            answers.append(_submit_guarded(conn, wishes[start]))
        start = end
    return answers


def _plain_run(wishes: Sequence[Wish], start: int) -> int:
    """Where a run of plain wishes from `start` on ends: no two of it have the same idempotency key."""
    keys: set[str] = set()
    for index in range(start, len(wishes)):
        key = wishes[index].new.idempotency_key
        if not wishes[index].is_plain or key in keys:
            return index
        if key is not None:
            keys.add(key)
    return len(wishes)


def _submit_guarded(conn: Connection, wish: Wish) -> Submitted | GoclawError:
    """One task under a savepoint of its own, so that a refusal leaves nothing behind."""
    conn.execute("SAVEPOINT wish")
    try:
        return _submit_one(conn, wish)
    except GoclawError as refusal:
        conn.execute("ROLLBACK TO wish")
        return refusal
    finally:
        if conn.in_transaction:
            conn.execute("RELEASE wish")


def _submit_plain(conn: Connection, wishes: Sequence[Wish]) -> list[Submitted | GoclawError]:
    depths: dict[str, int] = {}
    answers: list[Submitted | GoclawError | None] = []
    rows: list[tuple[NewTask, Placement, str]] = []
    for wish in wishes:
        new, agent_id = wish.new, wish.agent_id or ""
        if new.idempotency_key is not None and (known := _answer_known(conn, wish)) is not None:
            answers.append(known)
            continue
        if agent_id not in depths:
            depths[agent_id] = tasks.depth(conn, agent_id)
        if depths[agent_id] >= wish.bounds[agent_id]:
            answers.append(_saturated(agent_id, wish.bounds))
            continue
        depths[agent_id] += 1
        answers.append(None)
        at = _placement(wish, (agent_id, None), (None, None), None, "delay" if new.delay_ms else None)
        rows.append((new, at, wish.prepared.payload))
    now = wishes[-1].now
    stored = tasks.insert_many(conn, rows, now) if rows else []
    events.append(conn, [_enqueued(one) for one in stored], now)
    fresh = iter(stored)
    return [Submitted(next(fresh).task, False) if answer is None else answer for answer in answers]


def _answer_known(conn: Connection, wish: Wish) -> Submitted | GoclawError | None:
    try:
        known = _known(conn, wish)
    except GoclawError as refusal:
        return refusal
    return None if known is None else Submitted(known, True)


def _submit_one(conn: Connection, wish: Wish) -> Submitted:
    new, now = wish.new, wish.now
    known = _known(conn, wish)
    if known is not None:
        return Submitted(known, True)
    session_id = new.session_id or (wish.task_id if new.kind in TURN_KINDS else None)
    agent_id = _agent(conn, new, session_id, wish.bounds)
    if new.parent_task_id is None and tasks.depth(conn, agent_id) >= wish.bounds[agent_id]:
        raise _saturated(agent_id, wish.bounds)
    parent_key = _parent_key(conn, new)
    session_key = None if session_id is None else sessions.ensure(conn, session_id, agent_id, now).key
    place, reason = None, "delay" if new.delay_ms else None
    if reason is None:
        if new.kind in TURN_KINDS:
            # The event that enqueues the task names its place: event ids rise and are never reused.
            place = events.head(conn) + 1
        last = (static_rank(now, new.priority), sessions.NEWEST)
        reason = admission.blocker(conn, session_key, place, new.concurrency_key, last)
    at = _placement(wish, (agent_id, session_id), (session_key, parent_key), place, reason)
    (stored,) = tasks.insert_many(conn, [(new, at, wish.prepared.payload)], now)
    events.append(conn, [_enqueued(stored)], now)
    if new.messages and session_key is not None:
        sessions.add_messages(conn, session_key, stored.task.key, new.messages, now)
    return Submitted(stored.task, False)


def _known(conn: Connection, wish: Wish) -> Task | None:
    """The task that an earlier submission with one of its keys made."""
    new = wish.new
    if new.idempotency_key is not None:
        known = tasks.by_idempotency_key(conn, new.idempotency_key)
        if known is not None:
            if known[1] != wish.prepared.digest:
                raise Conflict("this idempotency key was used for another request", idempotency_key=new.idempotency_key)
            return tasks.by_key(conn, known[0]).task
    if new.unique_key is not None:
        key = tasks.by_unique_key(conn, new.unique_key)
        return None if key is None else tasks.by_key(conn, key).task
    return None


def _saturated(agent_id: str, bounds: Mapping[str, int]) -> Saturated:
    limit = bounds[agent_id]
    text = f"agent {agent_id} has {limit} queued tasks, which is its max_queue_depth; send it again later"
    return Saturated(text, agent_id=agent_id, limit=limit, retry_after_ms=RETRY_AFTER_MS)


def _agent(conn: Connection, new: NewTask, session_id: str | None, bounds: Mapping[str, int]) -> str:
    """Who is to do it: the agent that is named, else the session's, else the default one."""
    session = None if session_id is None else sessions.find(conn, session_id)
    agent_id = new.agent_id or (session.agent_id if session else DEFAULT_AGENT)
    if agent_id not in bounds:
        raise NotFound(f"there is no agent {agent_id!r}; agents are {', '.join(sorted(bounds))}", agent_id=agent_id)
    if session is not None and session.agent_id != agent_id and new.kind in TURN_KINDS:
        raise Conflict(f"session {session_id} belongs to agent {session.agent_id}", session_id=session_id)
    return agent_id


def _parent_key(conn: Connection, new: NewTask) -> int | None:
    if new.parent_task_id is None:
        return None
    ancestor = tasks.by_id(conn, new.parent_task_id)
    if ancestor is None:
        raise NotFound(f"there is no task {new.parent_task_id}", task_id=new.parent_task_id)
    key, depth = ancestor.task.key, 0
    while ancestor is not None:
        depth += 1
        _check_ancestor(ancestor.task, new, depth)
        parent = ancestor.task.parent_task_id
        ancestor = tasks.by_id(conn, parent) if parent else None
    return key


def _check_ancestor(ancestor: Task, new: NewTask, depth: int) -> None:
    if new.session_id is not None and ancestor.session_id == new.session_id:
        raise Conflict("a child may not use the session of its ancestor", session_id=new.session_id)
    if ancestor.cancel_requested or ancestor.state is TaskState.CANCELED:
        # Else a tree could grow on while it is being canceled.
        raise Conflict(f"task {ancestor.id} was canceled; it takes no more children", task_id=ancestor.id)
    if depth > TREE_DEPTH:
        raise Conflict(f"tasks stand at most {TREE_DEPTH} deep below each other", limit=TREE_DEPTH)


def _placement(
    wish: Wish,
    whose: tuple[str, str | None],
    keys: tuple[int | None, int | None],
    place: int | None,
    wait_reason: str | None,
) -> Placement:
    """Where it stands: `whose` agent and session it is, and the keys of its session and its parent."""
    new, due = wish.new, wish.now + wish.new.delay_ms
    return Placement(
        wish.task_id,
        *whose,
        *keys,
        wait_reason,
        place,
        static_rank(due, new.priority),
        due,
        None if new.deadline_ms is None else wish.now + new.deadline_ms,
        wish.prepared.digest,
    )


def _enqueued(stored: Stored) -> NewEvent:
    task = stored.task
    payload = said(kind=task.kind, agent_id=task.agent_id, wait_reason=task.wait_reason)
    return NewEvent("task.enqueued", task.key, stored.session_key, None, TaskState.QUEUED, None, payload)
