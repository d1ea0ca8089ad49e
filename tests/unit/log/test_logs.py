"""From a call of a logger to a line."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from goclaw.errors import HomeLocked
from goclaw.log import PHASES, Logs, StartupPhases, bound, get_logger, startup_failure
from tests.fakes_clock import START, FakeClock

SECRET = "very-secret-value"


def hide(text: str) -> str:
    return text.replace(SECRET, "[hidden]")


class Lines(io.StringIO):
    def entries(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]


@contextmanager
def logging_to(stream: io.StringIO, *, human: bool = False) -> Iterator[Logs]:
    with Logs(clock=FakeClock(), redact=hide, stream=stream, human=human) as logs:
        yield logs


@pytest.mark.spec("GC-OBS-001")
def test_a_line_has_the_promised_keys_in_their_order() -> None:
    lines = Lines()
    with logging_to(lines):
        get_logger("kernel").info("task claimed", task_id="t", n=1)
    assert lines.getvalue() == (
        f'{{"timestamp":{START},"level":"INFO","msg":"task claimed","component":"kernel",'
        '"trace_id":null,"task_id":"t","run_id":null,"session_id":null,"n":1}\n'
    )


@pytest.mark.spec("GC-OBS-002")
async def test_bound_ids_are_on_every_line_inside_in_tasks_and_threads_too() -> None:
    lines, log = Lines(), get_logger("brain")

    async def inner() -> None:
        log.info("in a task", n=1)
        await asyncio.to_thread(log.info, "in a thread")

    with logging_to(lines):
        with bound(trace_id="tr", task_id="t"), bound(run_id="r"):
            async with asyncio.TaskGroup() as group:
                group.create_task(inner())
            logging.getLogger("library").warning("from a library")
        log.info("outside")
    ids = [(entry["trace_id"], entry["task_id"], entry["run_id"]) for entry in lines.entries()]
    assert ids == [("tr", "t", "r")] * 3 + [(None, None, None)]


@pytest.mark.spec("GC-OBS-003")
def test_secrets_are_hidden_wherever_they_stand() -> None:
    lines, log = Lines(), get_logger("x")
    with logging_to(lines):
        log.info(
            f"m {SECRET}",
            a=SECRET,
            b=[{"c": f"x{SECRET}"}],
            d={SECRET: 1},
            e=ValueError(SECRET),
            f=Path(SECRET),
        )
        try:
            raise ValueError(SECRET)
        except ValueError as error:
            log.exception("failed", error)
        logging.getLogger("library").error("%s", SECRET)
    assert SECRET not in lines.getvalue()
    assert lines.getvalue().count("[hidden]") >= 8
    assert "Traceback" in lines.entries()[1]["traceback"]


def test_a_secret_is_not_cut_in_half_at_the_edge_of_a_long_text() -> None:
    lines = Lines()
    with logging_to(lines):
        for before in range(16_384 - len(SECRET), 16_384):
            get_logger("x").info("m", text="x" * before + SECRET)
    assert "very" not in lines.getvalue()


def test_texts_and_collections_are_bounded() -> None:
    lines = Lines()
    deep: list[Any] = []
    deep.append(deep)
    with logging_to(lines):
        get_logger("x").info("m" * 100_000, many=list(range(1_000)), deep=deep, huge="y" * 200_000)
    [entry] = lines.entries()
    assert entry["msg"].endswith("... [83616 characters more]")
    assert len(entry["many"]) == 200
    assert len(lines.getvalue()) < 50_000


class Colour(StrEnum):
    RED = "red"


def test_values_that_are_no_json_become_text_without_being_asked() -> None:
    class Rude:
        def __repr__(self) -> str:
            raise RuntimeError

    lines = Lines()
    with logging_to(lines):
        get_logger("x").info(
            "m",
            a=Rude(),
            b=float("nan"),
            c=10**6000,
            d=(1, 2),
            e=Colour.RED,
            f=b"x",
            g="\ud800",
            msg_=None,
            level="x",
        )
    [entry] = lines.entries()
    assert (entry["a"], entry["b"], entry["c"], entry["d"]) == ("<Rude>", "nan", "<int>", [1, 2])
    assert (entry["e"], entry["f"], entry["level"]) == ("red", "<bytes>", "INFO")


@pytest.mark.spec("GC-OBS-004")
def test_libraries_and_warnings_are_heard_from_warning_up() -> None:
    lines = Lines()
    with logging_to(lines) as logs:
        logs.set_level("debug")
        logging.getLogger("uvicorn.error").info("chatter")
        logging.getLogger("uvicorn.error").warning("trouble %d", 5)
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            logging.captureWarnings(True)
            warnings.warn("old", DeprecationWarning, stacklevel=1)
        get_logger("x").debug("own")
    told = [(entry["component"], entry["msg"]) for entry in lines.entries()]
    assert told[0] == ("uvicorn.error", "trouble 5")
    assert told[1][0] == "py.warnings"
    assert told[2] == ("x", "own")


def test_a_library_whose_format_and_arguments_do_not_match_is_logged_all_the_same() -> None:
    lines = Lines()
    broken = logging.LogRecord("library", logging.WARNING, "f.py", 1, "broken %d", ("x",), None)
    with logging_to(lines):
        logging.getLogger().handlers[-1].handle(broken)
    assert lines.entries()[0]["msg"] == "broken %d"


def test_the_level_can_change_while_running() -> None:
    lines, log = Lines(), get_logger("x")
    with logging_to(lines) as logs:
        log.debug("1")
        logs.set_level("debug")
        log.debug("2")
        logs.set_level("error")
        log.warning("3")
        log.error("4")
    assert [entry["msg"] for entry in lines.entries()] == ["2", "4"]


def test_everything_is_as_before_when_it_is_closed() -> None:
    root, own = logging.getLogger(), logging.getLogger("goclaw")
    before = (root.level, own.level, list(root.handlers))
    with logging_to(Lines()):
        assert (root.level, own.level, list(root.handlers)) != before
    assert (root.level, own.level, list(root.handlers)) == before


def test_lines_go_to_the_file_from_the_moment_it_is_opened(tmp_path: Path) -> None:
    lines, log = Lines(), get_logger("x")
    with logging_to(lines, human=True) as logs:
        log.info("before")
        logs.open_file(tmp_path / "system.jsonl")
        log.info("after")
        assert logs.flush()
        assert json.loads((tmp_path / "system.jsonl").read_text())["msg"] == "after"
    assert "before" in lines.getvalue()


def test_a_person_gets_readable_lines() -> None:
    lines = Lines()
    with logging_to(lines, human=True):
        get_logger("kernel").warning("task failed", task_id="t", why="two words", n=1)
        try:
            raise ValueError("x")
        except ValueError as error:
            get_logger("kernel").exception("bug", error)
    first, second, *trace = lines.getvalue().splitlines()
    assert first.endswith('WARNING kernel     task failed task_id=t why="two words" n=1')
    assert second.endswith("ERROR   kernel     bug")
    assert trace[-1] == "ValueError: x"


@pytest.mark.spec("GC-OBS-005")
def test_the_phases_of_a_start_are_lines_in_their_one_order_at_every_level() -> None:
    lines = Lines()
    with logging_to(lines) as logs:
        logs.set_level("error")
        phases = StartupPhases()
        for phase in PHASES[:-1]:
            phases.reached(phase)
        with pytest.raises(ValueError, match="is ready, not home_locked"):
            phases.reached("home_locked")
        phases.reached("ready", url="http://127.0.0.1:1")
        with pytest.raises(ValueError, match="nothing more"):
            phases.reached("ready")
    entries = lines.entries()
    assert [entry["msg"] for entry in entries] == [
        "home_locked", "config_loaded", "schema_migrated", "recovery_scan_completed", "policy_loaded",
        "gateway_bound", "scheduler_started", "ready",
    ]  # fmt: skip
    assert entries[-1]["url"] == "http://127.0.0.1:1"


@pytest.mark.spec("GC-OBS-006")
def test_a_start_that_fails_says_why_in_one_line() -> None:
    lines = Lines()
    with logging_to(lines):
        startup_failure(HomeLocked("taken", pid=5, msg="x", error="y"))
    [entry] = lines.entries()
    assert (entry["msg"], entry["level"], entry["reason_code"]) == (
        "startup failure",
        "ERROR",
        "E_HOME_LOCKED",
    )
    assert (entry["error"], entry["details"]["pid"]) == ("taken", 5)


def test_a_logger_without_an_outlet_is_quiet_below_warning(capfd: pytest.CaptureFixture[str]) -> None:
    get_logger("x").info("nothing")
    assert capfd.readouterr().out == ""
