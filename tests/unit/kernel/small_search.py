"""The exhaustive search of small worlds (`small_world.py`): breadth first, so that what is found has the shortest way.

    python -m tests.unit.kernel.small_search            every scenario to its end, printing what was covered
    python -m tests.unit.kernel.small_search NAME ...   those scenarios

Between any two operations the process may end: a crash is a move of every state. Inside of any operation it may end
too: whatever was done and not committed is rolled back, and the state must be the one before.
"""

from __future__ import annotations

import sys
import zlib
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from goclaw.core.task import TERMINAL
from goclaw.store import events
from tests.fakes_clock import START
from tests.unit.kernel.small_scenarios import SCENARIOS
from tests.unit.kernel.small_world import FAIR, Move, Rows, Scenario, State, World

SHOWN = 5


class Broken(AssertionError):
    """Something that must hold does not. The message has the shortest way there."""


class Edge(NamedTuple):
    """One move from a state to another one."""

    source: int
    target: int
    kind: str
    label: str
    ready: frozenset[str]
    looking: frozenset[str]


@dataclass
class Explored:
    """What was looked at. `finished`: no state is left that was not."""

    states: int = 1
    edges: list[Edge] = field(default_factory=list)
    ways: dict[int, Edge] = field(default_factory=dict)
    works: dict[int, set[str]] = field(default_factory=dict)
    """The agents that could claim something, by state."""
    ends: list[int] = field(default_factory=list)
    rollbacks: int = 0
    finished: bool = False

    def way(self, state: int) -> list[str]:
        """The moves that lead to a state."""
        edge = self.ways.get(state)
        return [] if edge is None else [*self.way(edge.source), edge.label]

    def __str__(self) -> str:
        crashes = sum(edge.kind == "crash" for edge in self.edges)
        whole = "all" if self.finished else "the first"
        return (
            f"{whole} {self.states} states, {len(self.edges)} moves, {crashes} of them crashes between two operations,"
            f" {self.rollbacks} crashes inside of one"
        )


class Search:
    """One scenario. Raises Broken with the shortest way to what is wrong."""

    def __init__(self, scenario: Scenario, most_states: int | None = None) -> None:
        self.world = World(scenario)
        self.found = Explored()
        self._most = most_states
        rows = self.world.rows()
        self._seen: dict[State, int] = {self.world.state(rows): 0}
        self._open: deque[tuple[int, bytes, int]] = deque([(0, self._image(), START)])

    def run(self) -> Explored:
        """Look at every state, or at the first `most_states`."""
        while self._open and (self._most is None or self.found.states < self._most):
            number, image, now = self._open.popleft()
            self._expand(number, zlib.decompress(image), now)
        self.found.finished = not self._open
        self._check_rings()
        if self.found.finished:
            self._check_ends()
        return self.found

    def _image(self) -> bytes:
        return zlib.compress(self.world.conn.serialize(), 1)

    def _expand(self, number: int, image: bytes, now: int) -> None:
        world = self.world
        world.restore(image, now)
        rows, head = world.rows(), events.head(world.conn)
        works = self.found.works.setdefault(number, set())
        if all(stored.task.state in TERMINAL for stored in rows.values()):
            self.found.ends.append(number)
        for move in list(world.moves(rows)):
            world.conn.execute("BEGIN")
            ready = frozenset(move.do())
            if events.head(world.conn) != head and move.kind == "claim":
                works |= move.looking
            if self._take(number, move, ready, rows, head):
                world.restore(image, now)
                continue
            world.conn.execute("ROLLBACK")
            world.now = now
            self.found.rollbacks += 1
            if world.rows() != rows:
                self._say(number, move, ["what was not committed has happened"])

    def _take(self, source: int, move: Move, ready: frozenset[str], before: Rows, head: int) -> bool:
        """Look at what a move has done; whether it led to a state that nobody has seen, which is kept then."""
        world = self.world
        world.now = move.now
        after = world.rows()
        if wrongs := world.wrongs_of_move(move, before, after, head):
            self._say(source, move, wrongs)
        state = world.state(after)
        target = self._seen.get(state)
        fresh = target is None
        if target is None:
            target = self._seen[state] = self.found.states
            self.found.states += 1
        edge = Edge(source, target, move.kind, move.label, ready, move.looking)
        if fresh or target != source:
            self.found.edges.append(edge)
        if fresh:
            self.found.ways[target] = edge
            if wrongs := world.wrongs_of_state(after):
                self._say(source, move, wrongs)
            world.conn.execute("COMMIT")
            self._open.append((target, self._image(), move.now))
        return fresh

    def _say(self, source: int, move: Move, wrongs: list[str]) -> None:
        way = "\n  ".join([*self.found.way(source), move.label])
        raise Broken("\n".join(wrongs[:SHOWN]) + f"\nafter:\n  {way}")

    def _check_rings(self) -> None:
        """Whoever has work that he had not before was told of it, or looks for it himself."""
        works = self.found.works
        for edge in self.found.edges:
            if edge.target in works and edge.kind != "crash" and "*" not in edge.ready:
                fresh = works[edge.target] - works[edge.source] - edge.ready - edge.looking
                if fresh:
                    way = "\n  ".join([*self.found.way(edge.source), edge.label])
                    raise Broken(f"nobody told {sorted(fresh)} of new work\nafter:\n  {way}")

    def _check_ends(self) -> None:
        """From every state all tasks come to an end by what happens by itself: nothing waits for ever."""
        sources: dict[int, list[int]] = {}
        for edge in self.found.edges:
            if edge.kind in FAIR:
                sources.setdefault(edge.target, []).append(edge.source)
        reached, edge_of = set(self.found.ends), list(self.found.ends)
        while edge_of:
            for source in sources.get(edge_of.pop(), []):
                if source not in reached:
                    reached.add(source)
                    edge_of.append(source)
        stuck = [state for state in range(self.found.states) if state not in reached]
        if stuck:
            way = "\n  ".join(self.found.way(stuck[0]))
            raise Broken(
                f"{len(stuck)} states from which nothing comes to an end by itself, the first\nafter:\n  {way}"
            )


def main(names: list[str]) -> int:
    """Search scenarios to their end; 1 when something is broken."""
    bad = 0
    for name in names or list(SCENARIOS):
        try:
            said = str(Search(SCENARIOS[name]).run())
        except Broken as wrong:
            bad = 1
            said = f"BROKEN\n{wrong}"
        sys.stdout.write(f"{name}: {said}\n")
        sys.stdout.flush()
    return bad


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
