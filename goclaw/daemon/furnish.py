"""The organs, joined: hands, brain, queue, workers, schedules, and what the gateway sees of them."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import cast

from goclaw.brain.models import Models
from goclaw.brain.prompt import system_text
from goclaw.brain.providers import ProviderSettings
from goclaw.brain.providers.settings import ProviderKind
from goclaw.brain.single import call_handler
from goclaw.brain.turn import TurnParts, chat_handler
from goclaw.bus import Bus
from goclaw.config.home import (
    Home,
)
from goclaw.config.live import LiveConfig
from goclaw.config.settings import Settings
from goclaw.core.access import Access
from goclaw.core.agent import Agent
from goclaw.core.ports import Clock, Handler, Tool
from goclaw.core.starts import Starts
from goclaw.core.task import Task, TaskState
from goclaw.core.tool import CallContext
from goclaw.daemon.storage import Storage
from goclaw.db.database import Database
from goclaw.gateway.house import House, Identity
from goclaw.gateway.methods.backup import backup_methods
from goclaw.gateway.methods.cron import cron_methods
from goclaw.gateway.methods.data import data_methods
from goclaw.gateway.methods.incident import incident_methods
from goclaw.gateway.methods.policy import Look, policy_methods
from goclaw.gateway.methods.skill import skill_methods
from goclaw.gateway.status import Vitals
from goclaw.gateway.waiting import Waiters
from goclaw.kernel.keeper import Keeper
from goclaw.kernel.noop import noop_handler
from goclaw.kernel.pool import Pool
from goclaw.kernel.purging import Purging
from goclaw.kernel.queue import Queue
from goclaw.kernel.retention import Retention
from goclaw.kernel.scheduler import Scheduler
from goclaw.kernel.sweep import Sweep
from goclaw.log import Log, bound
from goclaw.log.blank import blank_lines
from goclaw.policy.engine import PolicyEngine
from goclaw.sandbox.process import ProcessSandbox
from goclaw.sandbox.wasm import WasmEngine
from goclaw.secrets.redact import Redactor
from goclaw.skills.catalog import Catalog
from goclaw.skills.stored import StoredSkillRegistry
from goclaw.store.ledger import Ledger
from goclaw.telemetry import Metrics
from goclaw.tools.artifacts import FolderArtifacts
from goclaw.tools.builtin import builtin_tools
from goclaw.tools.gate import Gate
from goclaw.tools.outputs import Outputs
from goclaw.tools.workspace import Workspace
from goclaw.wire.params import PolicyExplain

_TROUBLE = frozenset({TaskState.FAILED, TaskState.DEAD_LETTER, TaskState.RETRY_WAIT})


@dataclass(frozen=True, slots=True)
class Parts:
    """What serving and reloading need to reach."""

    config: LiveConfig
    models: Models
    catalog: Catalog
    queue: Queue
    pool: Pool
    scheduler: Scheduler
    ledger: Ledger
    retention: Retention


def provider_settings(settings: Settings) -> dict[str, ProviderSettings]:
    """The configured providers as the brain wants them."""
    return {
        name: ProviderSettings(
            name=name,
            kind=cast(ProviderKind, entry.kind),
            base_url=entry.base_url,
            api_key=entry.api_key,
            model=entry.model,
            max_tokens=entry.max_tokens,
            timeout_ms=round(entry.timeout_seconds * 1000),
        )
        for name, entry in settings.providers.items()
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What the organs stand on."""

    home: Home
    clock: Clock
    config: LiveConfig
    database: Database
    bus: Bus
    identity: Identity
    ledger: Ledger
    engine: PolicyEngine
    redactor: Redactor
    log: Log
    metrics: Metrics
    last_error: Callable[[], str | None]
    ready: Callable[[], bool]
    report: Callable[[str, BaseException], None]
    storage: Storage
    starts: Callable[[], Starts]
    integrity: Callable[[], str]

    def agents(self) -> Mapping[str, Agent]:
        """The configured agents, as of now."""
        return self.config.agents()


async def furnish(stack: AsyncExitStack, ground: Ground) -> tuple[House, Parts]:
    """Build the organs; what must be closed is entered into `stack`."""
    models = Models(provider_settings(ground.config.current), ground.clock, ground.ledger.emit)
    stack.push_async_callback(models.aclose)
    catalog, gate, look = await _build_gate(stack, ground)
    queue = Queue(
        ground.database,
        ground.clock,
        boot_id=ground.identity.boot_id,
        agents=ground.agents,
        policy_version=lambda: ground.engine.version,
        jitter=random.random,
    )
    pool = Pool(
        queue,
        ground.database,
        ground.clock,
        agents=lambda: ground.storage.lanes(ground.agents()),
        handlers=_handlers(ground, gate, models),
        show=ground.bus.show,
        timeout_ms=lambda: ground.config.current.task_timeout_ms,
        report=lambda task, error: ground.report(f"task {task.id} ({task.kind})", error),
    )
    queue.observe(_settled(ground))
    await queue.set_limits(ground.config.current.concurrency)
    scheduler = Scheduler(ground.database, queue, ground.clock, agents=ground.agents)
    retention, purging = _keeping(ground)
    keeper = _keeper(ground)
    await keeper.begin()
    house = House(
        identity=ground.identity,
        clock=ground.clock,
        database=ground.database,
        bus=ground.bus,
        waiters=Waiters(ground.bus, ground.database),
        tasks=queue,
        cancel=pool.cancel,
        authorize=ground.storage.door(ground.engine.authorize),
        agents=ground.agents,
        tool_specs=gate.specs,
        provider_for=models.provider_for,
        vitals=_vitals(ground, pool, models, catalog),
        report=ground.report,
        extra_methods=(
            *cron_methods(scheduler),
            *skill_methods(catalog),
            *policy_methods(ground.engine, look),
            *data_methods(purging),
            *backup_methods(keeper),
            *incident_methods(ground.home.incidents, ground.home.logs, ground.redactor.json),
        ),
    )
    return house, Parts(ground.config, models, catalog, queue, pool, scheduler, ground.ledger, retention)


