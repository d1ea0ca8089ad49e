"""The rules decide; everything that is not allowed is denied."""

from __future__ import annotations

from pathlib import Path

import pytest

from goclaw.core.access import Access, Verdict
from goclaw.core.step import Effect
from goclaw.policy.rules import Rules, deny_all, from_document, parse

FILES = "allow_capabilities: [tools.read_file, tools.write_file]\nallow_paths: [workspace]\n"


def read(path: Path | str, capability: str = "tools.read_file") -> Access:
    return Access("agent:default", capability, str(path))


def run(*argv: str, cwd: str, paths: tuple[str, ...] | None = None) -> Access:
    resolved = paths or tuple(f"{cwd}/{argument}" for argument in argv)
    return Access("agent:default", "tools.exec", "/usr/bin/x", argv, argv_paths=resolved, cwd=cwd)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path.resolve() / "home"
    (home / "workspace").mkdir(parents=True)
    return home


def verdict(rules: Rules, access: Access) -> Verdict:
    return rules.decide(access)[0]


@pytest.mark.spec("GC-SEC-101")
def test_an_empty_policy_denies_everything(home: Path) -> None:
    rules = parse("{}", str(home))
    assert rules.version == deny_all(str(home)).version
    assert rules.decide(Access("client", "acp.read")) == (Verdict.DENY, "acp.read is not allowed for client")
    assert verdict(rules, read(home / "workspace" / "a.txt")) is Verdict.DENY


def test_a_granted_capability_without_an_object_is_allowed(home: Path) -> None:
    rules = parse("allow_capabilities: [acp.mutate]", str(home))
    assert rules.decide(Access("client", "acp.mutate")) == (Verdict.ALLOW, "acp.mutate is allowed")
    assert verdict(rules, Access("client", "acp.read")) is Verdict.DENY
    assert verdict(rules, Access("client", "acp.unheard")) is Verdict.DENY


@pytest.mark.spec("GC-SEC-102")
def test_files_are_allowed_inside_the_paths_and_nowhere_else(home: Path) -> None:
    rules = parse(FILES, str(home))
    assert verdict(rules, read(home / "workspace")) is Verdict.ALLOW
    assert verdict(rules, read(home / "workspace" / "deep" / "a.txt", "tools.write_file")) is Verdict.ALLOW
    for outside in (home, home / "workspace2" / "a", home / "skills" / "a", Path("/etc/passwd"), Path("/")):
        assert verdict(rules, read(outside)) is Verdict.DENY, outside
    assert "outside allow_paths (workspace)" in rules.decide(read("/etc/passwd"))[1]


def test_without_paths_no_file_is_allowed(home: Path) -> None:
    rules = parse("allow_capabilities: [tools.read_file]", str(home))
    assert rules.decide(read(home / "workspace" / "a"))[1].endswith("allow_paths is empty")


@pytest.mark.parametrize("resource", ["", "workspace/a", "../x"])
def test_a_path_that_was_not_resolved_is_denied(home: Path, resource: str) -> None:
    assert verdict(parse(FILES, str(home)), read(resource)) is Verdict.DENY


@pytest.mark.spec("GC-SEC-103")
@pytest.mark.parametrize(
    "name",
    [
        "goclaw.db",
        "goclaw.db-wal",
        "GOCLAW.DB",
        "auth.token",
        "secrets/key",
        "policy.yaml",
        "config.yaml",
        ".env",
    ],
)
def test_the_daemons_own_files_are_closed_even_where_a_path_covers_them(home: Path, name: str) -> None:
    rules = parse("allow_capabilities: [tools.read_file, tools.write_file]\nallow_paths: ['.', '/']", str(home))
    for capability in ("tools.read_file", "tools.write_file"):
        verdict, reason = rules.decide(read(home / name, capability))
        assert verdict is Verdict.DENY
        assert "belongs to goclaw itself" in reason
    assert rules.decide(read(home / "workspace" / name))[0] is Verdict.ALLOW
    assert rules.decide(read(home / "notes.txt"))[0] is Verdict.ALLOW


def test_an_entry_that_is_a_link_means_the_folder_it_led_to_when_the_rules_were_made(home: Path) -> None:
    target = home.parent / "target"
    target.mkdir()
    (home / "link").symlink_to(target)
    rules = parse("allow_capabilities: [tools.read_file]\nallow_paths: [link]", str(home))
    (home / "link").unlink()
    (home / "link").symlink_to("/etc")
    assert verdict(rules, read(target / "a")) is Verdict.ALLOW
    assert verdict(rules, read("/etc/passwd")) is Verdict.DENY


def test_a_tilde_means_the_users_own_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(home.parent / "user"))
    rules = parse("allow_capabilities: [tools.read_file]\nallow_paths: [~/code]", str(home))
    assert verdict(rules, read(home.parent / "user" / "code" / "a")) is Verdict.ALLOW
    assert verdict(rules, read(home.parent / "user" / "other")) is Verdict.DENY


