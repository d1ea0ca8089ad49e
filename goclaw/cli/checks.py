"""The checks of `goclaw doctor`. Each looks at one thing, changes nothing, and says how to mend it."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from goclaw.cli.background import daemon_pid, unreadiness
from goclaw.cli.place import Place
from goclaw.cli.screen import moment
from goclaw.client import DEFAULT_BIND, serving
from goclaw.config.load import check_settings, load_settings
from goclaw.config.settings import Settings
from goclaw.core.starts import judge
from goclaw.errors import RESTORE, ConfigInvalid, GoclawError

OK, WARN, FAIL = "ok", "warn", "fail"
WAL_RESET_FIXED = (3, 51, 3)
NEWER_THAN_TESTED = (3, 15)
LOW_BYTES = 512 * 1024 * 1024
MUCH_FREE_BYTES = 256 * 1024 * 1024
DAY_MS = 86_400_000
STALE_DAYS = 7
LEAST_FREE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, how it is, what was found, and what to do about it (empty: nothing)."""

    name: str
    status: str
    detail: str
    fix: str = ""


def all_checks(here: Place) -> tuple[Check, ...]:
    """Every check, in the order of their importance for a start."""
    running = _running(here)
    looks: tuple[Callable[[Place], Check], ...] = (
        _python,
        _sqlite,
        _home,
        lambda here: _disk(here, running),
        lambda here: _database(here, running),
        _space,
        lambda here: _starts(here, running),
        _backup,
        _token,
        _config,
        _policy,
        _providers,
        _wasmtime,
        _bubblewrap,
        _daemon,
        _port,
    )
    return tuple(look(here) for look in looks)


def _python(_: Place) -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info >= NEWER_THAN_TESTED:
        return Check("python", WARN, version, "this goclaw was tested with 3.11 to 3.14")
    return Check("python", OK, f"{version} on {sys.platform}")


def _sqlite(_: Place) -> Check:
    from goclaw.store.overview import sqlite_version

    version = sqlite_version()
    if tuple(int(part) for part in version.split(".")) >= WAL_RESET_FIXED:
        return Check("sqlite", OK, version)
    return Check(
        "sqlite",
        WARN,
        f"{version}, which can lose a commit when two connections write and checkpoint a WAL at once (mended in "
        "3.51.3); goclaw has one connection that writes and checkpoints, and locks its home, so it cannot happen here",
        "nothing has to be done; do not open goclaw.db with other programs while the daemon runs",
    )


def _home(here: Place) -> Check:
    root = here.home.root
    try:
        mode = root.stat().st_mode
    except FileNotFoundError:
        return Check("home", WARN, f"{root} is not there yet", "the first `goclaw serve` or `goclaw init` creates it")
    except OSError as error:
        return Check("home", FAIL, f"{root}: {error.strerror}", "choose another GOCLAW_HOME, or mend its rights")
    if not stat.S_ISDIR(mode) or not os.access(root, os.R_OK | os.W_OK | os.X_OK):
        return Check("home", FAIL, f"{root} is no folder that you may write", "choose another GOCLAW_HOME")
    if mode & 0o077:
        return Check("home", WARN, f"{root} is open to others (mode {mode & 0o777:04o})", f"chmod 700 {root}")
    return Check("home", OK, f"{root} (mode 0700)")


def _running(here: Place) -> Mapping[str, Any] | None:
    """What the daemon of this home says of itself; None where none answers."""
    if daemon_pid(here.home) is None:
        return None
    try:
        told: Mapping[str, Any] = here.call("system.status")
        return told
    except GoclawError:
        return None


def _disk(here: Place, running: Mapping[str, Any] | None) -> Check:
    folder = here.home.root
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    detail = f"{free / 1024**3:.1f} GiB free at {folder}"
    if running is not None and running["storage"]["state"] == "full":
        since = moment(running["storage"]["full_since"])
        fix = "free some space; the daemon goes on by itself within a second"
        return Check("disk", FAIL, f"full since {since}: new work is refused ({detail})", fix)
    if free < LEAST_FREE_BYTES:
        return Check("disk", FAIL, detail, "free some space: a full disk stops all intake")
    settings = _settings(here)
    low = settings.low_disk_bytes if settings is not None else LOW_BYTES
    return Check("disk", OK if free >= low else WARN, detail, "" if free >= low else "free some space (low_disk_mb)")


def _database(here: Place, running: Mapping[str, Any] | None) -> Check:
    from goclaw.store import integrity

    path, note = here.home.database, here.home.damage_note
    if not path.exists():
        return Check("database", OK, "there is none yet; the first start makes one")
    if running is not None:
        return Check("database", OK, f"served; {running['db']['integrity']}")
    if daemon_pid(here.home) is not None:
        return Check("database", WARN, "in use by a daemon that does not answer", "see `goclaw logs`")
    found = integrity.look(path, suspect=note.exists())
    if found.damage is not None:
        return Check("database", FAIL, f"{path} is damaged ({found.damage})", RESTORE)
    if found.clean:
        return Check("database", OK, f"{path}, closed cleanly")
    checked = "checked and whole" if found.checked else "too large to be checked here; the daemon checks it"
    return Check("database", WARN, f"{path}, not closed cleanly; {checked}", "nothing: the next start recovers")


def _starts(here: Place, running: Mapping[str, Any] | None) -> Check:
    from goclaw.store import integrity

    if running is not None:
        told = running["starts"]
    else:
        told = judge(integrity.unclean_stops(here.home.database), here.clock.wall(), 0).as_json()
    stops = told["unclean_stops"]
    detail = f"{stops} unclean stop{'' if stops == 1 else 's'} within ten minutes"
    if not told["crash_loop"]:
        return Check("starts", OK, detail)
    if told["hold_ms"]:
        detail += f"; schedules, and tasks that ran at one, wait until {moment(told['held_until'])}"
    fix = "`goclaw logs` tells what ran before each; `goclaw task list --state DEAD_LETTER` what was set aside for it"
    return Check("starts", WARN, f"a crash loop: {detail}", fix)


