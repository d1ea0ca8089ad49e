"""exec runs what the grammar covers, and its end is known or said to be unknown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from goclaw.core.step import Effect
from goclaw.core.tool import Ready, Refused
from goclaw.tools import exec as exec_module

if TYPE_CHECKING:
    from tests.unit.tools.conftest import House


async def test_a_program_that_succeeds_gives_its_output(house: House) -> None:
    house.write("a.txt", "hello\n")
    output = await house.call("exec", argv=["cat", "a.txt"])
    assert (output.text, output.is_error, output.code) == ("hello", False, None)
    assert {**output.data, "duration_ms": 0} == {
        "exit_code": 0,
        "stdout": "hello\n",
        "stderr": "",
        "duration_ms": 0,
    }


async def test_a_known_exit_code_is_an_error_with_a_known_outcome(house: House) -> None:
    output = await house.call("exec", argv=["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert output.text == "out\n[stderr]\nerr\n[exit code 3]"
    assert (output.is_error, output.code, output.data["exit_code"]) == (True, "EXIT_STATUS", 3)
    assert "outcome" not in output.data


async def test_a_program_without_output_says_so(house: House) -> None:
    assert (await house.call("exec", argv=["sh", "-c", ":"])).text == "[no output]"


async def test_a_signal_leaves_the_outcome_unknown(house: House) -> None:
    output = await house.call("exec", argv=["sh", "-c", "kill -9 $$"])
    assert (output.is_error, output.code) == (True, "OUTCOME_UNKNOWN")
    assert (output.data["signal"], output.data["outcome"], output.data["exit_code"]) == (9, "unknown", None)


async def test_the_time_limit_leaves_the_outcome_unknown_and_keeps_what_was_said(house: House) -> None:
    output = await house.call("exec", argv=["sh", "-c", "echo begun; sleep 600"], timeout_ms=300)
    assert (output.code, output.data["timed_out"], output.data["outcome"]) == (
        "OUTCOME_UNKNOWN",
        True,
        "unknown",
    )
    assert output.text.startswith("begun\n[killed at its time limit")


@pytest.mark.parametrize(
    ("asked", "left", "direct", "limit"),
    [
        (None, None, False, 120_000),
        (5, None, False, 5),
        (10_000_000, None, False, 600_000),
        (None, 50, False, 50),
        (100, 50, True, 50),
        (None, 7_000_000, True, 3_600_000),
    ],
)
def test_the_tightest_limit_holds(house: House, asked: int | None, left: int | None, direct: bool, limit: int) -> None:
    assert exec_module.time_limit(asked, house.context(timeout_ms=left, direct=direct)) == limit


@pytest.mark.spec("GC-SEC-124")
async def test_a_program_that_may_run_again_fails_in_the_ordinary_way_at_its_limit(house: House) -> None:
    arguments = {"argv": ["sleep", "600"], "effect": "pure", "timeout_ms": 100}
    output = await house.gate.run(await house.ready("exec", arguments, direct=True))
    assert (output.is_error, output.code, output.data["outcome"]) == (True, "TIMEOUT", "unknown")


async def test_large_output_is_cut_and_whole_in_an_artifact_without_secrets(house: House) -> None:
    output = await house.call("exec", argv=["sh", "-c", "seq 20000; echo sk-very-secret"])
    assert output.artifact is not None
    assert len(output.text) < 30_000
    assert output.text.startswith("1\n2\n")
    assert "bytes left out" in output.text
    assert f"artifact {output.artifact}" in output.text
    whole = (await house.artifacts.get(output.artifact)).decode()
    assert whole == "".join(f"{n}\n" for n in range(1, 20_001)) + "[redacted]\n"
    assert "sk-very-secret" not in str(output)


@pytest.mark.spec("GC-SEC-116")
@pytest.mark.parametrize(
    "arguments",
    [
        {"argv": ["rm", "a.txt"]},
        {"argv": ["cat", "/etc/passwd"]},
        {"argv": ["cat", "../auth.token"]},
        {"argv": ["cat", "link"]},
        {"argv": ["/bin/cat", "a.txt"]},
        {"argv": ["env"], "cwd": "/"},
        {"argv": ["env"], "cwd": ".."},
        {"argv": ["cat", "passwd"], "cwd": "/etc"},
        {"argv": ["missing-program"]},
    ],
)
async def test_what_the_grammar_does_not_cover_is_denied(house: House, arguments: dict[str, Any]) -> None:
    (house.folder / "link").symlink_to("/etc/passwd")
    output = await house.call("exec", **arguments)
    assert output.code == "POLICY_DENIED"


async def test_an_allowed_program_that_is_not_there_is_said(house: House) -> None:
    assert "no program no-such-program" in (await house.call("exec", argv=["no-such-program"])).text


@pytest.mark.parametrize("argv", [[], [""], ["env", "a\0b"], ["seq", "x" * 200_000], ["env", "\ud800"], "env", [1]])
async def test_what_is_no_argument_vector_is_a_bad_argument(house: House, argv: Any) -> None:
    assert (await house.call("exec", argv=argv)).code == "BAD_ARGUMENTS"


async def test_only_the_users_own_task_brings_variables_and_only_plain_ones(house: House) -> None:
    with_color = {"argv": ["env"], "env": {"COLOR": "blue"}}
    refused = await house.prepare("exec", with_color)
    assert isinstance(refused, Refused)
    assert refused.output.code == "BAD_ARGUMENTS"
    ready = await house.ready("exec", with_color, direct=True)
    assert "COLOR=blue" in (await house.gate.run(ready)).text
    for name, value in {"LD_PRELOAD": "x", "GOCLAW_MARK": "x", "A": "\0", "B": "x" * 40_000}.items():
        prepared = await house.prepare("exec", {"argv": ["env"], "env": {name: value}}, direct=True)
        assert isinstance(prepared, Refused), name


@pytest.mark.spec("GC-SEC-117")
@pytest.mark.parametrize(
    ("argv", "declared", "direct", "effect"),
    [
        (["cat", "a"], None, False, Effect.UNSAFE),
        (["cat", "a"], "pure", False, Effect.PURE),
        (["cat", "a"], "verifiable", False, Effect.UNSAFE),
        (["env"], "pure", False, Effect.UNSAFE),
        (["env"], "idempotent", False, Effect.UNSAFE),
        (["env"], "pure", True, Effect.PURE),
        (["env"], "idempotent", True, Effect.IDEMPOTENT),
        (["env"], "verifiable", True, Effect.UNSAFE),
        (["env"], None, True, Effect.UNSAFE),
    ],
)
async def test_a_declared_effect_counts_for_the_user_or_where_a_rule_agrees(
    house: House, argv: list[str], declared: str | None, direct: bool, effect: Effect
) -> None:
    arguments: dict[str, Any] = {"argv": argv} | ({"effect": declared} if declared else {})
    prepared = await house.prepare("exec", arguments, direct=direct)
    assert isinstance(prepared, Ready)
    assert prepared.effect is effect