def test_artifacts_need_the_reading_capability_and_no_path(home: Path) -> None:
    rules = parse("allow_capabilities: [tools.read_file, tools.write_file]", str(home))
    assert verdict(rules, read("artifact:" + "0" * 64)) is Verdict.ALLOW
    assert verdict(rules, read("artifact:" + "0" * 64, "tools.write_file")) is Verdict.DENY
    assert verdict(parse("{}", str(home)), read("artifact:" + "0" * 64)) is Verdict.DENY


GRAMMAR = """
allow_capabilities: [tools.exec]
allow_paths: [workspace]
exec:
  allow:
    - date
    - [git, log, "*"]
    - "cat {path}"
    - "echo **"
    - /opt/tool run
    - {argv: "sha256sum {path}", effect: pure}
    - {argv: [touch, "{path}"], effect: idempotent}
"""


@pytest.mark.spec("GC-SEC-104")
@pytest.mark.parametrize(
    ("argv", "allowed"),
    [
        (["date"], True),
        (["date", "-s"], False),
        (["/bin/date"], False),
        (["git", "log", "-p"], True),
        (["git", "log"], False),
        (["git", "log", "-p", "x"], False),
        (["git", "push", "x"], False),
        (["cat", "a.txt"], True),
        (["cat", "-n"], False),
        (["cat", "--", "a.txt"], False),
        (["cat"], False),
        (["cat", "a.txt", "b.txt"], False),
        (["echo"], True),
        (["echo", "a", "-b", "; rm"], True),
        (["/opt/tool", "run"], True),
        (["tool", "run"], False),
        (["rm", "a.txt"], False),
        (["Date"], False),
        (["date "], False),
    ],
)
def test_only_argument_vectors_of_the_grammar_run(home: Path, argv: list[str], allowed: bool) -> None:
    rules = parse(GRAMMAR, str(home))
    access = run(*argv, cwd=str(home / "workspace"))
    assert verdict(rules, access) is (Verdict.ALLOW if allowed else Verdict.DENY)


def test_a_path_argument_must_lie_inside_the_allowed_paths_and_outside_the_state(home: Path) -> None:
    rules = parse(GRAMMAR.replace("[workspace]", "['.']"), str(home))
    for target, allowed in {"/etc/passwd": False, f"{home}/auth.token": False, f"{home}/a": True}.items():
        access = run("cat", "x", cwd=str(home / "workspace"), paths=("/bin/cat", target))
        assert verdict(rules, access) is (Verdict.ALLOW if allowed else Verdict.DENY), target


def test_a_path_argument_that_nobody_resolved_is_denied(home: Path) -> None:
    access = Access("agent:a", "tools.exec", "/bin/cat", ("cat", "a"), cwd=str(home / "workspace"))
    assert verdict(parse(GRAMMAR, str(home)), access) is Verdict.DENY


def test_a_program_runs_only_in_an_allowed_folder(home: Path) -> None:
    rules = parse(GRAMMAR, str(home))
    for folder in ("/", "/etc", "", str(home)):
        assert verdict(rules, run("date", cwd=folder)) is Verdict.DENY, folder
    assert rules.decide(run("date", cwd="/etc"))[1].startswith("working folder: /etc is outside")


def test_no_argument_vector_at_all_is_denied(home: Path) -> None:
    access = Access("agent:a", "tools.exec", cwd=str(home / "workspace"))
    assert parse(GRAMMAR, str(home)).decide(access) == (Verdict.DENY, "there is no program to run")


@pytest.mark.parametrize(
    ("argv", "effect", "believed"),
    [
        (("sha256sum", "a"), Effect.PURE, True),
        (("sha256sum", "a"), Effect.IDEMPOTENT, True),
        (("touch", "a"), Effect.IDEMPOTENT, True),
        (("touch", "a"), Effect.PURE, False),
        (("cat", "a"), Effect.PURE, False),
        (("rm", "a"), Effect.PURE, False),
    ],
)
def test_an_effect_class_is_believed_where_the_rule_says_so(
    home: Path, argv: tuple[str, ...], effect: Effect, believed: bool
) -> None:
    rules = parse(GRAMMAR, str(home))
    paths = tuple(f"{home}/workspace/{argument}" for argument in argv)
    assert rules.believes(argv, paths, effect) is believed


def test_hosts_are_matched_by_label_and_this_machine_needs_its_own_switch(home: Path) -> None:
    text = "allow_capabilities: [tools.web_fetch]\nallow_domains: [example.com, localhost, 127.0.0.1]"
    rules = parse(text, str(home))
    loopback = parse(text + "\nallow_loopback: true", str(home))

    def fetch(host: str) -> Access:
        return Access("agent:a", "tools.web_fetch", host)

    for host in ("example.com", "EXAMPLE.com", "www.example.com", "example.com."):
        assert verdict(rules, fetch(host)) is Verdict.ALLOW, host
    for host in ("badexample.com", "example.com.evil.org", "com", "", "localhost", "127.0.0.1"):
        assert verdict(rules, fetch(host)) is Verdict.DENY, host
    assert verdict(loopback, fetch("localhost")) is Verdict.ALLOW
    assert verdict(loopback, fetch("127.0.0.1")) is Verdict.ALLOW


