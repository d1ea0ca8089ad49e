"""The daemon's own numbers: status, readiness and what metrics are made of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from goclaw.core.agent import Agent
from goclaw.core.ports import Clock
from goclaw.db.database import Database
from goclaw.gateway.house import Identity
from goclaw.store.overview import overview, sqlite_version
from goclaw.telemetry import Family, Metrics, Sample

LAG_LIMIT_MS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """Where the numbers come from."""

    identity: Identity
    clock: Clock
    database: Database
    agents: Callable[[], Mapping[str, Agent]]
    running: Callable[[], int]
    providers: Callable[[], tuple[str, ...]]
    policy_version: Callable[[], str]
    config_hash: Callable[[], str]
    last_error: Callable[[], str | None]
    skills: Callable[[], Mapping[str, Any]]
    ready: Callable[[], bool]
    metrics: Metrics

    async def status(self) -> dict[str, Any]:
        """What `system.status` answers."""
        now = await self.database.read(overview)
        agents = self.agents()
        shown: dict[str, Any] = {
            "healthy": self.ready(),
            "boot_id": self.identity.boot_id,
            "version": self.identity.version,
            "uptime_ms": self.clock.monotonic() - self.identity.started_monotonic,
            "queue_depth": sum(now.queued.values()),
            "running_tasks": now.running,
            "retry_wait": now.retry_wait,
            "dead_letters": now.dead_letters,
            "active_lanes": self.running(),
            "worker_count": sum(agent.worker_count for agent in agents.values()),
            "paused": [{"scope": scope, "name": name} for scope, name in now.pauses],
            "agents": [_agent(agent, now.queued) for agent in agents.values()],
            "providers": [{"name": name} for name in self.providers()],
            "policy_version": self.policy_version(),
            "config_hash": self.config_hash(),
            "skills": self.skills(),
            "db": {"path": str(self.database.path), "latest_event_id": now.head, "sqlite": sqlite_version()},
        }
        error = self.last_error()
        return shown if error is None else shown | {"last_error": error}

    async def readiness(self) -> dict[str, Any]:
        """What `/readyz` answers: every check with its own word."""
        before = self.clock.monotonic()
        await asyncio.sleep(0)
        lag = self.clock.monotonic() - before
        checks: dict[str, Any] = {
            "db": {"ok": await self._alive()},
            "recovery": {"ok": True},
            "policy": {"ok": True, "version": self.policy_version()},
            "skills": {"ok": True, **self.skills()},
            "providers": {"ok": True, "names": list(self.providers())},
            "loop": {"ok": lag < LAG_LIMIT_MS, "lag_ms": lag},
            "intake": {"ok": self.ready()},
        }
        return {"ready": all(check["ok"] for check in checks.values()), "checks": checks}

    async def metrics_text(self) -> str:
        """The Prometheus text (format 0.0.4)."""
        return self.metrics.render(await self._families())

    async def metrics_json(self) -> dict[str, Any]:
        """The same numbers as JSON."""
        return self.metrics.as_json(await self._families())

    async def _families(self) -> list[Family]:
        now = await self.database.read(overview)
        queued = tuple(Sample((agent,), count) for agent, count in now.queued.items())
        return [
            _gauge("tasks_queued", "Tasks that are QUEUED, by agent.", queued, ("agent",)),
            _gauge("tasks_running", "Tasks that somebody holds.", (Sample((), now.running),)),
            _gauge("tasks_retry_wait", "Tasks in RETRY_WAIT.", (Sample((), now.retry_wait),)),
            _gauge("tasks_dead_letter", "Tasks in DEAD_LETTER.", (Sample((), now.dead_letters),)),
            _gauge("workers", "Workers that may run at once.", (Sample((), self._workers()),)),
            _gauge("event_log_head", "The id of the newest event.", (Sample((), now.head),)),
            Family(
                name="goclaw_commits_total",
                type="counter",
                help="Durable commits since the start.",
                samples=(Sample((), self.database.commits),),
            ),
        ]

    def _workers(self) -> int:
        return sum(agent.worker_count for agent in self.agents().values())

    async def _alive(self) -> bool:
        return (await self.database.read(overview)).head >= 0


def _gauge(name: str, meaning: str, samples: tuple[Sample, ...], labels: tuple[str, ...] = ()) -> Family:
    return Family(name=f"goclaw_{name}", type="gauge", help=meaning, label_names=labels, samples=samples)


def _agent(agent: Agent, depths: Mapping[str, int]) -> dict[str, Any]:
    return {
        "agent_id": agent.id,
        "display_name": agent.display_name,
        "model": agent.model,
        "worker_count": agent.worker_count,
        "queue_depth": depths.get(agent.id, 0),
    }
