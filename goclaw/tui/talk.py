"""One conversation as it stands: follows its session and tells a board what changed.

The page that is read first says where everything stands; from its cursor on, numbered events say what moves,
and deltas show an answer while it is written. A lost connection is taken up by the cursor. Whatever else goes
wrong, the page is read again: turns keep their keys, so the board changes only what differs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Protocol

from goclaw.client import Link
from goclaw.core.event import Delta, Event
from goclaw.errors import ClientError, NotAuthorized, RpcError, Unreachable
from goclaw.tui.facts import AgentFacts, Facts, LinkState
from goclaw.tui.history import turns_of
from goclaw.tui.outbox import Message, Outbox
from goclaw.tui.reach import Reach
from goclaw.tui.turn import Turn, TurnState, on_delta, on_event, with_journal, with_task

PAGE = 100
"""Messages and turns that are read at first."""
JOURNALS = 20
"""Turns among them whose journal is read at once: those that did not end well."""
TURNS = 1_000
JOURNAL_GAP_MS = 100
RETRY_MS = 500
NOT_FOUND = 4040
REPLAY_GAP = 4100
_BEGINNINGS = frozenset({"task.enqueued", "task.requeued", "task.running"})


class Board(Protocol):
    """Where a conversation is shown."""

    def opened(self, turns: Sequence[Turn], more: bool) -> None:
        """The whole conversation; `more` says that it has an older part."""
        ...

    def shown(self, turn: Turn) -> None:
        """A turn that is new or changed."""
        ...

    def linked(self, state: LinkState, why: str) -> None:
        """How it stands with the daemon."""
        ...

    def informed(self, facts: Facts) -> None:
        """What the daemon says of itself now."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a conversation is held."""

    session_id: str
    agent: AgentFacts


