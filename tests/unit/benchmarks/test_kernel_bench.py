"""The run: what it does with wrong books, with peers that are not there, and with rounds."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks import cell, kernel, page, plan, postgres_server, report
from benchmarks.books import WrongBooks
from benchmarks.plan import Goal


def answering(
    monkeypatch: pytest.MonkeyPatch, code: int = 0, out: str = '{"rate": 1000.0}', err: str = ""
) -> list[Sequence[str]]:
    """Let every measurement end like this at once; what was called."""
    called: list[Sequence[str]] = []

    def run(words: Sequence[str], **_: Any) -> subprocess.CompletedProcess[str]:
        called.append(words)
        return subprocess.CompletedProcess(words, code, out, err)

    monkeypatch.setattr(subprocess, "run", run)
    return called


@pytest.mark.spec("GC-PERF-112")
def test_wrong_books_end_the_run_without_a_figure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answering(monkeypatch, cell.WRONG_BOOKS, err="wrong books in ours.tasks 50: 3 lost")
    assert kernel.main(["--short", "--only", "pickup"]) == 1
    told = capsys.readouterr()
    assert "NO FIGURES" in told.err
    assert "3 lost" in told.err
    assert "pickup by an idle pool" not in told.out


@pytest.mark.spec("GC-PERF-112")
def test_a_measurement_with_wrong_books_says_so_and_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def lossy(_: cell.Order) -> cell.Figures:
        raise WrongBooks("tasks by state: 9, expected 10")

    monkeypatch.setattr(cell, "CELLS", {"ours.tasks": lossy})
    monkeypatch.setattr("sys.argv", ["cell", "ours.tasks", "--count", "10", "--size", "1", "--folder", str(tmp_path)])
    assert cell.main() == cell.WRONG_BOOKS
    assert "expected 10" in capsys.readouterr().err


@pytest.mark.spec("GC-PERF-112")
def test_a_figure_short_of_its_goal_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answering(monkeypatch)
    monkeypatch.setattr(kernel, "find_spec", lambda _: None)
    assert kernel.main(["--short", "--only", "tasks", "ours"]) == 0
    assert "SHORT" in capsys.readouterr().out


@pytest.mark.spec("GC-PERF-113")
def test_a_peer_that_is_not_installed_is_left_out_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    called = answering(monkeypatch)
    monkeypatch.setattr(kernel, "find_spec", lambda _: None)
    assert kernel.main(["--short", "--only", "tasks"]) == 0
    told = capsys.readouterr().out
    assert f"left out: huey: huey is not installed: {kernel.INSTALL}" in told
    assert f"left out: postgres: PgQueuer is not installed: {kernel.INSTALL}" in told
    assert {words[3].partition(".")[0] for words in called} == {"raw", "ours"}


@pytest.mark.spec("GC-PERF-113")
def test_postgres_that_cannot_be_started_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "find_spec", lambda _: object())
    monkeypatch.setattr(postgres_server, "find_binaries", lambda: None)
    left_out = dict(kernel.absent(plan.FULL))
    assert list(left_out) == ["postgres"]
    assert "initdb" in left_out["postgres"]


@pytest.mark.spec("GC-PERF-113")
def test_postgres_that_refuses_to_run_is_left_out_with_its_own_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    called = answering(monkeypatch)
    monkeypatch.setattr(kernel, "find_spec", lambda _: object())
    monkeypatch.setattr(postgres_server, "find_binaries", lambda: Path("/nowhere"))

    @contextmanager
    def refusing(_: Path) -> Iterator[str]:
        raise postgres_server.CannotStart("initdb failed: no space left on device")
        yield ""

    monkeypatch.setattr(postgres_server, "server", refusing)
    assert kernel.main(["--short", "--only", "submits"]) == 0
    assert "left out: postgres: initdb failed: no space left on device" in capsys.readouterr().out
    assert {words[3].partition(".")[0] for words in called} == {"raw", "ours", "huey"}


@pytest.mark.spec("GC-PERF-113")
def test_the_lock_that_is_named_installs_the_peers() -> None:
    lock = kernel.ROOT / kernel.INSTALL.split()[-1]
    text = lock.read_text()
    assert all(f"\n{name}==" in text for name in ("huey", "pgqueuer", "asyncpg"))


@pytest.mark.spec("GC-PERF-114")
def test_the_systems_are_measured_in_turn_round_after_round(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    called = answering(monkeypatch)
    run = kernel.Run(tmp_path, "", 1)
    cells = [one for one in plan.SHORT if one.group == "submits" and one.size == 50]
    kernel.measure_all(run, cells, 3)
    order = [words[3] for words in called]
    assert order == ["raw.submits", "ours.submits", "huey.submits", "postgres.submits"] * 3
    assert run.samples["ours.submits.50:rate"] == [1000.0] * 3


@pytest.mark.spec("GC-PERF-114")
def test_a_ratio_is_the_median_over_the_rounds_of_what_stood_side_by_side() -> None:
    goal = Goal("of the raw ceiling", "ours.tasks.50:rate", 0.6, "raw.tasks.50:rate")
    samples = {"ours.tasks.50:rate": [60.0, 10.0, 70.0], "raw.tasks.50:rate": [100.0, 20.0, 100.0]}
    line = report.line(goal, samples)
    assert line is not None
    assert "0.60x (0.50-0.70)" in line
    assert line.endswith("holds")


@pytest.mark.spec("GC-PERF-114")
@pytest.mark.parametrize(("seen", "verdict"), [(0.61, "holds"), (0.59, "SHORT")])
def test_a_ratio_is_held_against_its_goal(seen: float, verdict: str) -> None:
    goal = Goal("of the raw ceiling", "ours:rate", 0.6, "raw:rate")
    line = report.line(goal, {"ours:rate": [seen], "raw:rate": [1.0]})
    assert line is not None
    assert line.endswith(verdict)


@pytest.mark.spec("GC-PERF-114")
@pytest.mark.parametrize(("seen", "verdict"), [(999.0, "holds"), (1_001.0, "SHORT")])
def test_a_time_is_held_against_its_bound(seen: float, verdict: str) -> None:
    goal = Goal("ready", "ours:ready_ms", 1_000, at_most=True, unit=" ms")
    line = report.line(goal, {"ours:ready_ms": [seen]})
    assert line is not None
    assert line.endswith(verdict)


def test_a_goal_whose_peer_was_left_out_is_not_shown() -> None:
    assert report.line(Goal("huey", "ours:rate", 6, "huey:rate"), {"ours:rate": [1.0]}) is None


@pytest.mark.spec("GC-PERF-116")
def test_the_figures_stand_in_the_page_where_the_old_ones_stood(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answering(monkeypatch)
    monkeypatch.setattr(kernel, "find_spec", lambda _: None)
    copy = tmp_path / "performance.md"
    copy.write_text((kernel.ROOT / "docs" / "performance.md").read_text("utf-8"), "utf-8")
    for _ in range(2):
        assert kernel.main(["--short", "--only", "tasks", "--page", str(copy)]) == 0
    text = copy.read_text("utf-8")
    assert text.count("| of the raw ceiling, 50 workers | >= 0.6x | 1.00x (1.00-1.00) | holds |") == 1
    assert text.count(page.BEGIN) == text.count(page.END) == 1
    assert "## Through the daemon" in text


@pytest.mark.spec("GC-PERF-116")
def test_a_page_without_a_place_for_the_figures_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "other.md"
    other.write_text("# Other\n")
    with pytest.raises(ValueError, match=r"other\.md"):
        page.write(other, "a machine", plan.SHORT, {})
    assert other.read_text() == "# Other\n"


def test_every_sample_can_be_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    answering(monkeypatch)
    assert kernel.main(["--short", "--only", "raw", "--json", str(tmp_path / "samples.json")]) == 0
    kept = json.loads((tmp_path / "samples.json").read_text())
    assert kept["samples"]["raw.tasks.50:rate"] == [1000.0, 1000.0]


def test_a_choice_that_leaves_nothing_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        kernel.main(["--only", "recovery", "huey"])
    assert ended.value.code == 2
    assert "recovery huey" in capsys.readouterr().err
