"""A policy file with one mistake is refused as a whole, with the place and the nearest name."""

from __future__ import annotations

import pytest

from goclaw.errors import PolicyInvalid
from goclaw.policy.document import MAX_BYTES, check, parse_text


@pytest.mark.spec("GC-SEC-105")
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "empty"),
        ("# only a comment\n", "empty"),
        (
            "allow_capabilites: [acp.read]",
            "unknown key 'allow_capabilites'; the nearest known one is 'allow_capabilities'",
        ),
        (
            "allow_capabilities: [tools.read_fil]",
            "unknown capability 'tools.read_fil'; the nearest known one is 'tools.read_file'",
        ),
        ("allow_capabilities: acp.read", "must be a list"),
        ("allow_capabilities: [1]", "not a text"),
        ("allow_capabilities: [yes]", "not a text"),
        ("allow_paths: [~root/x]", "only ~ and ~/..."),
        ("allow_paths: ['/srv/*']", "wildcards"),
        ("allow_paths: ['']", "not a text"),
        ("allow_domains: ['https://x.org']", "no host name"),
        ("allow_domains: ['*.x.org']", "no host name"),
        ("allow_loopback: 1", "must be true or false"),
        ("exec: {alow: []}", "exec: unknown key 'alow'; the nearest known one is 'allow'"),
        ("exec: {allow: [[]]}", "exec.allow[0]"),
        ("exec: {allow: ['ls', 'a ** b']}", "exec.allow[1]: ** stands only at the end"),
        ("exec: {allow: ['* -x']}", "plain name or an absolute path"),
        ("exec: {allow: ['bin/tool']}", "plain name or an absolute path"),
        ("exec: {allow: ['\"']}", "No closing quotation"),
        ("exec: {allow: [[ls, 1]]}", "list of texts"),
        ("exec: {allow: [{argv: ls, effect: verifiable}]}", "effect must be one of"),
        ("exec: {allow: [{argv: ls, efect: pure}]}", "unknown key 'efect'"),
        ("tools: {profile: codng}", "'coding'"),
        ("tools: {by_provider: {openai: {allow: []}}}", "unknown key 'allow'"),
        ("approvals: {tools.exec: always}", "must be one of ask"),
        ("approvals: {tools.exce: ask}", "nearest known one is 'tools.exec'"),
        ("skills: {weather: {capabilities: [wasm.htp]}}", "nearest known one is 'wasm.http'"),
        ("skills: {'../x': {}}", "a skill's name"),
        ("mcp: {rules: [{server: x}]}", "no MCP servers"),
        ("limits: {spend: 1}", "unknown key 'spend'"),
        ("on_invalid: kep", "nearest known one is 'keep'"),
        ("[1, 2]", "must be a mapping"),
        ("a: [", "not valid YAML"),
        ("allow_loopback: true\nallow_loopback: false", "given twice, again in line 2"),
        ("exec: {allow: [], allow: []}", "given twice"),
        ("a: &x [1]\nb: *x", "aliases"),
        ("? [a]\n: b", "not a plain word"),
        ("x: !!python/object:os.system {}", "not valid YAML"),
        ("[" * 3_000, "not valid YAML"),
        ("a" * (MAX_BYTES + 1), "larger than"),
    ],
)
def test_a_mistake_is_named(text: str, told: str) -> None:
    with pytest.raises(PolicyInvalid) as caught:
        parse_text(text)
    assert told in caught.value.message
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 600


def test_names_of_the_go_program_are_accepted() -> None:
    document = parse_text("allow_capabilities: [tools.read_url]")
    assert document["allow_capabilities"] == ["tools.web_fetch"]


def test_what_is_left_out_is_closed() -> None:
    assert check({}) == {
        "allow_capabilities": [],
        "allow_domains": [],
        "allow_paths": [],
        "allow_loopback": False,
        "exec": {"allow": []},
        "tools": {"profile": "full", "allow": [], "deny": [], "by_provider": {}},
        "approvals": {},
        "mcp": {"rules": []},
        "skills": {},
        "limits": {},
        "on_invalid": "keep",
    }


def test_a_key_without_a_value_is_as_good_as_left_out() -> None:
    keys = [
        "allow_capabilities",
        "allow_domains",
        "allow_paths",
        "exec",
        "tools",
        "approvals",
        "mcp",
        "limits",
    ]
    assert parse_text("".join(f"{key}:\n" for key in keys)) == check({})
