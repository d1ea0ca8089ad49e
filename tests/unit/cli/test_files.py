"""The groups that work on the files of a home and need no daemon: policy, config, skill validate, init."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Goclaw

POLICY = """\
allow_capabilities: [tools.read_file, tools.exec]
allow_paths: [workspace]
exec: {allow: ["ls {path}"]}
approvals: {tools.exec: ask}
"""


@pytest.fixture
def policy(home: Path) -> Path:
    (home / "workspace").mkdir()
    path = home / "policy.yaml"
    path.write_text(POLICY)
    return path


async def test_policy_show_says_the_version_and_the_rules(goclaw: Goclaw, policy: Path) -> None:
    told = json.loads((await goclaw("policy", "show", "--json")).out)
    assert len(told["version"]) == 64
    assert told["rules"]["allow_paths"] == ["workspace"]
    assert "allow_paths: [workspace]" in (await goclaw("policy", "show")).out


async def test_policy_check_finds_a_mistake_in_another_file(goclaw: Goclaw, policy: Path, tmp_path: Path) -> None:
    assert (await goclaw("policy", "check")).code == 0
    draft = tmp_path / "draft.yaml"
    draft.write_text("allow_capabilitys: []\n")
    ended = await goclaw("policy", "check", str(draft))
    assert ended.code == 1
    assert "allow_capabilities" in ended.err
    assert json.loads((await goclaw("policy", "check", str(draft), "--json")).out)["valid"] is False


async def test_without_a_policy_there_is_nothing_to_show(goclaw: Goclaw) -> None:
    assert (await goclaw("policy", "show")).code == 6


@pytest.mark.parametrize(
    ("words", "verdict", "code"),
    [
        (["tools.read_file", "a.txt"], "allow", 0),
        (["tools.read_file", "../auth.token"], "deny", 5),
        (["tools.read_file", "/etc/passwd"], "deny", 5),
        (["tools.write_file", "a.txt"], "deny", 5),
        (["tools.exec", "--", "ls", "a.txt"], "ask", 0),
        (["tools.exec", "--", "ls", "/etc"], "deny", 5),
        (["tools.exec", "--cwd", "/", "--", "ls", "a.txt"], "deny", 5),
    ],
)
async def test_policy_explain_decides_as_the_gate_would(
    goclaw: Goclaw, policy: Path, words: list[str], verdict: str, code: int
) -> None:
    ended = await goclaw("policy", "explain", "--json", *words)
    assert (json.loads(ended.out)["verdict"], ended.code) == (verdict, code)


async def test_policy_explain_of_no_capability_is_a_usage_error(goclaw: Goclaw, policy: Path) -> None:
    assert (await goclaw("policy", "explain", "tools.fly")).code == 2


async def test_config_set_get_show_and_check_agree(goclaw: Goclaw, home: Path) -> None:
    (home / "config.yaml").write_text("# mine\nlog_level: info\n")
    assert (await goclaw("config", "set", "worker_count", "3")).code == 0
    assert (await goclaw("config", "get", "worker_count")).out == "3\n"
    told = json.loads((await goclaw("config", "show", "--json")).out)
    assert (told["settings"]["worker_count"], told["sources"]["worker_count"]) == (3, "config.yaml")
    assert (await goclaw("config", "check")).code == 0
    assert (await goclaw("config", "path")).out == f"{home / 'config.yaml'}\n"
    assert (home / "config.yaml").read_text().startswith("# mine\n")


async def test_config_refuses_what_would_not_load(goclaw: Goclaw, home: Path) -> None:
    assert (await goclaw("config", "set", "worker_count", "none")).code == 1
    assert not (home / "config.yaml").exists()
    ended = await goclaw("config", "set", "wrker_count", "3")
    assert (ended.code, "worker_count" in ended.err) == (2, True)
    (home / "config.yaml").write_text("nonsense: 1\n")
    told = json.loads((await goclaw("config", "check", "--json")).out)
    assert (told["valid"], len(told["problems"])) == (False, 1)


async def test_init_makes_a_home_and_leaves_what_is_there(goclaw: Goclaw, home: Path) -> None:
    (home / "SOUL.md").write_text("mine")
    ended = await goclaw("init", "--json")
    assert json.loads(ended.out) == {"home": str(home), "first": True}
    assert (home / "SOUL.md").read_text() == "mine"
    for name in ("config.yaml", "policy.yaml", "workspace", "skills"):
        assert (home / name).exists(), name
    assert (home / "auth.token").stat().st_mode & 0o777 == 0o600
    token = (home / "auth.token").read_text()
    assert (await goclaw("init")).code == 0
    assert (home / "auth.token").read_text() == token


async def test_skill_validate_says_why_a_folder_is_no_skill(goclaw: Goclaw, tmp_path: Path) -> None:
    (tmp_path / "weather").mkdir()
    ended = await goclaw("skill", "validate", str(tmp_path / "weather"))
    assert (ended.code, "SKILL.md" in ended.err) == (1, True)
