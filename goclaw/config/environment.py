"""What the environment says: the process's own variables, and below them those of GOCLAW_HOME/.env."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from goclaw.config.settings import ProviderEntry

_LINE = re.compile(r"(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*(.*)")
_QUOTED = re.compile(r"""(?:"((?:[^"\\]|\\.)*)"|'([^']*)')[ \t]*(?:\#.*)?""")
_SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSPHRASE|CREDENTIALS?)$")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
MAX_VARIABLES = 1_000
OLLAMA = "ollama"


@dataclass(frozen=True, slots=True)
class Environment:
    """All variables, and what is wrong with .env. `secrets` are the values whose names say that they are
    secret.
    """

    variables: Mapping[str, str]
    problems: tuple[tuple[int, str], ...] = ()

    @property
    def secrets(self) -> tuple[str, ...]:
        """Values that must not be shown, by the names of their variables."""
        return tuple(value for name, value in self.variables.items() if value and _SECRET_NAME.search(name))


def read_environment(process: Mapping[str, str], dotenv: str) -> Environment:
    """Both sources together; the process wins. Values never appear in a problem: it names the line and the
    variable.

    .env may not set GOCLAW_* or *_BASE_URL: whoever can put a file beside the data could otherwise move the
    home, the token or the place that keys are sent to.
    """
    found: dict[str, str] = {}
    problems: list[tuple[int, str]] = []
    for number, line in enumerate(dotenv.lstrip("\ufeff").splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        parts = _LINE.fullmatch(stripped)
        if parts is None:
            problems.append((number, "is not of the form NAME=value"))
            continue
        name, value = parts.group(1), _value(parts.group(2))
        if value is None:
            problems.append((number, f"the value of {name} has an unfinished quote"))
        elif name.upper().startswith("GOCLAW_") or name.upper().endswith("_BASE_URL"):
            problems.append((number, f"may not set {name}; set it in the environment or in config.yaml"))
        else:
            found[name] = value
    if len(found) > MAX_VARIABLES:
        problems.append((0, f"sets more than {MAX_VARIABLES} variables"))
    return Environment(MappingProxyType({**found, **process}), tuple(problems))


def _value(raw: str) -> str | None:
    if raw[:1] not in ("'", '"'):
        return re.split(r"[ \t]#|^#", raw, maxsplit=1)[0].rstrip()
    parts = _QUOTED.fullmatch(raw)
    if parts is None:
        return None
    if parts.group(2) is not None:
        return parts.group(2)
    return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found.group(1), found.group(1)), parts.group(1))


@dataclass(frozen=True, slots=True)
class Family:
    """The variables that speak of one well-known endpoint, its address where the SDK does not know it, and the model it
    is asked for when nobody chose one."""

    name: str
    kind: str
    key: str
    url: str
    model: str
    default_url: str | None = None


FAMILIES = (
    Family("anthropic", "anthropic", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "claude-sonnet-5-5"),
    # The newest of OpenAI's that takes tools over chat completions without further ado.
    Family("openai", "openai", "OPENAI_API_KEY", "OPENAI_BASE_URL", "gpt-5.4-mini"),
    Family(
        "openrouter",
        "openai",
        "OPENROUTER_API_KEY",
        "OPENROUTER_BASE_URL",
        "openrouter/auto",
        "https://openrouter.ai/api/v1",
    ),
)
"""In the order in which a key decides when nothing is configured."""


def provider_from_environment(variables: Mapping[str, str]) -> Mapping[str, ProviderEntry]:
    """The provider when none is configured: the first key present, else the Ollama named by OLLAMA_HOST, else
    none.
    """
    for family in FAMILIES:
        if variables.get(family.key):
            url = variables.get(family.url) or family.default_url
            key = variables[family.key]
            return {family.name: ProviderEntry(kind=family.kind, api_key=key, base_url=url, model=family.model)}
    host = variables.get("OLLAMA_HOST")
    return {OLLAMA: ProviderEntry(kind="openai", base_url=ollama_url(host))} if host else {}


def complete_provider(name: str, entry: ProviderEntry, variables: Mapping[str, str]) -> ProviderEntry:
    """A configured provider with what the environment says of it.

    The environment wins for a provider that bears the name of its vendor. Another one takes key and address
    of its kind's vendor from there only when it names neither, so that a vendor's key is never sent to
    another address.
    """
    if name == OLLAMA and entry.kind == "openai":
        host = variables.get("OLLAMA_HOST")
        return replace(entry, base_url=ollama_url(host) if host else entry.base_url or ollama_url("127.0.0.1"))
    unnamed = not entry.base_url and not entry.api_key
    family = _family(name, entry.kind) or (_family(entry.kind, entry.kind) if unnamed else None)
    if family is None:
        return entry
    key = variables.get(family.key) or entry.api_key
    url = variables.get(family.url) or entry.base_url or family.default_url
    return replace(entry, api_key=key, base_url=url, model=entry.model or family.model)


def _family(name: str, kind: str) -> Family | None:
    return next((family for family in FAMILIES if (family.name, family.kind) == (name, kind)), None)


def ollama_url(host: str) -> str:
    """The address of Ollama's OpenAI-compatible interface, from what OLLAMA_HOST may hold: host, host:port or
    URL.
    """
    scheme, found, rest = host.rstrip("/").rpartition("://")
    rest = rest.replace("0.0.0.0", "127.0.0.1", 1)  # noqa: S104 - where a server listens; a client dials loopback
    port = "" if found or re.search(r":\d+$", rest) else ":11434"
    return f"{scheme or 'http'}://{rest}{port}/v1"


VARIABLES: tuple[tuple[str, str], ...] = (
    ("GOCLAW_HOME", "Where everything of this goclaw lives; `~/.goclaw` when it is not set."),
    ("GOCLAW_AUTH_TOKEN", "The bearer token, instead of the file auth.token; at least 32 characters."),
    ("GOCLAW_NO_TUI", "Set to anything: `goclaw` alone serves, even on a terminal."),
    ("ANTHROPIC_API_KEY", "Key of the provider `anthropic`."),
    ("ANTHROPIC_BASE_URL", "Address of the provider `anthropic`; never taken from .env."),
    ("OPENAI_API_KEY", "Key of the provider `openai`."),
    ("OPENAI_BASE_URL", "Address of the provider `openai`; never taken from .env."),
    ("OPENROUTER_API_KEY", "Key of the provider `openrouter`."),
    ("OPENROUTER_BASE_URL", "Address of the provider `openrouter`; never taken from .env."),
    ("OLLAMA_HOST", "Address of an Ollama; used when no key is there."),
)
"""The variables that are no setting of config.yaml, with their meaning."""
