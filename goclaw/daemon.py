"""The composition root: builds every organ, starts them in order, stops them in reverse.

Read `Daemon.run` top to bottom: it is the start order of SPEC RUN. Each long-lived part is entered into one exit stack,
so leaving it is the stop order. Nothing here decides anything about work.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, fields
from ipaddress import ip_address
from pathlib import Path
from typing import Any, cast

from goclaw import __version__
from goclaw.brain.models import Models
from goclaw.brain.prompt import system_text
from goclaw.brain.providers import ProviderSettings
from goclaw.brain.providers.settings import ProviderKind
from goclaw.brain.single import call_handler
from goclaw.brain.turn import TurnParts, chat_handler
from goclaw.bus import Bus
from goclaw.clock import SystemClock, new_id
from goclaw.config.home import (
    GatewayInfo,
    Home,
    locate_home,
    lock_home,
    prepare_home,
    publish_gateway,
    withdraw_gateway,
)
from goclaw.config.live import LiveConfig, ReloadFailed
from goclaw.config.load import load_settings
from goclaw.config.settings import Settings
from goclaw.core.agent import Agent
from goclaw.core.ports import Handler, Tool
from goclaw.core.schedule import Draft
from goclaw.core.task import Task
from goclaw.db.database import Database
from goclaw.errors import GoclawError, StartupError, StoreCorrupt
from goclaw.gateway.app import Server, bind, build_app
from goclaw.gateway.auth import DoorRules
from goclaw.gateway.house import House, Identity
from goclaw.gateway.methods.cron import cron_methods
from goclaw.gateway.methods.policy import policy_methods
from goclaw.gateway.methods.skill import skill_methods
from goclaw.gateway.status import Vitals
from goclaw.gateway.waiting import Waiters
from goclaw.kernel import upkeep
from goclaw.kernel.noop import noop_handler
from goclaw.kernel.pool import Pool
from goclaw.kernel.queue import Queue
from goclaw.kernel.scheduler import Scheduler
from goclaw.log import Log, Logs, StartupPhases, get_logger, startup_failure
from goclaw.log.writer import AuditMirror
from goclaw.policy.engine import KEPT_VERSIONS, PolicyEngine
from goclaw.policy.live import LivePolicy, load, write_starter
from goclaw.policy.rules import Rules, from_document
from goclaw.sandbox.process import ProcessSandbox
from goclaw.sandbox.sweep import kill_marked
from goclaw.sandbox.wasm import WasmEngine
from goclaw.secrets.redact import Redactor
from goclaw.secrets.token import Token, ensure_token
from goclaw.skills.catalog import Catalog
from goclaw.skills.stored import StoredSkillRegistry
from goclaw.store import audit, events, meta
from goclaw.store.ledger import Ledger
from goclaw.telemetry import Metrics
from goclaw.tools.artifacts import FolderArtifacts
from goclaw.tools.builtin import builtin_tools
from goclaw.tools.gate import Gate
from goclaw.tools.outputs import Outputs
from goclaw.tools.workspace import Workspace
from goclaw.watch import watch


def serve(home: Path | None = None, bind_to: str | None = None, *, human: bool = False) -> int:
    """Run the daemon in the foreground until SIGTERM or SIGINT.

    The exit code: 0 after a clean stop, 1 when it could not start or lost its database.
    """
    where = locate_home(os.environ, str(home) if home else None)
    flags = {"bind_addr": bind_to} if bind_to else {}
    redactor = Redactor()
    with Logs(clock=SystemClock(), redact=redactor, stream=sys.stderr, human=human) as logs:
        try:
            return asyncio.run(Daemon(where, flags, redactor, logs).run())
        except StartupError as error:
            startup_failure(error)
            return 1


class Daemon:
    """One run of goclaw on one home."""

    def __init__(self, home: Home, flags: Mapping[str, str], redactor: Redactor, logs: Logs) -> None:
        self._home = home
        self._flags = flags
        self._redactor = redactor
        self._logs = logs
        self._clock = SystemClock()
        self._phases = StartupPhases()
        self._log = get_logger("daemon")
        self._stop = asyncio.Event()
        self._failure: GoclawError | None = None
        self._last_error: str | None = None
        self._ready = False

    async def run(self) -> int:
        """Start, serve, stop. Raises StartupError."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        async with AsyncExitStack() as stack:
            stack.enter_context(lock_home(self._home))
            first_run = prepare_home(self._home)
            self._logs.open_file(self._home.logs / "system.jsonl")
            self._phases.reached("home_locked", home=str(self._home.root))

            config = LiveConfig(self._load_settings(), self._load_settings, lambda _: ())
            self._logs.set_level(config.current.log_level)
            token = ensure_token(self._home.token, os.environ)
            self._redactor.add(token.value, *config.current.secrets)
            self._phases.reached("config_loaded", config_hash=config.current.config_hash)

            bus = Bus(lambda cursor, limit: database.read(events.read_after, cursor, limit))
            database = await stack.enter_async_context(
                Database(self._home.database, self._clock, bus.ring, self._database_failed)
            )
            identity = await self._open_log(stack, database)
            bus.start_at(await database.read(events.head))

            killed = await kill_marked(self._home.home_mark, self._clock)
            recovered = await database.write(upkeep.recover_all, identity.boot_id, self._clock.wall())
            self._phases.reached("recovery_scan_completed", killed=killed, recovered=len(recovered))

            ledger = self._open_ledger(stack, database)
            engine, live_policy = await self._load_policy(database, ledger, first_run)
            house, parts = await self._furnish(stack, (config, database, bus, identity), ledger, engine)
            await self._serve(stack, house, parts, live_policy, token)
        return 0 if self._failure is None else 1

    def _load_settings(self) -> Settings:
        return load_settings(self._home, os.environ, self._flags)

    async def _open_log(self, stack: AsyncExitStack, database: Database) -> Identity:
        """Whose log this is; after an unclean stop, whether the file is whole."""
        started = self._clock.wall()
        log_id, clean = await database.write(meta.open_log, new_id(self._clock))
        if not clean and (damage := await database.read(meta.quick_check)):
            raise StoreCorrupt(f"goclaw.db is damaged ({damage}); restore a backup into a fresh GOCLAW_HOME")
        stack.push_async_callback(self._close_log, database)
        self._phases.reached("schema_migrated", clean_stop=clean, log_id=log_id)
        return Identity(
            version=__version__,
            boot_id=new_id(self._clock),
            log_id=log_id,
            started_at=started,
            started_monotonic=self._clock.monotonic(),
        )

    async def _close_log(self, database: Database) -> None:
        if self._failure is None:
            await database.write(meta.close_log)

    def _open_ledger(self, stack: AsyncExitStack, database: Database) -> Ledger:
        mirror = AuditMirror(self._home.logs / "audit.jsonl")
        stack.callback(mirror.close)

        def lost(what: str, error: GoclawError) -> None:
            self._log.error("not recorded", what=what, error=error.message)

        return Ledger(database, self._clock, lambda row: mirror.append(self._redactor.json(row)), lost)

    async def _load_policy(
        self, database: Database, ledger: Ledger, first_run: bool
    ) -> tuple[PolicyEngine, LivePolicy]:
        if first_run:
            write_starter(self._home.policy)
        loaded = load(self._home.policy, self._home.root)
        kept = await database.read(audit.policies, KEPT_VERSIONS)

        def remembered(version: str) -> Rules | None:
            text = kept.get(version)
            return None if text is None else from_document(json.loads(text), str(self._home.root))

        engine = PolicyEngine(loaded.rules, audit=ledger.audit, clock=self._clock, load_version=remembered)
        live = LivePolicy(
            self._home.policy,
            self._home.root,
            engine=engine,
            emit=ledger.emit,
            record=lambda rules: ledger.keep_policy(rules.version, rules.document),
        )
        live.announce(loaded)
        self._phases.reached("policy_loaded", policy_version=engine.version)
        return engine, live

    async def _furnish(
        self,
        stack: AsyncExitStack,
        base: tuple[LiveConfig, Database, Bus, Identity],
        ledger: Ledger,
        engine: PolicyEngine,
    ) -> tuple[House, _Parts]:
        """Hands, brain, queue, workers, schedules, and what the gateway sees of them."""
        config, database, bus, identity = base

        def agents() -> Mapping[str, Agent]:
            return config.current.agents()

        models = Models(_provider_settings(config.current), self._clock, ledger.emit)
        stack.push_async_callback(models.aclose)
        catalog, gate = await self._build_gate(stack, database, ledger, engine, agents)
        queue = Queue(
            database,
            self._clock,
            boot_id=identity.boot_id,
            agents=agents,
            policy_version=lambda: engine.version,
            jitter=random.random,
        )
        pool = Pool(
            queue,
            database,
            self._clock,
            agents=agents,
            handlers=self._handlers(gate, models, config),
            show=bus.show,
            timeout_ms=lambda: config.current.task_timeout_ms,
            report=self._report_task,
        )
        scheduler = Scheduler(database, queue, self._clock, agents=agents)
        metrics = Metrics()
        vitals = Vitals(
            identity=identity,
            clock=self._clock,
            database=database,
            agents=agents,
            running=lambda: pool.running,
            providers=lambda: models.names,
            policy_version=lambda: engine.version,
            config_hash=lambda: config.current.config_hash,
            last_error=lambda: self._last_error,
            skills=lambda: {"count": len(catalog.list())},
            ready=lambda: self._ready,
            metrics=metrics,
        )
        house = House(
            identity=identity,
            clock=self._clock,
            database=database,
            bus=bus,
            waiters=Waiters(bus, database),
            tasks=queue,
            cancel=pool.cancel,
            authorize=engine.authorize,
            agents=agents,
            tool_specs=gate.specs,
            provider_for=models.provider_for,
            vitals=vitals,
            report=self._report,
            extra_methods=(*cron_methods(scheduler), *skill_methods(catalog), *policy_methods(engine)),
        )
        return house, _Parts(config, models, catalog, queue, pool, scheduler, ledger)

    async def _build_gate(
        self,
        stack: AsyncExitStack,
        database: Database,
        ledger: Ledger,
        engine: PolicyEngine,
        agents: Callable[[], Mapping[str, Agent]],
    ) -> tuple[Catalog, Gate]:
        workspace = Workspace(os.path.realpath(self._home.root), os.path.realpath(self._home.workspace))
        sandbox = ProcessSandbox(home_mark=self._home.home_mark, workspace=workspace.folder, clock=self._clock)
        artifacts = FolderArtifacts(self._home.artifacts)
        outputs = Outputs(artifacts, self._redactor)
        builtin = builtin_tools(workspace, sandbox, artifacts, outputs)
        wasm = await stack.enter_async_context(WasmEngine(self._clock))
        catalog = Catalog(
            [self._home.skills, self._home.installed],
            wasm,
            StoredSkillRegistry(database, self._clock),
            ledger.emit,
            frozenset(builtin),
        )
        await catalog.scan()

        def tools() -> dict[str, Tool]:
            return builtin | {tool.spec.name: tool for tool in catalog.tools()}

        gate = Gate(
            tools=tools,
            agent_tools=lambda name: agents()[name].tools if name in agents() else (),
            guard=engine,
            outputs=outputs,
            log=lambda event, fields: self._log.warning(event, **fields),
        )
        return catalog, gate

    def _handlers(self, gate: Gate, models: Models, config: LiveConfig) -> Mapping[str, Handler]:
        def system(agent: Agent) -> str:
            return system_text(agent, config.current.conventions, str(self._home.workspace))

        parts = TurnParts(
            agents=lambda: config.current.agents(),
            provider_for=models.provider_for,
            toolbox=gate,
            system_text=system,
        )
        call = call_handler(gate)
        return {
            "noop": noop_handler(self._clock),
            "exec": call,
            "skill": call,
            "tool": call,
            "chat": chat_handler(parts),
        }

    async def _serve(
        self, stack: AsyncExitStack, house: House, parts: _Parts, live_policy: LivePolicy, token: Token
    ) -> None:
        """Open the port, run until told to stop, then drain."""
        settings = parts.config.current
        rules = DoorRules(
            matches=token.matches,
            hosts=lambda: parts.config.current.allowed_hosts,
            origins=lambda: parts.config.current.allowed_origins,
        )
        listener = bind(settings.bind_addr)
        server = Server(build_app(house, rules))
        try:
            async with asyncio.TaskGroup() as group:
                serving = group.create_task(server.serve(sockets=[listener]), name="gateway")
                following = [
                    group.create_task(run, name=name) for name, run in self._followers(house, parts, live_policy)
                ]
                host, port = listener.getsockname()[:2]
                url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
                self._phases.reached("gateway_bound", bind=f"{host}:{port}", url=url)
                _warn_when_open(self._log, host)
                await parts.scheduler.reconcile(_drafts(settings))
                following.append(group.create_task(parts.scheduler.run(), name="scheduler"))
                self._phases.reached("scheduler_started")
                working = group.create_task(parts.pool.run(), name="pool")
                self._publish(stack, house.identity, f"{host}:{port}", url)
                self._ready = True
                self._phases.reached("ready", url=url, pid=os.getpid())
                await self._stop.wait()
                await self._drain(parts)
                for task in (*following, working):
                    task.cancel()
                server.stop()
                await serving
        finally:
            listener.close()

    def _followers(
        self, house: House, parts: _Parts, live_policy: LivePolicy
    ) -> list[tuple[str, Coroutine[Any, Any, None]]]:
        skills = [self._home.skills, self._home.installed]
        pages = [self._home.config, self._home.dotenv, self._home.soul, self._home.conventions]
        return [
            ("bus", house.bus.run()),
            ("waiters", house.waiters.run()),
            ("policy", live_policy.run()),
            ("config", watch(pages, lambda _: self._reload(parts))),
            ("skills", watch(skills, lambda _: parts.catalog.reload())),
        ]

    async def _reload(self, parts: _Parts) -> None:
        done = await asyncio.to_thread(parts.config.reload)
        if done is None:
            return
        if isinstance(done, ReloadFailed):
            self._log.error("config not reloaded", error=done.message)
            parts.ledger.emit("config.reload_failed", done.as_json())
            return
        settings = done.settings
        self._redactor.add(*settings.secrets)
        self._logs.set_level(settings.log_level)
        parts.models.adopt(_provider_settings(settings))
        await parts.scheduler.reconcile(_drafts(settings))
        parts.pool.wake()
        parts.ledger.emit("config.reloaded", done.as_json())

    async def _drain(self, parts: _Parts) -> None:
        self._ready = False
        parts.queue.close_intake()
        if self._failure is not None:
            return
        patience = parts.config.current.drain_timeout_ms
        self._log.info("draining", running=parts.pool.running, patience_ms=patience)
        await parts.pool.drain(patience)
        self._log.info("stopped")

    def _publish(self, stack: AsyncExitStack, identity: Identity, address: str, url: str) -> None:
        info = GatewayInfo(
            pid=os.getpid(),
            bind=address,
            url=url,
            boot_id=identity.boot_id,
            log_id=identity.log_id,
            started_at=identity.started_at,
        )
        publish_gateway(self._home, info)
        stack.callback(withdraw_gateway, self._home)

    def _database_failed(self, error: GoclawError) -> None:
        self._failure = error
        self._log.error("database failed", error=error.message, code=error.code)
        self._stop.set()

    def _report_task(self, task: Task, error: BaseException) -> None:
        self._report(f"task {task.id} ({task.kind})", error)

    def _report(self, where: str, error: BaseException) -> None:
        self._last_error = f"{where}: {type(error).__name__}"
        self._log.exception("internal error", error, where=where)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What serving and reloading need to reach."""

    config: LiveConfig
    models: Models
    catalog: Catalog
    queue: Queue
    pool: Pool
    scheduler: Scheduler
    ledger: Ledger


def _provider_settings(settings: Settings) -> dict[str, ProviderSettings]:
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


def _drafts(settings: Settings) -> list[Draft]:
    names = {one.name for one in fields(Draft)}
    return [
        Draft(**{one.name: getattr(entry, one.name) for one in fields(entry) if one.name in names})
        for entry in settings.schedules
    ]


def _warn_when_open(log: Log, host: str) -> None:
    if not ip_address(host).is_loopback:
        log.warning("reachable from other machines", bind=host, advice="put TLS in front of it")
