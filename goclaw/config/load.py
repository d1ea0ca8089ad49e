"""From files, environment and flags to `Settings`, or to the list of everything that is wrong with them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from goclaw.config.document import MAX_BYTES, Document, plain_scalar, read_document
from goclaw.config.document import Path as KeyPath
from goclaw.config.environment import (
    Environment,
    complete_provider,
    provider_from_environment,
    read_environment,
)
from goclaw.config.home import Home
from goclaw.config.kinds import Place, Unfit, keys_of, nearest, section
from goclaw.config.settings import OFFLINE, SOUL_CHARS, ProviderEntry, Settings
from goclaw.core.agent import DEFAULT_AGENT
from goclaw.errors import ConfigInvalid

_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_FILE_NAME = re.compile(r"[^\n]{1,200}\.md")
_RESERVED_AGENTS = {"raw": "goclaw/raw is the model name for a plain provider call"}
MAX_SHOWN = 50


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `source` says where to mend it, `where` is the dotted key (empty: the whole
    source).
    """

    source: str
    where: str
    message: str

    def __str__(self) -> str:
        """One line for people."""
        return f"{self.source}: {self.where + ' ' if self.where else ''}{self.message}"


def load_settings(home: Home, environ: Mapping[str, str], flags: Mapping[str, str] = MappingProxyType({})) -> Settings:
    """The settings of a home: flag over environment over config.yaml over default.

    `flags` holds top-level settings by name as the command line gave them. A missing config.yaml is an empty
    one. Raises ConfigInvalid with every problem at once; no value of a secret is ever part of a message.
    """
    text, problems = _read(home.config, MAX_BYTES)
    settings, more = assemble(home, text, environ, flags)
    if settings is None or problems or more:
        raise refusal((*problems, *more))
    return settings


def check_settings(home: Home, environ: Mapping[str, str]) -> tuple[Problem, ...]:
    """Everything that is wrong with the settings of a home; empty when they would load."""
    text, problems = _read(home.config, MAX_BYTES)
    return (*problems, *assemble(home, text, environ, {})[1])


def refusal(problems: tuple[Problem, ...]) -> ConfigInvalid:
    """The error for `problems`: the first fifty in words, all of them as data."""
    shown = "; ".join(str(problem) for problem in problems[:MAX_SHOWN])
    rest = f"; and {len(problems) - MAX_SHOWN} more" if len(problems) > MAX_SHOWN else ""
    return ConfigInvalid(f"{shown}{rest}", problems=[str(problem) for problem in problems[: 10 * MAX_SHOWN]])


def assemble(
    home: Home, text: str, environ: Mapping[str, str], flags: Mapping[str, str]
) -> tuple[Settings | None, tuple[Problem, ...]]:
    """The settings that `text` as config.yaml would give, and what is wrong with it. None when it cannot be
    told.
    """
    dotenv, problems = _read(home.dotenv, MAX_BYTES)
    environment = read_environment(environ, dotenv)
    look = _Look(home, read_document(text), environment, flags, list(problems))
    for line, message in environment.problems:
        look.problems.append(Problem(f".env line {line}" if line else ".env", "", message))
    return look.settings(), tuple(look.problems)


