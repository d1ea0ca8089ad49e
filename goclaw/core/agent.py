"""A named agent, as configured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

DEFAULT_AGENT = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """Who answers, with which model and tools. `providers` is tried in order; empty means the house default chain.

    `tools` names the tools the model is shown (empty: all that the policy allows). `worker_count` bounds how many of
    the agent's tasks run at once; `max_queue_depth` how many may be QUEUED.
    """

    id: str
    display_name: str
    soul: str
    providers: tuple[str, ...] = ()
    model: str | None = None
    tools: tuple[str, ...] = ()
    worker_count: int = 16
    max_queue_depth: int = 1_000_000
    max_rounds: int = 50
    max_tokens: int | None = None
    starts_per_minute: Mapping[str, int] = field(default_factory=dict)
    """How many attempts of a kind may start in a minute; a kind that is not named is not limited."""