def _space(here: Place) -> Check:
    from goclaw.store.space import header

    try:
        told = header(here.home.database)
    except OSError as error:
        return Check("space", WARN, f"{here.home.database}: {error.strerror}", "mend its rights")
    if told is None:
        return Check("space", OK, "there is no database yet")
    detail = f"{told.file_bytes / 1024**2:.1f} MiB of database, {told.free_bytes / 1024**2:.1f} free inside"
    if told.free_bytes <= MUCH_FREE_BYTES or told.free_bytes * 2 <= told.file_bytes:
        return Check("space", OK, detail)
    later = "the daemon gives it back while it is idle; " if told.returnable else ""
    return Check("space", WARN, detail, f"{later}`goclaw daemon stop` and `goclaw compact` do it at once")


def _backup(here: Place) -> Check:
    from goclaw.kernel.backup import last_backup

    if not here.home.database.exists():
        return Check("backup", OK, "there is nothing to keep yet")
    last, fix = last_backup(here.home), "`goclaw backup create` makes one"
    if last is None:
        return Check("backup", WARN, "none was made yet", fix)
    told = f"the last one is of {moment(last['created_at'])}, {last['path']}"
    if not os.path.exists(last["path"]):
        return Check("backup", WARN, f"{told}, which is not there any more", fix)
    days = (here.clock.wall() - last["created_at"]) // DAY_MS
    return Check("backup", WARN if days >= STALE_DAYS else OK, told, fix if days >= STALE_DAYS else "")


def _token(here: Place) -> Check:
    from goclaw.secrets.token import read_token

    if "GOCLAW_AUTH_TOKEN" not in here.environ and not os.path.lexists(here.home.token):
        return Check("token", WARN, "there is none yet", "the first start makes one")
    try:
        read_token(here.home.token, here.environ)
    except GoclawError as error:
        return Check("token", FAIL, error.message, "mend it as said")
    source = "GOCLAW_AUTH_TOKEN" if "GOCLAW_AUTH_TOKEN" in here.environ else f"{here.home.token} (mode 0600)"
    return Check("token", OK, source)


def _config(here: Place) -> Check:
    problems = check_settings(here.home, here.environ)
    if problems:
        return Check("config", FAIL, "; ".join(map(str, problems[:5])), "`goclaw config check` names every problem")
    there = here.home.config.exists()
    return Check("config", OK, str(here.home.config) if there else "defaults; there is no config.yaml")


def _policy(here: Place) -> Check:
    from goclaw.cli.policy import policy_problem

    if not here.home.policy.exists():
        if here.home.database.exists():
            return Check("policy", FAIL, "policy.yaml is missing: everything is denied", "put policy.yaml back")
        return Check("policy", WARN, "there is none yet", "the first start writes a starter")
    problem = policy_problem(here.home)
    if problem is not None:
        return Check("policy", FAIL, problem, "mend policy.yaml; `goclaw policy check` tries it")
    return Check("policy", OK, str(here.home.policy))


def _providers(here: Place) -> Check:
    settings = _settings(here)
    if settings is None:
        return Check("providers", WARN, "unknown: config.yaml is not valid", "mend it first")
    named = [name for name in settings.chain() if name != "offline"]
    if named:
        return Check("providers", OK, ", ".join(named))
    return Check(
        "providers",
        WARN,
        "no model is configured; /tool directives work, plain questions do not",
        "set ANTHROPIC_API_KEY or OPENAI_API_KEY, or name a provider in config.yaml",
    )


def _wasmtime(_: Place) -> Check:
    if find_spec("wasmtime") is None:
        return Check("wasmtime", FAIL, "not installed; skills cannot run", "install goclaw again")
    return Check("wasmtime", OK, "installed")


def _bubblewrap(_: Place) -> Check:
    found = shutil.which("bwrap")
    if found or sys.platform != "linux":
        return Check("bubblewrap", OK, found or "not used on this platform")
    detail = "not found; programs run with your rights, within the policy's grammar and in a session of their own"
    return Check("bubblewrap", WARN, detail, "install the package bubblewrap")


def _daemon(here: Place) -> Check:
    pid = daemon_pid(here.home)
    if pid is None:
        return Check("daemon", WARN, "not running", "`goclaw daemon start`")
    info = serving(here.home)
    if info is None:
        return Check("daemon", FAIL, f"pid {pid} holds the home but says nothing of itself", "`goclaw daemon restart`")
    why = unreadiness(info.url)
    if why is not None:
        return Check("daemon", FAIL, f"pid {pid} at {info.url} is not ready: {why}", "see `goclaw logs`")
    return Check("daemon", OK, f"ready at {info.url}, pid {pid}")


def _port(here: Place) -> Check:
    if daemon_pid(here.home) is not None:
        return Check("port", OK, "in use by the daemon of this home")
    settings = _settings(here)
    host, port = settings.address if settings is not None else ("127.0.0.1", int(DEFAULT_BIND.rpartition(":")[2]))
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        fix = "stop what listens there, or choose another with GOCLAW_BIND_ADDR or bind_addr"
        return Check("port", FAIL, f"{host}:{port}: {error.strerror}", fix)
    return Check("port", OK, f"{host}:{port} is free")


def _settings(here: Place) -> Settings | None:
    try:
        return load_settings(here.home, here.environ)
    except ConfigInvalid:
        return None