@dataclass(slots=True)
class _Look:
    """One look at all sources; gathers problems as it goes."""

    home: Home
    document: Document
    environment: Environment
    flags: Mapping[str, str]
    problems: list[Problem]
    sources: dict[str, str] = field(default_factory=dict)

    def settings(self) -> Settings | None:
        """The settings as far as they can be told."""
        for flaw in self.document.flaws:
            self.report(flaw.path, flaw.message, flaw.line)
        raw = self._overlaid()
        if raw is None:
            return None
        try:
            parsed = section(Settings).read(raw, Place((), self.report, self.environment.variables))
        except Unfit as error:
            self.report((), str(error))
            return None
        resolved = self._resolved(parsed)
        self._check_address(resolved)
        self._check_providers(resolved)
        self._check_schedules(resolved)
        return resolved

    def report(self, path: KeyPath, message: str, line: int = 0) -> None:
        """Note a problem under the source that the top-level key came from."""
        dotted = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
        source = self.sources.get(str(path[0]), "config.yaml") if path else "config.yaml"
        if source == "config.yaml":
            line = line or self.document.line(path)
            source = f"config.yaml line {line}" if line else source
        self.problems.append(Problem(source, dotted, message))

    def _overlaid(self) -> dict[str, object] | None:
        """The top-level mapping with environment and flags laid over it, as raw values."""
        value = {} if self.document.value is None else self.document.value
        if not isinstance(value, dict):
            self.report((), "expected a mapping of settings, such as `log_level: info`")
            return None
        raw = dict(value)
        for name, (_, about) in keys_of(Settings).items():
            self.sources[name] = "config.yaml" if raw.get(name) is not None else "default"
            for source, word in (
                (about.environment, self.environment.variables.get(about.environment or "")),
                (f"flag {name}", self.flags.get(name)),
            ):
                if word:
                    raw[name] = word if about.kind.textual else plain_scalar(word)
                    self.sources[name] = source or ""
        return raw

    def _resolved(self, parsed: Settings) -> Settings:
        variables = self.environment.variables
        providers: Mapping[str, ProviderEntry]
        if parsed.providers:
            providers = {name: complete_provider(name, entry, variables) for name, entry in parsed.providers.items()}
        else:
            providers = provider_from_environment(variables)
        keys = [entry.api_key for entry in providers.values() if entry.api_key]
        return replace(
            parsed,
            providers=providers,
            souls=self._souls(parsed),
            conventions=self._page(self.home.conventions),
            sources={name: _kind_of_source(source) for name, source in self.sources.items()},
            secrets=tuple(dict.fromkeys((*keys, *self.environment.secrets))),
        )

    def _souls(self, parsed: Settings) -> Mapping[str, str]:
        default = self._page(self.home.soul)
        souls = {DEFAULT_AGENT: default}
        for name, entry in parsed.agent_entries.items():
            if name in _RESERVED_AGENTS:
                self.report(("agents", name), f"is not free: {_RESERVED_AGENTS[name]}")
            souls[name] = self._soul(name, entry.soul) if entry.soul is not None else default
        return souls

    def _soul(self, name: str, soul: str) -> str:
        if not _FILE_NAME.fullmatch(soul.strip()):
            return soul.strip()
        root = self.home.root.resolve()
        path = (root / soul.strip()).resolve()
        where: KeyPath = ("agents", name, "soul")
        if not path.is_relative_to(root):
            self.report(where, "names a file outside of GOCLAW_HOME")
        elif not path.is_file():
            self.report(where, f"names a file that is not there: {path}")
        else:
            return self._page(path)
        return ""

    def _page(self, path: Path) -> str:
        """A Markdown page without its comments; empty when there is none."""
        text, problems = _read(path, SOUL_CHARS)
        self.problems += problems
        return _COMMENT.sub("", text).strip()

    def _check_address(self, settings: Settings) -> None:
        host, port = settings.address
        if port > 65_535:
            self.report(("bind_addr",), f"has the port {port}; ports end at 65535")
        flagged = self.sources["bind_addr"].startswith("flag")
        if not flagged and not is_loopback(host):
            self.report(
                ("bind_addr",),
                f"names {host}, which other machines can reach; say so on the command line: serve --bind",
            )

    def _check_providers(self, settings: Settings) -> None:
        known = {*settings.providers, *self._named("providers"), OFFLINE}
        if OFFLINE in settings.providers and settings.providers[OFFLINE].kind != OFFLINE:
            self.report(("providers", OFFLINE), "is the name of the provider without a model; choose another")
        chains: list[tuple[KeyPath, tuple[str, ...]]] = [(("provider_chain",), settings.provider_chain)]
        chains += [(("agents", name, "providers"), one.providers) for name, one in settings.agent_entries.items()]
        for path, chain in chains:
            for at, name in enumerate(chain):
                if name not in known:
                    told = f"; known are {', '.join(sorted(known))}"
                    self.report((*path, at), f"names no provider: {name!r}{nearest(name, known) or told}")

    def _check_schedules(self, settings: Settings) -> None:
        agents = {*settings.agents(), *self._named("agents")}
        seen: set[str] = set()
        for entry in settings.schedules:
            path: KeyPath = ("schedules", self._position(entry.id))
            if entry.id in seen:
                self.report((*path, "id"), f"is used twice: {entry.id!r}")
            seen.add(entry.id)
            if entry.agent_id is not None and entry.agent_id not in agents:
                self.report(
                    (*path, "agent_id"),
                    f"names no agent: {entry.agent_id!r}{nearest(entry.agent_id, agents)}",
                )

    def _named(self, name: str) -> tuple[str, ...]:
        """The names that stand under a top-level key, those with problems of their own included."""
        value = self.document.value
        inside = value.get(name) if isinstance(value, dict) else None
        return tuple(inside) if isinstance(inside, dict) else ()

    def _position(self, schedule: str) -> int:
        """Where the last schedule of this id stands in the file."""
        value = self.document.value
        entries = value.get("schedules") if isinstance(value, dict) else None
        found = [at for at, one in enumerate(entries or ()) if isinstance(one, dict) and one.get("id") == schedule]
        return found[-1] if found else 0


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server on `host`. A name other than localhost counts as
    reachable.
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _kind_of_source(source: str) -> str:
    if source.startswith("GOCLAW_"):
        return "environment"
    return "flag" if source.startswith("flag") else source


def _read(path: Path, limit: int) -> tuple[str, tuple[Problem, ...]]:
    """The text of a file; a missing one is empty."""
    try:
        data = path.read_bytes()
        if len(data) > limit:
            return "", (Problem(path.name, "", f"is larger than {limit} bytes"),)
        return data.decode("utf-8-sig"), ()
    except FileNotFoundError:
        return "", ()
    except UnicodeDecodeError as error:
        return "", (Problem(path.name, "", f"is not UTF-8 text: byte {error.start} is not"),)
    except OSError as error:
        return "", (Problem(path.name, "", f"cannot be read: {error.strerror or error}"),)