class Talk:
    """Run `follow`; the rest may be called meanwhile."""

    def __init__(self, reach: Reach, outbox: Outbox, board: Board, place: Place) -> None:
        self.place = place
        self._reach = reach
        self._client = reach.client
        self._outbox = outbox
        self._board = board
        self._turns: dict[str, Turn] = {}
        self._keys: dict[str, str] = {}
        self._untold: set[str] = set()
        self._facts_old = False
        self._wake = asyncio.Event()

    @property
    def open_turns(self) -> tuple[Turn, ...]:
        """What is not over, in its order; the first is the one that runs or will run next."""
        return tuple(turn for turn in self._turns.values() if not turn.ended)

    async def follow(self) -> None:
        """Until canceled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read_journals())
            while True:
                await self._follow_once()
                await self._reach.clock.sleep(RETRY_MS)

    def begin(self, message: Message) -> None:
        """Show a message that was just typed; it is in the outbox."""
        self._put(_typed(message, self.place.agent.offline))

    def sent(self, message: Message, answer: Mapping[str, Any]) -> None:
        """The daemon has stored a message."""
        turn = self._turns.get(message.key)
        if turn is not None and turn.task_id is None:
            self._put(replace(turn, task_id=str(answer["task_id"]), state=TurnState.QUEUED))

    def refused(self, message: Message, error: ClientError) -> None:
        """The daemon does not take a message."""
        word = error.word if isinstance(error, RpcError) else error.code
        if (turn := self._turns.get(message.key)) is not None:
            self._put(replace(turn, state=TurnState.FAILED, note=error.message, code=word))

    async def cancel(self, everything: bool = False) -> int:
        """Stop the first open turn, or all of them, the last first; how many were. Raises ClientError."""
        turns = self.open_turns if everything else self.open_turns[:1]
        return sum([await self._cancel(turn) for turn in reversed(turns)])

    async def _cancel(self, turn: Turn) -> bool:
        if turn.task_id is None:
            dropped = self._outbox.drop(turn.key)
            if dropped:
                self._put(replace(turn, state=TurnState.CANCELED, note="taken back before it was sent"))
            return dropped
        answer = await self._client.call("agent.abort", {"task_id": turn.task_id})
        return bool(answer["aborted"])

    async def _follow_once(self) -> None:
        """Read the page and follow from there, until that does not work any more."""
        try:
            cursor, log_id = await self._load()
            stream = self._client.subscribe(self.place.session_id, cursor, log_id, self._on_link)
            async with aclosing(stream) as items:
                async for item in items:
                    if isinstance(item, Delta):
                        self._on_delta(item)
                    else:
                        await self._on_event(item)
        except Unreachable as error:
            self._on_link(Link(False, error.message))
        except NotAuthorized as error:
            self._board.linked(LinkState.REFUSED, error.message)
        except RpcError as error:
            if error.rpc_code != REPLAY_GAP:  # a replaced log: the new page is all there is to say
                self._board.linked(LinkState.REFUSED, error.message)

    async def _load(self) -> tuple[int, str | None]:
        """Read where everything stands; the cursor that continues it, and of which log."""
        facts = await self._reach.facts()
        log_id = (await self._client.hello()).get("log_id")
        self._board.informed(facts)
        items = await self._history()
        wanted = {"session_id": self.place.session_id, "kind": "chat", "limit": PAGE}
        tasks = (await self._client.call("task.list", wanted))["tasks"]
        names = {str(task["id"]): str(task.get("idempotency_key") or task["id"]) for task in tasks}
        turns = turns_of(items, tasks, self.place.agent.offline)
        turns = await self._with_journals([replace(one, key=names.get(one.key, one.key)) for one in turns])
        self._open(turns)
        self._board.opened(tuple(self._turns.values()), len(items) >= PAGE)
        return facts.head, log_id

    def _open(self, turns: Iterable[Turn]) -> None:
        self._turns = {turn.key: turn for turn in turns}
        for message in self._outbox.waiting(self.place.session_id):
            self._turns.setdefault(message.key, _typed(message, self.place.agent.offline))
        self._keys = {turn.task_id: turn.key for turn in self._turns.values() if turn.task_id}
        self._untold = set()

    async def _history(self) -> Sequence[Mapping[str, Any]]:
        params = {"session_id": self.place.session_id, "limit": PAGE}
        try:
            items: Sequence[Mapping[str, Any]] = (await self._client.call("session.history", params))["items"]
        except RpcError as error:
            if error.rpc_code != NOT_FOUND:
                raise
            return ()  # its first message will make the session
        return items

    async def _with_journals(self, turns: Sequence[Turn]) -> list[Turn]:
        """A history has only what ended well; what did not is in the journals."""
        wanted = {turn.key for turn in turns if turn.state is not TurnState.DONE and turn.task_id is not None}
        newest = {turn.key for turn in [one for one in turns if one.key in wanted][-JOURNALS:]}
        return [await self._with_journal(turn) if turn.key in newest else turn for turn in turns]

    async def _with_journal(self, turn: Turn) -> Turn:
        return with_journal(turn, await self._journal(turn))

    async def _journal(self, turn: Turn) -> Sequence[Mapping[str, Any]]:
        answer = await self._client.call("task.steps", {"task_id": turn.task_id})
        steps: Sequence[Mapping[str, Any]] = answer["steps"]
        return steps

    def _on_link(self, link: Link) -> None:
        if link.up:
            self._facts_old = True
            self._wake.set()
            self._board.linked(LinkState.UP, "")
        else:
            self._board.linked(LinkState.GONE if self._reach.gone() else LinkState.LOST, link.reason)

    def _on_delta(self, delta: Delta) -> None:
        turn = self._of(delta.task_id)
        if turn is not None and not turn.ended:
            self._put(on_delta(turn, delta))

    async def _on_event(self, event: Event) -> None:
        if event.task_id is None:
            return
        turn = self._of(event.task_id)
        if turn is None:
            if event.event_type not in _BEGINNINGS or event.payload.get("kind", "chat") != "chat":
                return
            turn = await self._adopt(event.task_id)
            if turn is None:
                return
            self._put(turn)
        after = on_event(turn, event)
        if after.ended and not turn.ended:
            self._facts_old = True
            self._wake.set()
        if after != turn:
            self._put(after)

    async def _adopt(self, task_id: str) -> Turn | None:
        """A task that came up in this session: one of ours whose receipt is still on its way, or somebody
        else's.
        """
        task = await self._client.call("task.get", {"task_id": task_id})
        if task["kind"] != "chat":
            return None
        key = str(task.get("idempotency_key") or task_id)
        fresh = Turn(key=key, prompt="", state=TurnState.QUEUED, plain=self.place.agent.offline)
        turn = replace(self._turns.get(key, fresh), task_id=task_id)
        if turn.prompt:
            return turn
        # The event at hand and those after it say what became of it, so its state now would be told twice.
        return replace(with_task(turn, task), state=TurnState.QUEUED, note="", code="")

    def _of(self, task_id: str) -> Turn | None:
        return self._turns.get(self._keys.get(task_id, ""))

    def _put(self, turn: Turn) -> None:
        self._turns[turn.key] = turn
        if turn.task_id is not None:
            self._keys[turn.task_id] = turn.key
        if turn.untold:
            self._untold.add(turn.key)
            self._wake.set()
        while len(self._turns) > TURNS:
            oldest = self._turns.pop(next(iter(self._turns)))
            self._keys.pop(oldest.task_id or "", None)
        self._board.shown(turn)

    async def _read_journals(self) -> None:
        """Read what was only said to be over, as soon as it can be read and not too often."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                for key in tuple(self._untold):
                    await self._tell(key)
                if self._facts_old:
                    self._board.informed(await self._reach.facts())
                    self._facts_old = False
            except ClientError:
                continue  # the next event, or the next connection, wakes this up again
            await self._reach.clock.sleep(JOURNAL_GAP_MS)

    async def _tell(self, key: str) -> None:
        self._untold.discard(key)
        turn = self._turns.get(key)
        if turn is None:
            return
        try:
            journal = await self._journal(turn)
        except Unreachable:
            self._untold.add(key)
            raise
        if (now := self._turns.get(key)) is not None:
            self._put(with_journal(now, journal))


def _typed(message: Message, plain: bool) -> Turn:
    return Turn(key=message.key, prompt=message.text, state=TurnState.SENDING, plain=plain)
