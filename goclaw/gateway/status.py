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
from goclaw.store.concurrency import Name
from goclaw.store.overview import Overview, overview, sqlite_version
from goclaw.store.rates import Rate
from goclaw.store.space import wal_bytes
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
    storage: Callable[[], Mapping[str, Any]]
    """The disk: {state, free_bytes, low_bytes, full_since?}."""
    starts: Callable[[], Mapping[str, Any]]
    """How the last starts went: {crash_loop, unclean_stops, window_ms, hold_ms, held_until}."""
    integrity: Callable[[], str]

    async def status(self) -> dict[str, Any]:
        """What `system.status` answers."""
        now = await self.database.read(overview)
        agents, storage = self.agents(), self.storage()
        shown: dict[str, Any] = {
            "healthy": self.ready() and storage["state"] != "full",
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
            "concurrency": [_name(one) for one in now.names],
            "rates": [_rate(one, self.clock.wall()) for one in now.rates],
            "agents": [_agent(agent, now.queued) for agent in agents.values()],
            "providers": [{"name": name} for name in self.providers()],
            "policy_version": self.policy_version(),
            "config_hash": self.config_hash(),
            "skills": self.skills(),
            "db": {
                "path": str(self.database.path),
                "latest_event_id": now.head,
                "sqlite": sqlite_version(),
                "integrity": self.integrity(),
                "file_bytes": now.space.file_bytes,
                "free_bytes": now.space.free_bytes,
                "wal_bytes": wal_bytes(self.database.path),
                "removed_upto": now.removed_upto,
                "unscrubbed_purges": now.unscrubbed,
            },
            "storage": storage,
            "starts": self.starts(),
        }
        error = self.last_error()
        return shown if error is None else shown | {"last_error": error}

    async def readiness(self) -> dict[str, Any]:
        """What `/readyz` answers: every check with its own word."""
        before = self.clock.monotonic()
        await asyncio.sleep(0)
        lag = self.clock.monotonic() - before
        storage = self.storage()
        checks: dict[str, Any] = {
            "db": {"ok": await self._alive()},
            "recovery": {"ok": True},
            "policy": {"ok": True, "version": self.policy_version()},
            "skills": {"ok": True, **self.skills()},
            "providers": {"ok": True, "names": list(self.providers())},
            "loop": {"ok": lag < LAG_LIMIT_MS, "lag_ms": lag},
            "intake": {"ok": self.ready()},
            "storage": {"ok": storage["state"] != "full", **storage},
        }
        reasons = [name for name, check in checks.items() if not check["ok"]]
        return {"ready": not reasons, "reasons": [_reason(name) for name in reasons], "checks": checks}

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
            _gauge("db_file_bytes", "Size of the database file.", (Sample((), now.space.file_bytes),)),
            _gauge("db_free_bytes", "Free space inside the database file.", (Sample((), now.space.free_bytes),)),
            _gauge("db_wal_bytes", "Size of the write-ahead log.", (Sample((), wal_bytes(self.database.path)),)),
            _gauge("unscrubbed_purges", "Purges whose bytes are not overwritten.", (Sample((), now.unscrubbed),)),
            *_limits(now, self.clock.wall()),
            *self._faults(),
            Family(
                name="goclaw_commits_total",
                type="counter",
                help="Durable commits since the start.",
                samples=(Sample((), self.database.commits),),
            ),
        ]

    def _faults(self) -> list[Family]:
        storage, starts = self.storage(), self.starts()
        found = [
            _gauge("storage_full", "1 while the disk is full.", (_flag(storage["state"] == "full"),)),
            _gauge("storage_low", "1 while free space is below its mark.", (_flag(storage["state"] != "ample"),)),
            _gauge("crash_loop", "1 while the daemon counts as dying again and again.", (_flag(starts["crash_loop"]),)),
            _gauge(
                "unclean_stops", "Unclean stops that count for a crash loop.", (Sample((), starts["unclean_stops"]),)
            ),
        ]
        if storage["free_bytes"] is not None:
            free = (Sample((), storage["free_bytes"]),)
            found.append(_gauge("storage_free_bytes", "Free space on the disk of the home.", free))
        return found

    def _workers(self) -> int:
        return sum(agent.worker_count for agent in self.agents().values())

    async def _alive(self) -> bool:
        return (await self.database.read(overview)).head >= 0


_REASONS = {
    "storage": "the disk is full: new work is refused until there is room; reading and cancelling go on",
    "intake": "the daemon is starting or stopping and takes no new work",
    "loop": "the event loop is more than a second late",
}


def _reason(check: str) -> str:
    return _REASONS.get(check, f"{check} is not in order")


def _limits(now: Overview, wall: int) -> list[Family]:
    """What limits the claim."""
    running = tuple(Sample((one.name,), one.running) for one in now.names)
    waiting = tuple(Sample((one.name,), one.waiting) for one in now.names)
    room = tuple(Sample((one.agent_id, one.kind), one.room(wall)) for one in now.rates)
    return [
        _gauge("concurrency_running", "Running tasks by concurrency_key.", running, ("name",)),
        _gauge("concurrency_waiting", "Tasks that wait for their concurrency_key.", waiting, ("name",)),
        _gauge("start_rate_room", "Starts that a rate allows now.", room, ("agent", "kind")),
        _gauge("pauses", "Pauses in force.", (Sample((), len(now.pauses)),)),
    ]


def _flag(value: Any) -> Sample:
    return Sample((), 1 if value else 0)


def _gauge(name: str, meaning: str, samples: tuple[Sample, ...], labels: tuple[str, ...] = ()) -> Family:
    return Family(name=f"goclaw_{name}", type="gauge", help=meaning, label_names=labels, samples=samples)


def _name(name: Name) -> dict[str, Any]:
    return {
        "name": name.name,
        "limit": name.limit,
        "running": name.running,
        "ready": name.ready,
        "waiting": name.waiting,
    }


def _rate(rate: Rate, now: int) -> dict[str, Any]:
    """A rate, and when it allows a start again if it is used up."""
    room = rate.room(now)
    shown = {"agent_id": rate.agent_id, "kind": rate.kind, "per_minute": rate.per_minute, "room": room}
    return shown if room else shown | {"opens_at": rate.opens_at(now)}


def _agent(agent: Agent, depths: Mapping[str, int]) -> dict[str, Any]:
    return {
        "agent_id": agent.id,
        "display_name": agent.display_name,
        "model": agent.model,
        "worker_count": agent.worker_count,
        "queue_depth": depths.get(agent.id, 0),
    }
