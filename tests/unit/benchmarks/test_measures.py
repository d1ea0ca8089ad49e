"""That the clocks run over what the page says, on real files and with real counts."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from benchmarks import depth, ours, written
from benchmarks.ours import Kernel, Watch
from goclaw.core.task import TaskState
from goclaw.store import tasks
from goclaw.store.tasks import TaskFilter

TASKS = 30


class Looking(Watch):
    """Notes how deep the queue is when the clock starts, and what has succeeded when it is stopped."""

    def __init__(self) -> None:
        self.queued = 0
        self.succeeded = 0

    async def begin(self, made: Kernel) -> None:
        self.queued = (await made.database.read(tasks.depths))["default"]

    async def end(self, made: Kernel) -> None:
        ended = await made.queue.page(TaskFilter(state=TaskState.SUCCEEDED), TASKS * 2, None)
        self.succeeded = len(ended)


@pytest.mark.spec("GC-PERF-115")
@pytest.mark.parametrize("workers", [1, 7, 50])
def test_the_clock_of_work_starts_with_a_full_queue_and_stops_when_all_have_durably_succeeded(
    tmp_path: Path, workers: int
) -> None:
    looking = Looking()
    asyncio.run(ours.work(tmp_path / "bench.db", TASKS, workers, looking))
    assert (looking.queued, looking.succeeded) == (TASKS, TASKS)


@pytest.mark.spec("GC-PERF-115")
def test_a_handler_that_fails_ends_the_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def failing(_: object) -> None:
        raise RuntimeError("not what a noop does")

    monkeypatch.setattr(ours, "noop_handler", lambda _: failing)
    with pytest.raises(BaseExceptionGroup) as ended:
        asyncio.run(asyncio.wait_for(ours.work(tmp_path / "bench.db", TASKS, 2), 30))
    assert "not what a noop does" in repr(ended.value.__cause__ or ended.value.exceptions)


@pytest.mark.spec("GC-PERF-115")
def test_depth_compares_equal_work_and_leaves_every_task_accounted_for(tmp_path: Path) -> None:
    shallow, deep = asyncio.run(depth.compare(tmp_path, 1_500, 60, 2))
    assert (len(shallow), len(deep)) == (2, 2)


@pytest.mark.spec("GC-PERF-115")
@pytest.mark.skipif(not os.access(written.IO, os.R_OK), reason="this system does not count what a process writes")
def test_what_is_written_is_at_least_what_is_kept(tmp_path: Path) -> None:
    passed, _ = asyncio.run(written.tasks(tmp_path / "bench.db", TASKS, 5))
    assert passed * TASKS > 1_000


@pytest.mark.spec("GC-PERF-115")
@pytest.mark.skipif(written.strace() is None, reason="strace is not installed")
def test_syncs_are_counted_between_the_marks_only(tmp_path: Path) -> None:
    program = (
        "import os; f = os.open('file', os.O_CREAT | os.O_WRONLY); mark = lambda: os.sched_get_priority_min(0);"
        "os.fsync(f); mark(); os.fsync(f); os.fdatasync(f); mark(); os.fsync(f)"
    )
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        assert written.syncs(tmp_path, ["-c", program]) == 2
    finally:
        os.chdir(before)
