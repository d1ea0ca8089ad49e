"""policy.yaml as text -> plain checked data, every default filled in."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from typing import Any

import yaml

from goclaw.core.access import ALIASES, CAPABILITIES
from goclaw.errors import PolicyInvalid
from goclaw.policy.argv import parse_pattern

MAX_BYTES = 256 * 1024
_READING = ("read_file", "list_directory", "glob", "grep", "read_artifact")
PROFILES: Mapping[str, tuple[str, ...]] = {
    "minimal": _READING,
    "coding": (*_READING, "write_file", "edit_file", "apply_patch", "exec", "shell"),
    "messaging": ("read_artifact", "send_message", "alert", "memory_*", "cron"),
    "full": ("*",),
}
KEYS = (
    "allow_capabilities",
    "allow_domains",
    "allow_paths",
    "allow_loopback",
    "exec",
    "tools",
    "approvals",
    "mcp",
    "skills",
    "limits",
    "on_invalid",
)
_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def parse_text(text: str) -> dict[str, Any]:
    """The checked document. Raises PolicyInvalid with one sentence that names the place and the nearest known
    name; a file with one mistake is refused as a whole."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise PolicyInvalid(f"policy.yaml is larger than {MAX_BYTES} bytes")
    try:
        document = yaml.load(text, Loader=_Loader)  # noqa: S506  (a SafeLoader that refuses more)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise PolicyInvalid(f"policy.yaml is not valid YAML: {_one_line(error)}") from None
    if document is None:
        raise PolicyInvalid("policy.yaml is empty; write {} to deny everything")
    return check(document)


def check(document: Any) -> dict[str, Any]:
    """The document with every default, in one form: equal rules give equal data."""
    top = _mapping(document, "policy.yaml", KEYS)
    tools = _mapping(top.get("tools", {}), "tools", ("profile", "allow", "deny", "by_provider"))
    execs = _mapping(top.get("exec", {}), "exec", ("allow",))
    entries = _list(execs.get("allow", []), "exec.allow")
    patterns = [parse_pattern(entry, f"exec.allow[{i}]") for i, entry in enumerate(entries)]
    mcp = _mapping(top.get("mcp", {}), "mcp", ("rules",))
    _mapping(top.get("limits", {}), "limits", ())
    _rules_of_nothing(mcp.get("rules", []), "mcp.rules")
    return {
        "allow_capabilities": _capabilities(top.get("allow_capabilities", []), "allow_capabilities"),
        "allow_domains": _domains(top.get("allow_domains", [])),
        "allow_paths": _paths(top.get("allow_paths", [])),
        "allow_loopback": _boolean(top.get("allow_loopback", False), "allow_loopback"),
        "exec": {"allow": [pattern.as_json() for pattern in patterns]},
        "tools": {
            "profile": _choice(tools.get("profile", "full"), "tools.profile", PROFILES),
            "allow": _texts(tools.get("allow", []), "tools.allow"),
            "deny": _texts(tools.get("deny", []), "tools.deny"),
            "by_provider": _by_provider(tools.get("by_provider", {})),
        },
        "approvals": _approvals(top.get("approvals", {})),
        "mcp": {"rules": []},
        "skills": _skills(top.get("skills", {})),
        "limits": {},
        "on_invalid": _choice(top.get("on_invalid", "keep"), "on_invalid", ("keep", "deny")),
    }


class _Loader(yaml.SafeLoader):
    """YAML without the parts that surprise: a key given twice, and aliases (a few lines can grow to
    gigabytes)."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not accepted")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.YAMLError(f"a key in line {key.start_mark.line + 1} is not a plain word")
            if key.value in seen:
                line = key.start_mark.line + 1
                raise yaml.YAMLError(f"the key {key.value!r} is given twice, again in line {line}")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _one_line(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    return " ".join(str(error).split())


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _nearest(word: Any, known: Collection[str]) -> str:
    near = difflib.get_close_matches(str(word)[:80], list(known), n=1, cutoff=0.0)
    return f"; the nearest known one is {near[0]!r}" if near else ""


def _mapping(value: Any, where: str, known: Collection[str] | None) -> dict[str, Any]:
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise PolicyInvalid(f"{where} must be a mapping, not {_shown(value)}")
    for key in value:
        if not isinstance(key, str) or (known is not None and key not in known):
            raise PolicyInvalid(f"{where}: unknown key {_shown(key)}{_nearest(key, known or ())}")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise PolicyInvalid(f"{where} must be a list, not {_shown(value)}")
    return value


def _texts(value: Any, where: str) -> list[str]:
    texts = _list(value, where)
    for text in texts:
        if not isinstance(text, str) or not text or "\0" in text:
            raise PolicyInvalid(f"{where}: {_shown(text)} is not a text; put it in quotes")
    return sorted(set(texts))


def _boolean(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise PolicyInvalid(f"{where} must be true or false, not {_shown(value)}")
    return value


def _choice(value: Any, where: str, known: Collection[str]) -> str:
    if not isinstance(value, str) or value not in known:
        raise PolicyInvalid(f"{where} must be one of {', '.join(known)}, not {_shown(value)}{_nearest(value, known)}")
    return value


def _capability(name: str, where: str) -> str:
    name = ALIASES.get(name, name)
    if name not in CAPABILITIES:
        raise PolicyInvalid(f"{where}: unknown capability {_shown(name)}{_nearest(name, CAPABILITIES)}")
    return name


def _capabilities(value: Any, where: str) -> list[str]:
    return sorted({_capability(name, where) for name in _texts(value, where)})


def _paths(value: Any) -> list[str]:
    paths = _texts(value, "allow_paths")
    for path in paths:
        if path[0] == "~" and path[1:2] not in {"", "/"}:
            raise PolicyInvalid(f"allow_paths: {_shown(path)}: only ~ and ~/... are expanded")
        if any(char in path for char in "*?"):
            raise PolicyInvalid(
                f"allow_paths: {_shown(path)}: an entry is a file or folder, wildcards are not expanded"
            )
    return paths


def _domains(value: Any) -> list[str]:
    domains = [domain.lower() for domain in _texts(value, "allow_domains")]
    for domain in domains:
        if not _HOST.fullmatch(domain):
            raise PolicyInvalid(
                f"allow_domains: {_shown(domain)} is no host name; example.com covers its subdomains too"
            )
    return sorted(set(domains))


def _by_provider(value: Any) -> dict[str, Any]:
    layers = _mapping(value, "tools.by_provider", None)
    checked = {}
    for name, layer in layers.items():
        where = f"tools.by_provider.{name}"
        checked[name] = {"deny": _texts(_mapping(layer, where, ("deny",)).get("deny", []), f"{where}.deny")}
    return checked


def _approvals(value: Any) -> dict[str, str]:
    asked = _mapping(value, "approvals", None)
    return {
        _capability(name, "approvals"): _choice(answer, f"approvals.{name}", ("ask",)) for name, answer in asked.items()
    }


def _skills(value: Any) -> dict[str, Any]:
    skills = _mapping(value, "skills", None)
    checked = {}
    for name, grant in skills.items():
        where = f"skills.{name}"
        if not _NAME.fullmatch(name):
            raise PolicyInvalid(f"{where}: a skill's name is of letters, digits, dots, dashes and underscores")
        fields = _mapping(grant, where, ("capabilities",))
        checked[name] = {"capabilities": _capabilities(fields.get("capabilities", []), f"{where}.capabilities")}
    return checked


def _rules_of_nothing(value: Any, where: str) -> None:
    if _list(value, where):
        raise PolicyInvalid(f"{where}: this goclaw has no MCP servers that a rule could be about; leave it empty")