def test_a_skill_has_its_own_grants_and_the_general_ones_of_wasm(home: Path) -> None:
    rules = parse(
        "allow_capabilities: [wasm.log, tools.cron]\nskills: {weather: {capabilities: [wasm.kv_read]}}",
        str(home),
    )
    assert verdict(rules, Access("skill:weather", "wasm.kv_read")) is Verdict.ALLOW
    assert verdict(rules, Access("skill:other", "wasm.kv_read")) is Verdict.DENY
    assert verdict(rules, Access("skill:other", "wasm.log")) is Verdict.ALLOW
    assert verdict(rules, Access("skill:weather", "tools.cron")) is Verdict.DENY
    assert verdict(rules, Access("agent:a", "wasm.kv_read")) is Verdict.DENY


def test_an_approval_turns_an_allow_into_an_ask_and_never_a_deny(home: Path) -> None:
    rules = parse(FILES + "approvals: {tools.write_file: ask, tools.cron: ask}", str(home))
    inside = read(home / "workspace" / "a", "tools.write_file")
    assert rules.decide(inside) == (Verdict.ASK, "tools.write_file needs an approval")
    assert verdict(rules, read("/etc/passwd", "tools.write_file")) is Verdict.DENY
    assert verdict(rules, Access("agent:a", "tools.cron")) is Verdict.DENY


@pytest.mark.parametrize(
    ("tools", "allowed", "denied"),
    [
        ("{}", ["read_file", "my_skill"], []),
        ("{profile: minimal}", ["read_file", "grep"], ["write_file", "exec", "my_skill"]),
        ("{profile: coding}", ["edit_file", "exec"], ["send_message"]),
        ("{profile: minimal, allow: [my_*]}", ["read_file", "my_skill"], ["exec"]),
        ("{deny: [exec], allow: [exec]}", ["read_file"], ["exec"]),
        ("{by_provider: {openai: {deny: [exec]}}}", ["read_file"], ["exec"]),
    ],
)
def test_tools_are_filtered_by_name_and_a_deny_wins(
    home: Path, tools: str, allowed: list[str], denied: list[str]
) -> None:
    rules = parse(f"allow_capabilities: [tools.cron]\ntools: {tools}", str(home))
    for tool in allowed:
        assert verdict(rules, Access("agent:a", "tools.cron", tool=tool)) is Verdict.ALLOW, tool
    for tool in denied:
        assert verdict(rules, Access("agent:a", "tools.cron", tool=tool)) is Verdict.DENY, tool


def test_the_version_depends_on_the_rules_and_on_nothing_else(home: Path) -> None:
    one = parse("allow_capabilities: [acp.read, acp.mutate]\nallow_paths: []", str(home))
    same = parse("# words\nallow_paths:\nallow_capabilities: [acp.mutate, acp.read, acp.read]\n", "/elsewhere")
    other = parse("allow_capabilities: [acp.read]", str(home))
    assert one.version == same.version != other.version
    assert len(one.version) == 64


def test_rules_come_back_from_their_stored_document(home: Path) -> None:
    rules = parse(GRAMMAR, str(home))
    assert from_document(rules.document, str(home)) == rules


def test_the_starter_policy_is_useful_in_the_workspace_and_closed_outside(home: Path) -> None:
    starter = Path(__file__).parents[3] / "goclaw" / "policy" / "starter.yaml"
    rules = parse(starter.read_text(), str(home))
    inside, workspace = home / "workspace" / "a.txt", str(home / "workspace")
    for access in (
        Access("client", "acp.read"),
        Access("client", "acp.mutate"),
        read(inside),
        read(inside, "tools.write_file"),
        run("cat", "a.txt", cwd=workspace),
        run("sha256sum", "a.txt", cwd=workspace),
        run("echo", "hello", "world", cwd=workspace),
        Access("agent:default", "wasm.invoke", "hash"),
        Access("agent:default", "tools.cron"),
    ):
        assert verdict(rules, access) is Verdict.ALLOW, access
    for access in (
        read("/etc/passwd"),
        read(home / "auth.token"),
        read(home / "skills" / "x.wasm", "tools.write_file"),
        run("cat", "/etc/passwd", cwd=workspace, paths=("/bin/cat", "/etc/passwd")),
        run("rm", "a.txt", cwd=workspace),
        run("sh", "-c", "id", cwd=workspace),
        run("date", "-s", "1970-01-01", cwd=workspace),
        run("sort", "-o", "a.txt", cwd=workspace),
        run("ls", cwd="/"),
        Access("agent:default", "tools.shell"),
        Access("agent:default", "tools.web_fetch", "example.com"),
        Access("client", "policy.change"),
        Access("client", "config.change"),
        Access("skill:hash", "wasm.http", "example.com"),
    ):
        assert verdict(rules, access) is Verdict.DENY, access
