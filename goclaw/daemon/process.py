"""One run of goclaw on one home: start in order, serve, stop in reverse.

Read `Daemon.run` top to bottom: it is the start order of SPEC RUN. Each long-lived part is entered into one exit stack,
so leaving it is the stop order.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NoReturn

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
from goclaw.core.starts import WINDOW_MS, judge
from goclaw.daemon.discovery import ollama_models
from goclaw.daemon.ending import last_look, reason
from goclaw.daemon.furnish import Ground, Parts, furnish, provider_settings
from goclaw.daemon.policing import load_policy
from goclaw.daemon.records import open_ledger
from goclaw.daemon.storage import Storage
from goclaw.daemon.supervisor import Start, Supervisor
from goclaw.daemon.wholeness import BackgroundCheck, inspect, remember
from goclaw.db.damage import is_damage
from goclaw.db.database import Database
from goclaw.errors import (
    RESTORE,
    GoclawError,
    StartupError,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreOpen,
)
from goclaw.gateway.app import build_app
from goclaw.gateway.auth import DoorRules
from goclaw.gateway.binding import bind
from goclaw.gateway.house import House, Identity
from goclaw.gateway.server import Server
from goclaw.kernel import upkeep
from goclaw.kernel.suspects import hold_suspects
from goclaw.log import Log, Logs, StartupPhases, get_logger, startup_failure
from goclaw.policy.live import LivePolicy, write_starter
from goclaw.sandbox.sweep import kill_marked
from goclaw.secrets.redact import Redactor
from goclaw.secrets.token import Token, ensure_token
from goclaw.store import events, heads, meta
from goclaw.store.ledger import Ledger
from goclaw.telemetry import Metrics
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
        except StoreError as error:
            startup_failure(StoreOpen(f"goclaw.db could not be made ready: {error.message}"))
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
        self._low_disk_bytes = 0
        self._starts = judge((), 0, 0)
        self._storage = Storage(home.root, self._clock, self._log, self._metrics, lambda: self._low_disk_bytes)

    async def run(self) -> int:
        """Start, serve, stop. Raises StartupError."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.set_exception_handler(self._stray)
        async with AsyncExitStack() as stack:
            stack.enter_context(lock_home(self._home))
            if prepare_home(self._home):
                # Before there is a database: from then on a missing policy is a deleted one, and denies all.
                write_starter(self._home.policy)
            self._logs.open_file(self._home.logs / "system.jsonl")
            self._phases.reached("home_locked", home=str(self._home.root))

            config = await self._configure()
            token = ensure_token(self._home.token, os.environ)
            self._redactor.add(token.value)
            self._phases.reached("config_loaded", config_hash=config.current.config_hash)

            found = await asyncio.to_thread(inspect, self._home)
            check = BackgroundCheck(self._home.database, found, self._give_up)
            bus = Bus(lambda cursor, limit: database.read(events.read_after, cursor, limit))
            database = await stack.enter_async_context(
                Database(self._home.database, self._clock, lambda: self._stored(bus), self._give_up, self._storage.told)
            )
            identity = await self._open_log(stack, database, config.current)
            bus.start_at(await database.read(events.head))
            await self._recover(database, identity)

            closing = stack.enter_context(ExitStack())
            ledger = open_ledger(closing, self._home, database, self._clock, self._redactor, self._metrics)
            self._storage.open(ledger.emit)
            self._tell_starts(ledger)
            engine, live_policy = await load_policy(self._home, self._clock, database, ledger)
            self._phases.reached("policy_loaded", policy_version=engine.version)
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
                storage=self._storage,
                starts=lambda: self._starts,
                integrity=lambda: check.state,
            )
            house, parts = await furnish(stack, ground)
            self._storage.listen(parts.pool.wake)
            followers = self._followers(house, parts, live_policy)
            followers += [("integrity", check.run), ("crash loop", lambda: self._outlive(ledger))]
            await self._serve(stack, house, parts, followers, token)
        return 0 if self._failure is None else 1

    async def _configure(self) -> LiveConfig:
        """The settings; read twice only where a model server of this machine stands in for a provider."""
        config = LiveConfig(self._load_settings(), self._load_settings, lambda _: ())
        if not config.current.providers and await ollama_models():
            self._ollama = True
            config.reload()
        self._adopt(config.current)
        return config

    def _load_settings(self) -> Settings:
        """The settings, with a model server of this machine where no provider is configured."""
        settings = load_settings(self._home, os.environ, self._flags)
        if settings.providers or not self._ollama:
            return settings
        return replace(settings, providers={OLLAMA: ProviderEntry(kind="openai", base_url=ollama_url("127.0.0.1"))})

    def _adopt(self, settings: Settings) -> None:
        """What the daemon itself takes from the settings, at the start and at each reload."""
        self._logs.set_level(settings.log_level)
        self._low_disk_bytes = settings.low_disk_bytes
        self._redactor.add(*settings.secrets)

    async def _open_log(self, stack: AsyncExitStack, database: Database, settings: Settings) -> Identity:
        """Whose log this is, and how the starts before this one went."""
        started = self._clock.wall()
        stack.push_async_callback(self._close_log, database)
        opened = await database.write(meta.open_log, new_id(self._clock), started)
        self._phases.reached("schema_migrated", clean_stop=opened.clean, log_id=opened.log_id)
        self._starts = judge(opened.unclean_stops, started, settings.crash_loop_delay_ms)
        return Identity(
            version=__version__,
            boot_id=new_id(self._clock),
            log_id=opened.log_id,
            started_at=started,
            started_monotonic=self._clock.monotonic(),
        )

    async def _close_log(self, database: Database) -> None:
        if isinstance(self._failure, StoreError):
            self._end_here(self._failure)
        if self._failure is None:
            try:
                database.post(heads.note, "stop", self._clock.wall())
                await database.write(meta.close_log)
            except StoreFull:
                self._log.warning("a clean stop could not be recorded: the disk is full")

    def _end_here(self, failure: StoreError) -> NoReturn:
        """End the process with the file as it is.

        Closing it would copy the WAL into it, with pages nobody knows to be on the disk, or over a damaged file.
        """
        if not self._phases.complete:
            startup_failure(StoreOpen(failure.message))
        self._logs.flush()
        os._exit(1)

    async def _recover(self, database: Database, identity: Identity) -> None:
        """Kill what was left behind, judge what was held; in a crash loop, let what may be its cause wait."""
        killed = await kill_marked(self._home.home_mark, self._clock)
        now = self._clock.wall()
        recovered = await database.write(upkeep.recover_all, identity.boot_id, now)
        starts, held = self._starts, 0
        if starts.hold_ms:
            held = await database.write(hold_suspects, starts.held_until, now)
        self._phases.reached("recovery_scan_completed", killed=killed, recovered=len(recovered), held=held)

    def _tell_starts(self, ledger: Ledger) -> None:
        starts = self._starts
        if starts.looping:
            advice = "`goclaw doctor` tells more; `goclaw logs` shows what ran"
            self._log.error("crash loop", advice=advice, **starts.as_json())
            ledger.emit("system.crash_loop", starts.as_json())

    async def _serve(
        self, stack: AsyncExitStack, house: House, parts: Parts, followers: Sequence[tuple[str, Start]], token: Token
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
        supervisor = Supervisor(self._clock, self._log, parts.ledger.emit, self._give_up, self._judge)
        try:
            async with asyncio.TaskGroup() as group:
                serving = group.create_task(supervisor.need("gateway", lambda: server.serve(sockets=[listener])))
                following = [group.create_task(supervisor.keep(name, start), name=name) for name, start in followers]
                host, port = listener.getsockname()[:2]
                url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
                self._phases.reached("gateway_bound", bind=f"{host}:{port}", url=url)
                _warn_when_open(self._log, host)
                await parts.scheduler.reconcile([entry.draft() for entry in settings.schedules])
                following.append(group.create_task(supervisor.keep("scheduler", lambda: self._schedule(parts))))
                self._phases.reached("scheduler_started")
                working = group.create_task(supervisor.need("workers", parts.pool.run))
                self._publish(stack, house.identity, f"{host}:{port}", url)
                self._ready = True
                self._phases.reached("ready", url=url, pid=os.getpid())
                await self._stop.wait()
                await self._drain(parts)
                if self._failure is None:
                    await last_look(house)
                for task in (*following, working):
                    task.cancel()
                server.stop()
                await serving
        except ExceptionGroup as failed:
            raise reason(failed) from None
        finally:
            listener.close()

    def _followers(self, house: House, parts: Parts, live_policy: LivePolicy) -> list[tuple[str, Start]]:
        skills = [self._home.skills, self._home.installed]
        pages = [self._home.config, self._home.dotenv, self._home.soul, self._home.conventions]
        return [
            ("bus", house.bus.run),
            ("waiters", house.waiters.run),
            ("policy", live_policy.run),
            ("retention", parts.retention.run),
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
        self._adopt(settings)
        parts.models.adopt(provider_settings(settings))
        await parts.scheduler.reconcile([entry.draft() for entry in settings.schedules])
        await parts.queue.set_limits(settings.concurrency)
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

    async def _schedule(self, parts: Parts) -> None:
        """Fire schedules; in a crash loop after its wait, on a full disk when there is room again. What passes
        meanwhile is caught up by each job's own rule, as after a restart."""
        await self._clock.sleep(self._starts.held_until - self._clock.wall())
        await self._storage.while_room(parts.scheduler.run)

    async def _outlive(self, ledger: Ledger) -> None:
        """The end of a crash loop: one start that lasted."""
        if self._starts.looping:
            await self._clock.sleep(WINDOW_MS)
            self._starts = judge((), self._clock.wall(), 0)
            self._log.warning("crash loop over", lasted_ms=WINDOW_MS)
            ledger.emit("system.crash_loop_over", {"lasted_ms": WINDOW_MS})

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

    def _stored(self, bus: Bus) -> None:
        """After each commit that changed something."""
        bus.ring()
        self._storage.glance()

    def _give_up(self, error: GoclawError) -> None:
        """Stop without a drain: what runs now is judged by the next start."""
        self._failure = self._failure or error
        if isinstance(error, StoreDamaged):
            remember(self._home, error)
        self._log.error("giving up", error=error.message, code=error.code)
        self._stop.set()

    def _report(self, where: str, error: BaseException) -> None:
        self._last_error = f"{where}: {type(error).__name__}"
        self._log.exception("internal error", error, where=where)
        self._judge(error)

    def _stray(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What nobody waited for: a queued write that failed, a callback."""
        error = context.get("exception")
        if isinstance(error, BaseException):
            self._report(str(context.get("message", "event loop")), error)
        else:
            self._log.warning("event loop", told=str(context.get("message")))

    def _judge(self, error: BaseException) -> None:
        """A damaged database is not served any further, whoever met the damage."""
        if is_damage(error):
            self._give_up(StoreDamaged(f"{StoreDamaged.__doc__} ({error}) {RESTORE}"))


def _warn_when_open(log: Log, host: str) -> None:
    if not ip_address(host).is_loopback:
        log.warning("reachable from other machines", bind=host, advice="put TLS in front of it")
