"""The demo can fail: its proof finds what is lost, doubled or wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from goclaw.cli.demo_home import Line, furnish, quiet, read_ledger
from goclaw.cli.demo_report import Outcome, groups
from goclaw.cli.demo_work import Job, all_work
from goclaw.core.intake import check
from goclaw.core.task import NewTask
from goclaw.policy.rules import parse

REPOSITORY = Path(__file__).parents[3]
JOB = Job(name="unsafe-1", group="unsafe", params={}, answer="42", begins=(1, 1))
BEGIN = Line("begin", "unsafe-1", 7, "k")


def _outcome(job: Job = JOB, *, state: str = "SUCCEEDED", ends: tuple[str, ...] = (), **task: Any) -> Outcome:
    moves: tuple[str | None, ...] = ("QUEUED", None, "RUNNING", *(ends or (state,)))
    shown = {"state": state, "result": {"text": "it is 42"}, **task}
    return Outcome(job=job, task=shown, events=[{"state_to": one} for one in moves], lines=[BEGIN])


def test_what_went_right_has_no_faults() -> None:
    assert _outcome().faults() == []


@pytest.mark.spec("GC-REL-101")
@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        (replace(_outcome(), task=None), "lost"),
        (_outcome(state="FAILED", error_code="TIMEOUT"), "ended FAILED TIMEOUT, not SUCCEEDED"),
        (_outcome(ends=("SUCCEEDED", "SUCCEEDED")), "2 times"),
        (_outcome(result={"text": "it is 41"}), "result"),
        (replace(_outcome(), lines=[BEGIN, BEGIN]), "began 2 times"),
        (replace(_outcome(), lines=[]), "began 0 times"),
    ],
)
def test_what_went_wrong_is_named(outcome: Outcome, told: str) -> None:
    (fault,) = outcome.faults()
    assert told in fault
    assert not groups([outcome])[0].right


def test_an_unsafe_effect_that_the_kill_met_may_end_unknown_but_not_begin_again() -> None:
    job = replace(JOB, answer="", may_be_cut=True)
    cut = _outcome(job, state="FAILED", error_code="OUTCOME_UNKNOWN")
    assert cut.faults() == []
    assert replace(cut, lines=[BEGIN, BEGIN]).faults() == ["unsafe-1: its effect began 2 times"]
    assert replace(cut, job=replace(job, may_be_cut=False)).faults() != []


def test_a_dead_letter_came_to_rest_once() -> None:
    job = replace(JOB, state="DEAD_LETTER", answer="", begins=None)
    outcome = _outcome(job, state="DEAD_LETTER", ends=("RETRY_WAIT", "QUEUED", "RUNNING", "FAILED", "DEAD_LETTER"))
    assert (outcome.ends, outcome.faults()) == (1, [])


def test_all_of_the_work_is_acceptable_and_allowed_in_its_home(tmp_path: Path) -> None:
    demo = furnish(tmp_path)
    work = all_work(demo)
    rules = parse(demo.home.policy.read_text(), str(demo.home.root))
    assert len({job.name for job in work}) == len(work)
    for job in work:
        if job.method == "task.submit":
            check(NewTask(agent_id="default", kind=job.params["kind"], payload=job.params["payload"]))
        if job.params.get("kind") == "exec":
            argv = job.params["payload"]["argv"]
            paths = [str((demo.home.workspace / word).resolve()) for word in argv]
            assert any(one.matches(argv, paths, rules.fence) for one in rules.patterns), argv


def test_the_ledger_is_read_line_by_line(tmp_path: Path) -> None:
    (tmp_path / "ledger").write_text("begin a 1 k\nend a 1 k\n")
    assert [line.word for line in read_ledger(tmp_path / "ledger")] == ["begin", "end"]


def test_no_key_and_no_other_home_reaches_the_demo() -> None:
    env = {
        "PATH": "/bin",
        "GOCLAW_HOME": "/x",
        "OPENAI_API_KEY": "k",
        "ANTHROPIC_BASE_URL": "u",
        "OLLAMA_HOST": "h",
    }
    assert quiet(env) == {"PATH": "/bin"}


def test_the_skill_of_the_demo_is_the_one_of_the_examples() -> None:
    example = REPOSITORY / "examples" / "skills" / "sha256"
    if not example.exists():
        pytest.skip("the examples are not beside these tests")
    shipped = REPOSITORY / "goclaw" / "cli" / "demo_data" / "sha256"
    for path in shipped.iterdir():
        assert path.read_bytes() == (example / path.name).read_bytes(), path.name
