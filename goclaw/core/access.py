"""Who may do what: capabilities, an access that is asked for, and the decision about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

CAPABILITIES = frozenset(
    {
        "acp.read",
        "acp.mutate",
        *(
            f"tools.{name}"
            for name in (
                "read_file write_file exec shell web_search web_fetch spawn_task delegate_task "
                "send_message memory_read memory_write cron mcp alert"
            ).split()
        ),
        *(f"wasm.{name}" for name in "http kv_read kv_write log env invoke".split()),
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