def _keeping(ground: Ground) -> tuple[Retention, Purging]:
    """What takes away what is too old, and what is to be forgotten."""
    went = ground.metrics.counter("goclaw_retention_removed_total", "Rows removed because they were old.", "table")
    sweep = Sweep(ground.database, FolderArtifacts(ground.home.artifacts))
    retention = Retention(
        ground.database,
        ground.clock,
        lambda: ground.config.current.retention,
        sweep,
        ground.ledger.emit,
        lambda table, rows: went.add(table, by=rows),
    )
    purging = Purging(
        ground.database,
        ground.clock,
        sweep,
        forget=ground.bus.forget,
        blank=lambda ids: blank_lines(ground.home.logs, ids),
        copies=ground.home.copies,
    )
    return retention, purging


def _keeper(ground: Ground) -> Keeper:
    """Who makes backups and verifies."""
    made = ground.metrics.counter("goclaw_backups_total", "Backups, by how they ended: made or failed.", "outcome")
    log_id = ground.identity.log_id
    return Keeper(ground.home, ground.database, ground.clock, log_id, ground.ledger.emit, made.add)


def _settled(ground: Ground) -> Callable[[Task], None]:
    """Count every move of a task and log those that somebody may have to look at, with all its ids."""
    moved = ground.metrics.counter("goclaw_tasks_moved_total", "Tasks by the state they came to.", "state")

    def settled(task: Task) -> None:
        moved.add(task.state)
        write = ground.log.warning if task.state in _TROUBLE else ground.log.debug
        with bound(trace_id=task.trace_id, task_id=task.id, session_id=task.session_id):
            write("task moved", state=task.state, kind=task.kind, attempt=task.attempt, error_code=task.error_code)

    return settled


def _vitals(ground: Ground, pool: Pool, models: Models, catalog: Catalog) -> Vitals:
    return Vitals(
        identity=ground.identity,
        clock=ground.clock,
        database=ground.database,
        agents=ground.agents,
        running=lambda: pool.running,
        providers=lambda: models.names,
        policy_version=lambda: ground.engine.version,
        config_hash=lambda: ground.config.current.config_hash,
        last_error=ground.last_error,
        skills=lambda: {"count": len(catalog.list())},
        ready=ground.ready,
        metrics=ground.metrics,
        storage=lambda: ground.storage.now.as_json(),
        starts=lambda: ground.starts().as_json(),
        integrity=ground.integrity,
    )


def _workspace(home: Home) -> Workspace:
    return Workspace(os.path.realpath(home.root), os.path.realpath(home.workspace))


async def _build_gate(stack: AsyncExitStack, ground: Ground) -> tuple[Catalog, Gate, Look]:
    home = ground.home
    workspace = _workspace(home)
    sandbox = ProcessSandbox(home_mark=home.home_mark, workspace=workspace.folder, clock=ground.clock)
    artifacts = FolderArtifacts(home.artifacts)
    outputs = Outputs(artifacts, ground.redactor)
    builtin = builtin_tools(workspace, sandbox, artifacts, outputs)
    wasm = await stack.enter_async_context(WasmEngine(ground.clock))
    registry = StoredSkillRegistry(ground.database, ground.clock)
    catalog = Catalog([home.skills, home.installed], wasm, registry, ground.ledger.emit, frozenset(builtin))
    await catalog.scan()

    def tools() -> Mapping[str, Tool]:
        skills: dict[str, Tool] = {tool.spec.name: tool for tool in catalog.tools()}
        return builtin | skills

    def agent_tools(name: str) -> tuple[str, ...]:
        agent = ground.agents().get(name)
        return agent.tools if agent else ()

    gate = Gate(
        tools=tools,
        agent_tools=agent_tools,
        guard=ground.engine,
        outputs=outputs,
        log=lambda event, fields: ground.log.warning(event, **fields),
    )

    async def look(asked: PolicyExplain) -> Access:
        if asked.argv:
            context = CallContext(
                task_id="explain",
                session_id=None,
                agent_id=asked.subject.removeprefix("agent:"),
                attempt=1,
                effect_key="",
            )
            return (await builtin["exec"].accesses({"argv": asked.argv}, context))[0]
        paths = asked.capability in ("tools.read_file", "tools.write_file") and asked.resource
        resource = workspace.resolve(asked.resource) if paths else asked.resource
        return Access(asked.subject, asked.capability, resource)

    return catalog, gate, look


def _handlers(ground: Ground, gate: Gate, models: Models) -> Mapping[str, Handler]:
    def system(agent: Agent) -> str:
        return system_text(agent, ground.config.current.conventions, str(ground.home.workspace))

    parts = TurnParts(agents=ground.agents, provider_for=models.provider_for, toolbox=gate, system_text=system)
    call = call_handler(gate)
    return {
        "noop": noop_handler(ground.clock),
        "exec": call,
        "skill": call,
        "tool": call,
        "chat": chat_handler(parts),
    }
