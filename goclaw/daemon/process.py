"""One run of goclaw on one home: start in order, serve, stop in reverse.

Read `Daemon.run` top to bottom: it is the start order of SPEC RUN. Each long-lived part is entered into one exit stack,
so leaving it is the stop order.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

from goclaw import __version__
from goclaw.bus import Bus
from goclaw.clock import SystemClock, new_id
from goclaw.config.environment import OLLAMA, ollama_url
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
from goclaw.config.settings import ProviderEntry, Settings
from goclaw.daemon.discovery import ollama_models
from goclaw.daemon.furnish import Ground, Parts, furnish, provider_settings
from goclaw.daemon.supervisor import Start, Supervisor
from goclaw.db.database import Database
from goclaw.errors import GoclawError, StartupError, StoreCorrupt
from goclaw.gateway.app import build_app
from goclaw.gateway.auth import DoorRules
from goclaw.gateway.binding import bind
from goclaw.gateway.house import House, Identity
from goclaw.gateway.server import Server
from goclaw.kernel import upkeep
from goclaw.log import Log, Logs, StartupPhases, get_logger, startup_failure
from goclaw.log.writer import AuditMirror
from goclaw.policy.engine import KEPT_VERSIONS, PolicyEngine
from goclaw.policy.live import LivePolicy, load, write_starter
from goclaw.policy.rules import Rules, from_document
from goclaw.sandbox.sweep import kill_marked
from goclaw.secrets.redact import Redactor
from goclaw.secrets.token import Token, ensure_token
from goclaw.store import audit, events, meta
from goclaw.store.ledger import Ledger
from goclaw.telemetry import Metrics
from goclaw.watch import watch

LAST_LOOK_S = 1.0


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
        self._ollama = False
        self._metrics = Metrics()

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

            if not self._load_settings().providers:
                self._ollama = bool(await ollama_models())
            config = LiveConfig(self._load_settings(), self._load_settings, lambda _: ())
            self._logs.set_level(config.current.log_level)
            token = ensure_token(self._home.token, os.environ)
            self._redactor.add(token.value, *config.current.secrets)
            self._phases.reached("config_loaded", config_hash=config.current.config_hash)

            bus = Bus(lambda cursor, limit: database.read(events.read_after, cursor, limit))
            database = await stack.enter_async_context(
                Database(self._home.database, self._clock, bus.ring, self._give_up)
            )
            identity = await self._open_log(stack, database)
            bus.start_at(await database.read(events.head))

            killed = await kill_marked(self._home.home_mark, self._clock)
            recovered = await database.write(upkeep.recover_all, identity.boot_id, self._clock.wall())
            self._phases.reached("recovery_scan_completed", killed=killed, recovered=len(recovered))

            ledger = self._open_ledger(stack, database)
            engine, live_policy = await self._load_policy(database, ledger, first_run)
            ground = Ground(
                home=self._home,
                clock=self._clock,
                config=config,
                database=database,
                bus=bus,
                identity=identity,
                ledger=ledger,
                engine=engine,
                redactor=self._redactor,
                log=self._log,
                metrics=self._metrics,
                last_error=lambda: self._last_error,
                ready=lambda: self._ready,
                report=self._report,
            )
            house, parts = await furnish(stack, ground)
            await self._serve(stack, house, parts, live_policy, token)
        return 0 if self._failure is None else 1

    def _load_settings(self) -> Settings:
        """The settings, with a model server of this machine where no provider is configured."""
        settings = load_settings(self._home, os.environ, self._flags)
        if settings.providers or not self._ollama:
            return settings
        return replace(settings, providers={OLLAMA: ProviderEntry(kind="openai", base_url=ollama_url("127.0.0.1"))})

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

        events_told = self._metrics.counter(
            "goclaw_events_told_total", "Events told outside of tasks, by type.", "type"
        )
        decisions = self._metrics.counter("goclaw_policy_decisions_total", "Audited decisions, by verdict.", "verdict")
        counters = {"event": events_told, "decision": decisions}
        return Ledger(
            database,
            self._clock,
            lambda row: mirror.append(self._redactor.json(row)),
            lost,
            lambda what, label: counters[what].add(label),
        )

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

    async def _serve(
        self, stack: AsyncExitStack, house: House, parts: Parts, live_policy: LivePolicy, token: Token
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
        supervisor = Supervisor(self._clock, self._log, parts.ledger.emit, self._give_up)
        try:
            async with asyncio.TaskGroup() as group:
                serving = group.create_task(supervisor.need("gateway", lambda: server.serve(sockets=[listener])))
                following = [
                    group.create_task(supervisor.keep(name, start), name=name)
                    for name, start in self._followers(house, parts, live_policy)
                ]
                host, port = listener.getsockname()[:2]
                url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
                self._phases.reached("gateway_bound", bind=f"{host}:{port}", url=url)
                _warn_when_open(self._log, host)
                await parts.scheduler.reconcile([entry.draft() for entry in settings.schedules])
                following.append(group.create_task(supervisor.keep("scheduler", parts.scheduler.run)))
                self._phases.reached("scheduler_started")
                working = group.create_task(supervisor.need("workers", parts.pool.run))
                self._publish(stack, house.identity, f"{host}:{port}", url)
                self._ready = True
                self._phases.reached("ready", url=url, pid=os.getpid())
                await self._stop.wait()
                await self._drain(parts)
                await _last_look(house)
                for task in (*following, working):
                    task.cancel()
                server.stop()
                await serving
        finally:
            listener.close()

    def _followers(self, house: House, parts: Parts, live_policy: LivePolicy) -> list[tuple[str, Start]]:
        skills = [self._home.skills, self._home.installed]
        pages = [self._home.config, self._home.dotenv, self._home.soul, self._home.conventions]
        return [
            ("bus", house.bus.run),
            ("waiters", house.waiters.run),
            ("policy", live_policy.run),
            ("config", lambda: watch(pages, lambda _: self._reload(parts))),
            ("skills", lambda: watch(skills, lambda _: parts.catalog.reload())),
        ]

    async def _reload(self, parts: Parts) -> None:
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
        parts.models.adopt(provider_settings(settings))
        await parts.scheduler.reconcile([entry.draft() for entry in settings.schedules])
        parts.pool.wake()
        parts.ledger.emit("config.reloaded", done.as_json())

    async def _drain(self, parts: Parts) -> None:
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

    def _give_up(self, error: GoclawError) -> None:
        """Stop without a drain: what runs now is judged by the next start."""
        self._failure = self._failure or error
        self._log.error("giving up", error=error.message, code=error.code)
        self._stop.set()

    def _report(self, where: str, error: BaseException) -> None:
        self._last_error = f"{where}: {type(error).__name__}"
        self._log.exception("internal error", error, where=where)


async def _last_look(house: House) -> None:
    """Let those who watch see how it ended. One who takes nothing is not waited for: he resumes by cursor."""
    house.waiters.close()
    await asyncio.sleep(0)
    with suppress(TimeoutError):
        async with asyncio.timeout(LAST_LOOK_S):
            await house.bus.settle()


def _warn_when_open(log: Log, host: str) -> None:
    if not ip_address(host).is_loopback:
        log.warning("reachable from other machines", bind=host, advice="put TLS in front of it")
