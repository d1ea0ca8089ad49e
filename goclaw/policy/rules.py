"""The rules of one policy.yaml: immutable, versioned, and the pure decision about an access."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from goclaw.core.access import CAPABILITIES, Access, Verdict
from goclaw.core.canonical import digest
from goclaw.core.step import Effect
from goclaw.policy.argv import ArgvPattern, parse_pattern
from goclaw.policy.document import PROFILES, check, parse_text
from goclaw.policy.paths import Fence

SKILL = "skill:"
ARTIFACT = "artifact:"
_FILES = frozenset({"tools.read_file", "tools.write_file"})
_HOSTS = frozenset({"tools.web_fetch", "wasm.http"})

Judgement = tuple[Verdict, str]


@dataclass(frozen=True, slots=True)
class ToolFilter:
    """Which tools may be used by name; what they touch is judged apart. A deny wins over everything."""

    profile: str
    allow: tuple[str, ...]
    deny: tuple[str, ...]

    def refusal(self, tool: str) -> str | None:
        """Why the tool may not be used, or None."""
        if _any(self.deny, tool):
            return f"the policy denies the tool {tool}"
        if not _any(PROFILES[self.profile], tool) and not _any(self.allow, tool):
            return f"the tool {tool} is neither in the profile {self.profile} nor in tools.allow"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """One version of the policy. Equal rules have equal versions, whatever the file's comments and order.

    Decisions read nothing but their arguments; the folders of allow_paths were resolved when the rules were
    made.
    """

    version: str
    capabilities: frozenset[str]
    domains: tuple[str, ...]
    loopback: bool
    fence: Fence
    patterns: tuple[ArgvPattern, ...]
    tools: ToolFilter
    asked: frozenset[str]
    skills: Mapping[str, frozenset[str]]
    denies_on_invalid: bool
    document: Mapping[str, Any]

    def decide(self, access: Access) -> Judgement:
        """Deny, ask or allow, with the reason in plain words."""
        verdict, reason = self.offers(access.subject, access.capability, access.tool)
        if verdict is Verdict.DENY:
            return verdict, reason
        refusal = self._object_refusal(access)
        return (Verdict.DENY, refusal) if refusal else (verdict, reason)

    def offers(self, subject: str, capability: str, tool: str = "") -> Judgement:
        """The same without looking at the object: could anything be allowed here?"""
        if tool and (refusal := self.tools.refusal(tool)):
            return Verdict.DENY, refusal
        if not self._grants(subject, capability):
            return Verdict.DENY, f"{capability} is not allowed for {subject}"
        if capability in self.asked:
            return Verdict.ASK, f"{capability} needs an approval"
        return Verdict.ALLOW, f"{capability} is allowed"

    def believes(self, argv: tuple[str, ...], argv_paths: tuple[str, ...], effect: Effect) -> bool:
        """Whether a process may declare `effect`: the rule that lets it run says so."""
        return any(
            pattern.permits(effect) and pattern.matches(argv, argv_paths, self.fence) for pattern in self.patterns
        )

    def _grants(self, subject: str, capability: str) -> bool:
        if capability not in CAPABILITIES:
            return False
        if not subject.startswith(SKILL):
            return capability in self.capabilities
        own = self.skills.get(subject.removeprefix(SKILL), frozenset())
        return capability in own or (capability.startswith("wasm.") and capability in self.capabilities)

    def _object_refusal(self, access: Access) -> str | None:
        if access.capability in _FILES:
            if access.capability == "tools.read_file" and access.resource.startswith(ARTIFACT):
                return None
            return self.fence.refusal(access.resource)
        if access.capability in _HOSTS:
            return self._host_refusal(access.resource.lower().rstrip("."))
        if access.capability == "tools.exec":
            return self._exec_refusal(access)
        return None

    def _exec_refusal(self, access: Access) -> str | None:
        if not access.argv:
            return "there is no program to run"
        if refusal := self.fence.refusal(access.cwd):
            return f"working folder: {refusal}"
        if any(pattern.matches(access.argv, access.argv_paths, self.fence) for pattern in self.patterns):
            return None
        return f"no pattern of exec.allow covers {list(access.argv)!r}"

    def _host_refusal(self, host: str) -> str | None:
        if not any(host == domain or host.endswith("." + domain) for domain in self.domains):
            return f"{host or 'an empty host'} is not in allow_domains"
        if not self.loopback and _is_loopback(host):
            return f"{host} is this machine and allow_loopback is false"
        return None


def parse(text: str, home: str) -> Rules:
    """The rules in the text of a policy.yaml. Raises PolicyInvalid."""
    return _build(parse_text(text), home)


def from_document(document: Any, home: str) -> Rules:
    """The rules from `Rules.document`, as stored with a version. Raises PolicyInvalid."""
    return _build(check(document), home)


def deny_all(home: str) -> Rules:
    """The rules that allow nothing, in force where no policy can be read."""
    return from_document({}, home)


def _build(document: Mapping[str, Any], home: str) -> Rules:
    tools = document["tools"]
    denied = {*tools["deny"], *(name for layer in tools["by_provider"].values() for name in layer["deny"])}
    return Rules(
        version=digest(document),
        capabilities=frozenset(document["allow_capabilities"]),
        domains=tuple(document["allow_domains"]),
        loopback=document["allow_loopback"],
        fence=Fence.of(document["allow_paths"], home),
        patterns=tuple(parse_pattern(entry, "exec.allow") for entry in document["exec"]["allow"]),
        # A call does not say which provider asked for it, so a tool denied to one provider is denied to all.
        tools=ToolFilter(tools["profile"], tuple(tools["allow"]), tuple(sorted(denied))),
        asked=frozenset(document["approvals"]),
        skills={name: frozenset(grant["capabilities"]) for name, grant in document["skills"].items()},
        denies_on_invalid=document["on_invalid"] == "deny",
        document=document,
    )


def _any(patterns: tuple[str, ...], name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
