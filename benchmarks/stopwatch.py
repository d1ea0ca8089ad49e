"""Time on the wall and on the processors: neighbours stretch the one and hardly touch the other."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter, process_time


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds on the wall, and seconds of all threads of this process on the processors."""

    wall: float
    processor: float


class Stopwatch:
    """Runs from its making."""

    def __init__(self) -> None:
        self._processor = process_time()
        self._wall = perf_counter()

    def read(self) -> Took:
        """What has gone by."""
        return Took(perf_counter() - self._wall, process_time() - self._processor)
