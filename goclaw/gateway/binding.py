"""The listening socket; when its address is taken, who holds it and which port is free."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

from goclaw.errors import BindFailed

SEND_BYTES = 256 * 1024
"""What the system holds back for a reader that takes nothing; its own choice may grow to several MiB."""
SEGMENT_BYTES = 8 * 1024
"""The largest segment. On loopback the system would choose 64 KiB, about what a new reader's window holds, and then one
waits for the other's delayed acknowledgement: 40 ms in the middle of a replay. A real network's are smaller anyway."""
_LISTEN = "0A"
"""The state of a listening socket in /proc/net/tcp."""


def bind(address: str) -> socket.socket:
    """A listening socket at HOST:PORT; port 0 takes any.

    Raises BindFailed; where the port is taken it names its holder, as far as it can be told, and a free port.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if not port.isdecimal() or int(port) > 65_535 or not host:
        raise BindFailed(f"bind address {address!r} is not HOST:PORT")
    try:
        family, _, _, _, place = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise BindFailed(f"cannot bind {address}: {error.strerror or error}", address=address) from None
    try:
        listener = _listen(family, place)
    except OSError as error:
        raise _failed(address, family, place, error) from None
    listener.setblocking(False)
    return listener


def _listen(family: int, place: tuple[object, ...]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Without it a restart would have to wait for the connections of the last daemon to be forgotten.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
        with suppress(OSError):  # a system that takes no such bound for a listener has small segments on loopback
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT_BYTES)
        listener.bind(place)
        listener.listen(2_048)
    except OSError:
        listener.close()
        raise
    return listener


def _failed(address: str, family: int, place: tuple[object, ...], error: OSError) -> BindFailed:
    said: dict[str, object] = {"address": address}
    text = f"cannot bind {address}: {(error.strerror or str(error)).lower()}"
    holder = port_holder(int(str(place[1])))
    if holder is not None:
        said["holder"] = {"pid": holder[0], "name": holder[1]}
        text += f"; process {holder[0]} ({holder[1]}) holds it"
    free = _free_port(family, place)
    if free is not None:
        said["free_port"] = free
        text += f"; port {free} is free"
    return BindFailed(text, **said)


def port_holder(port: int) -> tuple[int, str] | None:
    """The pid and name of the process that listens on a TCP port, where this user may see it. Linux only."""
    sockets = {f"socket:[{inode}]" for inode in _listening(port)}
    if not sockets:
        return None
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and _holds(process, sockets):
            return int(process.name), _name(process)
    return None


def _listening(port: int) -> set[str]:
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text("ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            words = line.split()
            if words[3] == _LISTEN and int(words[1].rpartition(":")[2], 16) == port:
                inodes.add(words[9])
    return inodes


def _holds(process: Path, sockets: set[str]) -> bool:
    try:
        return any(os.readlink(fd) in sockets for fd in (process / "fd").iterdir())
    except OSError:
        return False  # another user's, or gone meanwhile


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text("utf-8", "replace").strip()
    except OSError:
        return "unknown"


def _free_port(family: int, place: tuple[object, ...]) -> int | None:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((place[0], 0, *place[2:]))
            return int(probe.getsockname()[1])
    except OSError:
        return None
