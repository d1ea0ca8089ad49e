"""Every setting: its name, type, default, environment variable and meaning, in one place.

The loader, `goclaw config`, the starter file and docs/configuration.md are all made from these classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from goclaw.config.kinds import (
    NAME,
    NAME_SAYS,
    choice,
    integer,
    key,
    keys_of,
    list_of,
    map_of,
    prose,
    seconds,
    section,
    text,
)
from goclaw.config.retention import RetentionSettings
from goclaw.config.schedule import ScheduleEntry, verify_schedule
from goclaw.core.agent import DEFAULT_AGENT, Agent
from goclaw.core.canonical import digest
from goclaw.core.intake import KEY_CHARS, SERVED_KINDS

OFFLINE = "offline"
"""The provider that is always there: it has no model and says so."""
HIDDEN = "********"
SOUL_CHARS = 100_000
NAMES = 10_000
MOST = 1_000_000
_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderEntry:
    """A model provider as configured. Equal entries reach the same endpoint in the same way."""

    kind: str = field(metadata=key(choice("anthropic", "openai", OFFLINE), "The protocol it speaks.", required=True))
    base_url: str | None = field(
        default=None,
        metadata=key(
            text("an http:// or https:// address without user and password", r"https?://[^/@?#\s]+[^@?#\s]*"),
            "Its address; empty is the vendor's own.",
        ),
    )
    api_key: str | None = field(
        default=None,
        repr=False,
        metadata=key(
            text("a key, or ${VAR}"),
            "The key sent to it; `${VAR}` is taken from the environment.",
            secret=True,
        ),
    )
    model: str | None = field(default=None, metadata=key(text("model name", limit=200), "The model it is asked for."))
    max_tokens: int | None = field(
        default=None,
        metadata=key(integer(1, 10_000_000), "The longest answer asked for; empty leaves it to the provider."),
    )
    timeout_seconds: float = field(default=600.0, metadata=key(seconds(1, 86_400), "Time limit of one whole call."))


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentEntry:
    """A named agent as configured; what is None comes from the top-level settings."""

    display_name: str | None = field(
        default=None,
        metadata=key(text("a name", limit=100), "The name shown to people.", shown_default="its id"),
    )
    soul: str | None = field(
        default=None,
        metadata=key(
            prose("text, or the name of a .md file", SOUL_CHARS),
            "Who it is: the text itself, or the name of a `.md` file inside GOCLAW_HOME.",
            shown_default="SOUL.md",
        ),
    )
    providers: tuple[str, ...] = field(
        default=(),
        metadata=key(
            list_of(text("provider name", NAME), 20),
            "Providers tried in this order.",
            shown_default="provider_chain",
        ),
    )
    model: str | None = field(
        default=None,
        metadata=key(text("model name", limit=200), "The model it asks for.", shown_default="model"),
    )
    tools: tuple[str, ...] = field(
        default=(),
        metadata=key(
            list_of(text("tool name", r"[A-Za-z0-9_.:*-]{1,128}"), 500),
            "The tools its model is shown; the policy still decides about each call.",
            shown_default="all that the policy allows",
        ),
    )
    worker_count: int | None = field(
        default=None,
        metadata=key(integer(1, 1024), "How many of its tasks run at once.", shown_default="worker_count"),
    )
    max_queue_depth: int | None = field(
        default=None,
        metadata=key(integer(1, 100_000_000), "How many of its tasks may be queued.", shown_default="max_queue_depth"),
    )
    starts_per_minute: Mapping[str, int] = field(
        default_factory=dict,
        metadata=key(
            map_of("kind", choice(*sorted(SERVED_KINDS)), integer(1, MOST), len(SERVED_KINDS)),
            "How many of its tasks of a kind may start in a minute; a kind named here goes before the same one at the "
            "top level.",
            shown_default="starts_per_minute",
        ),
    )
    max_rounds: int = field(default=50, metadata=key(integer(1, 1000), "Model calls in one turn before it is ended."))
    max_tokens: int | None = field(
        default=None, metadata=key(integer(1, 10_000_000), "The longest answer it asks for.")
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings in force, checked. The fields without a key below are what they were resolved to, never a
    key.
    """

    bind_addr: str = field(
        default="127.0.0.1:18789",
        metadata=key(
            text("HOST:PORT", rf"{_HOST}:[0-9]{{1,5}}"),
            "Where the gateway listens; port 0 takes any free one. An address that other machines can reach "
            "is taken from `goclaw serve --bind` only.",
            environment="GOCLAW_BIND_ADDR",
            live=False,
        ),
    )
    log_level: str = field(
        default="info",
        metadata=key(
            choice("debug", "info", "warning", "error"),
            "The least important lines that are logged.",
            environment="GOCLAW_LOG_LEVEL",
        ),
    )
    worker_count: int = field(
        default=16,
        metadata=key(
            integer(1, 1024),
            "How many tasks of an agent run at once.",
            environment="GOCLAW_WORKER_COUNT",
            live=False,
        ),
    )
    task_timeout_seconds: float = field(
        default=600.0,
        metadata=key(
            seconds(0.1, 604_800),
            "Time limit of one attempt, where the task sets none.",
            environment="GOCLAW_TASK_TIMEOUT_SECONDS",
            live=False,
        ),
    )
    drain_timeout_seconds: float = field(
        default=5.0,
        metadata=key(
            seconds(0, 3600),
            "How long running work may go on after the signal to stop.",
            environment="GOCLAW_DRAIN_TIMEOUT_SECONDS",
            live=False,
        ),
    )
    max_queue_depth: int = field(
        default=1_000_000,
        metadata=key(integer(1, 100_000_000), "How many tasks of an agent may be queued.", live=False),
    )
    concurrency: Mapping[str, int] = field(
        default_factory=dict,
        metadata=key(
            map_of("name", text("a name", limit=KEY_CHARS), integer(1, MOST), NAMES),
            "How many tasks with this concurrency_key run at once; 1 where a name is not listed.",
        ),
    )
    starts_per_minute: Mapping[str, int] = field(
        default_factory=dict,
        metadata=key(
            map_of("kind", choice(*sorted(SERVED_KINDS)), integer(1, MOST), len(SERVED_KINDS)),
            "How many tasks of a kind each agent may start in a minute, retries included; a kind that is not listed "
            "is not limited.",
        ),
    )
    low_disk_mb: int = field(
        default=512,
        metadata=key(integer(0, 100_000_000), "Free space on the disk of the home, in MiB, below which goclaw warns."),
    )
    crash_loop_delay_seconds: float = field(
        default=10.0,
        metadata=key(
            seconds(0, 300),
            "How long schedules, and tasks that were running at an unclean stop, wait after the third unclean stop "
            "within ten minutes; doubled with each further one, at most five minutes. 0 is not at all.",
            live=False,
        ),
    )
    allowed_origins: tuple[str, ...] = field(
        default=(),
        metadata=key(
            list_of(
                text("origin such as https://host:port", rf"[a-z][a-z0-9+.-]*://{_HOST}(?::[0-9]{{1,5}})?"),
                100,
            ),
            "Web origins that may connect besides the gateway's own.",
        ),
    )
    allowed_hosts: tuple[str, ...] = field(
        default=(),
        metadata=key(
            list_of(text("host name", rf"{_HOST}(?::[0-9]{{1,5}})?"), 100),
            "Names in the Host header that are served besides loopback ones.",
        ),
    )
    providers: Mapping[str, ProviderEntry] = field(
        default_factory=dict,
        metadata=key(
            map_of("name", text(NAME_SAYS, NAME), section(ProviderEntry), 50),
            "The model providers. Without any, the first key found in the environment decides.",
        ),
    )
    provider_chain: tuple[str, ...] = field(
        default=(),
        metadata=key(
            list_of(text("provider name", NAME), 20),
            "Providers tried in this order.",
            shown_default="all in their order",
        ),
    )
    model: str | None = field(
        default=None,
        metadata=key(
            text("model name", limit=200),
            "The model for agents that name none.",
            shown_default="each provider's own",
        ),
    )
    agent_entries: Mapping[str, AgentEntry] = field(
        default_factory=dict,
        metadata={
            **key(
                map_of("id", text(NAME_SAYS, NAME), section(AgentEntry), 200),
                "The agents. `default` always exists.",
            ),
            "name": "agents",
        },
    )
    schedules: tuple[ScheduleEntry, ...] = field(
        default=(),
        metadata=key(list_of(section(ScheduleEntry, verify_schedule), 1000), "Work that comes back."),
    )
    retention: RetentionSettings = field(
        default=RetentionSettings(),
        metadata=key(section(RetentionSettings), "How long what is kept.", shown_default="the keys below"),
    )
    souls: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The soul of every agent by id, read from its file where a file is named."""
    conventions: str = field(default="", repr=False)
    """AGENTS.md without its comments; empty when there is none."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Where each top-level key comes from: flag, environment, config.yaml or default."""
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """Values that no log, event or answer may show."""

    @property
    def task_timeout_ms(self) -> int:
        """Time limit of one attempt, in milliseconds."""
        return round(self.task_timeout_seconds * 1000)

    @property
    def drain_timeout_ms(self) -> int:
        """Time for running work after the signal to stop, in milliseconds."""
        return round(self.drain_timeout_seconds * 1000)

    @property
    def low_disk_bytes(self) -> int:
        """The mark below which free space is low, in bytes."""
        return self.low_disk_mb * 1024 * 1024

    @property
    def crash_loop_delay_ms(self) -> int:
        """The first wait of a crash loop, in milliseconds."""
        return round(self.crash_loop_delay_seconds * 1000)

    @property
    def address(self) -> tuple[str, int]:
        """Host (without brackets) and port of `bind_addr`."""
        host, _, port = self.bind_addr.rpartition(":")
        return host.strip("[]"), int(port)

    def chain(self) -> tuple[str, ...]:
        """The providers an agent tries unless it names its own; never empty."""
        return self.provider_chain or tuple(self.providers) or (OFFLINE,)

    def agents(self) -> Mapping[str, Agent]:
        """Every agent by id, the default one first, with all defaults filled in."""
        entries = {DEFAULT_AGENT: AgentEntry(), **self.agent_entries}
        return {name: self._agent(name, entry) for name, entry in entries.items()}

    def _agent(self, name: str, entry: AgentEntry) -> Agent:
        return Agent(
            id=name,
            display_name=entry.display_name or ("goclaw" if name == DEFAULT_AGENT else name),
            soul=self.souls.get(name, ""),
            providers=entry.providers or self.chain(),
            model=entry.model or self.model,
            tools=entry.tools,
            worker_count=entry.worker_count or self.worker_count,
            max_queue_depth=entry.max_queue_depth or self.max_queue_depth,
            max_rounds=entry.max_rounds,
            max_tokens=entry.max_tokens,
            starts_per_minute={**self.starts_per_minute, **entry.starts_per_minute},
        )

    def redacted(self) -> dict[str, Any]:
        """Every setting as JSON by its name in the file; keys of providers read as `********`."""
        shown: dict[str, Any] = _plain(self)
        return shown

    @property
    def config_hash(self) -> str:
        """SHA-256 over every setting but the secrets, souls and conventions included."""
        return digest({**self.redacted(), "souls": dict(self.souls), "conventions": self.conventions})


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        shown: dict[str, Any] = {}
        for name, (one, about) in keys_of(type(value)).items():
            part = getattr(value, one.name)
            shown[name] = HIDDEN if about.secret and part is not None else _plain(part)
        return shown
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value
