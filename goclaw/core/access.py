"""Who may do what: capabilities, an access that is asked for, and the decision about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

CAPABILITIES = frozenset(
    {
        "acp.read",
        "acp.mutate",
        "tools.read_file",
        "tools.write_file",
        "tools.exec",
        "tools.shell",
        "tools.web_search",
        "tools.web_fetch",
        "tools.spawn_task",
        "tools.delegate_task",
        "tools.send_message",
        "tools.memory_read",
        "tools.memory_write",
        "tools.cron",
        "tools.mcp",
        "tools.alert",
        "wasm.http",
        "wasm.kv_read",
        "wasm.kv_write",
        "wasm.log",
        "wasm.env",
        "wasm.invoke",
        "skill.inject",
        "skill.install",
        "agent.create",
        "agent.remove",
        "secrets.use",
        "policy.change",
        "config.change",
    }
)
ALIASES = {"tools.read_url": "tools.web_fetch"}
"""Capabilities the Go program of this name used; accepted when a policy is read."""


class Verdict(StrEnum):
    """From the strictest to the mildest."""

    DENY = "deny"
    ASK = "ask"
    ALLOW = "allow"


STRICTNESS = {Verdict.DENY: 0, Verdict.ASK: 1, Verdict.ALLOW: 2}


@dataclass(frozen=True, slots=True)
class Access:
    """Something is about to touch the world.

    `resource` is the object that will really be used (a resolved absolute path, a host name, a skill name),
    never a spelling of it; empty for capabilities without an object. `tool` is the tool called, stamped by the
    gate. Of a process, `argv` is the exact argument vector, `argv_paths` what each argument names when read as a
    path (resolved, same order), `cwd` the resolved working folder.
    """

    subject: str
    capability: str
    resource: str = ""
    argv: tuple[str, ...] = ()
    argv_paths: tuple[str, ...] = ()
    cwd: str = ""
    tool: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to an access, with the policy versions it rests on (SHA-256 of the parsed rules)."""

    verdict: Verdict
    reason: str
    policy_version: str
    pinned_version: str | None = None

    @property
    def allowed(self) -> bool:
        """True only for an unconditional allow; an ask that nobody answered is a no."""
        return self.verdict is Verdict.ALLOW
