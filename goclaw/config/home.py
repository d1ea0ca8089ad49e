"""GOCLAW_HOME: where everything of one goclaw lives, and the lock that lets one daemon at a time serve it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from goclaw.config.files import write_atomic, write_new
from goclaw.config.starter import AGENTS_NOTES, CONFIG, SOUL
from goclaw.errors import HomeLocked, HomeUnwritable


@dataclass(frozen=True, slots=True)
class Home:
    """The paths of one home. `root` is absolute. Nothing exists merely because it is named here."""

    root: Path

    @property
    def config(self) -> Path:
        """The settings."""
        return self.root / "config.yaml"

    @property
    def policy(self) -> Path:
        """What is allowed."""
        return self.root / "policy.yaml"

    @property
    def soul(self) -> Path:
        """Who the default agent is."""
        return self.root / "SOUL.md"

    @property
    def conventions(self) -> Path:
        """Project conventions that every agent is told."""
        return self.root / "AGENTS.md"

    @property
    def dotenv(self) -> Path:
        """Environment variables for this home only."""
        return self.root / ".env"

    @property
    def token(self) -> Path:
        """The bearer token."""
        return self.root / "auth.token"

    @property
    def database(self) -> Path:
        """The only state."""
        return self.root / "goclaw.db"

    @property
    def damage_note(self) -> Path:
        """What a daemon has found broken in the database; there only as long as that is so."""
        return self.root / "goclaw.db.damaged"

    @property
    def gateway(self) -> Path:
        """Where the serving daemon says how to reach it."""
        return self.root / "run" / "gateway.json"

    @property
    def skills(self) -> Path:
        """Skills of the user."""
        return self.root / "skills"

    @property
    def installed(self) -> Path:
        """Installed skills."""
        return self.root / "installed"

    @property
    def workspace(self) -> Path:
        """The default working folder of tools."""
        return self.root / "workspace"

    @property
    def artifacts(self) -> Path:
        """Large outputs and attachments by SHA-256."""
        return self.root / "artifacts"

    @property
    def logs(self) -> Path:
        """system.jsonl and audit.jsonl."""
        return self.root / "logs"

    @property
    def secrets(self) -> Path:
        """The encrypted credential store."""
        return self.root / "secrets"

    @property
    def run(self) -> Path:
        """What exists only while a daemon serves."""
        return self.root / "run"

    @property
    def incidents(self) -> Path:
        """Bundles for those who look into an incident."""
        return self.root / "incidents"

    def copies(self) -> list[Path]:
        """Copies of the database that lie in the home: those made before a migration, and backups."""
        return sorted([*self.root.glob("goclaw.db.before-*"), *(self.root / "backups").glob("*")])

    @property
    def home_mark(self) -> str:
        """The word that marks the child processes of this home: 32 hexadecimal digits of its resolved
        path.
        """
        return hashlib.sha256(os.fsencode(self.root.resolve())).hexdigest()[:32]


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayInfo:
    """What a serving daemon says of itself in run/gateway.json. `started_at` is in milliseconds since 1970
    UTC.
    """

    pid: int
    bind: str
    url: str
    boot_id: str
    log_id: str
    started_at: int


def locate_home(environ: Mapping[str, str], flag: str | None = None) -> Home:
    """The home meant by `--home`, else by GOCLAW_HOME, else ~/.goclaw. Touches nothing."""
    named = flag or environ.get("GOCLAW_HOME") or "~/.goclaw"
    return Home(Path(os.path.abspath(Path(named).expanduser())))


@contextlib.contextmanager
def lock_home(home: Home) -> Iterator[None]:
    """Hold this home for one daemon; the very first thing a daemon does.

    Creates the home's own directory (mode 0700; never the ones above it) when it is missing. The lock is an
    flock on the directory itself, so it holds however much inside is deleted, and the kernel frees it when
    the process ends, however it ends. Raises HomeLocked, naming pid and url as far as they are known, and
    HomeUnwritable.
    """
    with _refusing(home):
        with contextlib.suppress(FileExistsError):
            home.root.mkdir(mode=0o700)
        fd = os.open(home.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _locked(home, os.fstat(fd)) from None
        yield
    finally:
        os.close(fd)


def prepare_home(home: Home) -> bool:
    """Create what is missing in a locked home; True on its first run (it has no database yet).

    The starters (config.yaml, SOUL.md, AGENTS.md) are written on the first run only and never over a file
    that is there. Folders get mode 0700. Raises HomeUnwritable.
    """
    first_run = not home.database.exists()
    folders = (home.skills, home.installed, home.workspace, home.artifacts, home.logs, home.secrets, home.run)
    with _refusing(home):
        for folder in folders:
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=0o700)
            if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        if not os.access(home.root, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(home.root))
        if first_run:
            write_new(home.config, CONFIG)
            write_new(home.soul, SOUL)
            write_new(home.conventions, AGENTS_NOTES)
    return first_run


def publish_gateway(home: Home, info: GatewayInfo) -> None:
    """Tell clients where the daemon is, in one piece. Raises HomeUnwritable."""
    with _refusing(home):
        home.run.mkdir(mode=0o700, exist_ok=True)
        write_atomic(home.gateway, json.dumps(asdict(info)) + "\n")


def withdraw_gateway(home: Home) -> None:
    """Take run/gateway.json away; nothing happens when it is gone already."""
    with contextlib.suppress(OSError):
        home.gateway.unlink()


def read_gateway(home: Home) -> GatewayInfo | None:
    """What the last daemon said of itself, or None. Not promised: that it is still there; ask its url."""
    try:
        return GatewayInfo(**json.loads(home.gateway.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def lock_holder(home: Home) -> int | None:
    """The process that serves this home, as the kernel knows it; None when there is none or it cannot be
    told.

    Reads /proc/locks, so asking never gets in the way of a daemon that is starting. Linux only.
    """
    try:
        return _holder(home.root.stat())
    except OSError:
        return None


def _holder(about: os.stat_result) -> int | None:
    file = f"{os.major(about.st_dev):02x}:{os.minor(about.st_dev):02x}:{about.st_ino}"
    with contextlib.suppress(OSError, ValueError), open("/proc/locks", encoding="ascii") as locks:
        for line in locks:
            words = line.split()
            if words[1:2] == ["FLOCK"] and words[5:6] == [file]:
                return int(words[4])
    return None


def _locked(home: Home, about: os.stat_result) -> HomeLocked:
    holder = _holder(about)
    info = read_gateway(home)
    if info is not None and holder in (None, info.pid):
        who, data = f" (pid {info.pid} at {info.url})", {"pid": info.pid, "url": info.url}
    elif holder:
        who, data = f" (pid {holder})", {"pid": holder}
    else:
        who, data = "", {}
    return HomeLocked(
        f"another goclaw daemon{who} is serving {home.root}; stop it first or choose another GOCLAW_HOME",
        **data,
    )


@contextlib.contextmanager
def _refusing(home: Home) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        path = error.filename or str(home.root)
        raise HomeUnwritable(
            f"{path}: {reason}; GOCLAW_HOME must be a directory you may write, inside one that exists",
            path=str(path),
        ) from error
