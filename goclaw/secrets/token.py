"""The bearer token: 256 bits in a private file, or what GOCLAW_AUTH_TOKEN says."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path

from goclaw.errors import AuthToken

VARIABLE = "GOCLAW_AUTH_TOKEN"
MIN_CHARS = 32
MAX_CHARS = 512


class Token:
    """A bearer token that does not show itself: its repr and its str hide it."""

    __slots__ = ("_digest", "value")

    def __init__(self, value: str) -> None:
        self.value = value
        self._digest = hashlib.sha256(value.encode()).digest()

    def matches(self, candidate: str) -> bool:
        """Whether `candidate` is this token, in a time that tells nothing about how much of it is right."""
        shown = hashlib.sha256(candidate.encode("utf-8", "surrogatepass")).digest()
        return hmac.compare_digest(shown, self._digest)

    def __repr__(self) -> str:
        return "Token(********)"


def ensure_token(path: Path, environ: Mapping[str, str]) -> Token:
    """The token of this home; made on the first call, 256 random bits, mode 0600.

    Two callers at once get the same token, and no reader ever meets half a file. Raises AuthToken as
    `read_token`.
    """
    if not environ.get(VARIABLE) and not os.path.lexists(path):
        try:
            _create(path, secrets.token_urlsafe(32))
        except OSError as error:
            raise AuthToken(f"{path} cannot be written: {error.strerror or error}") from error
    return read_token(path, environ)


def read_token(path: Path, environ: Mapping[str, str]) -> Token:
    """The token from GOCLAW_AUTH_TOKEN, else from the file.

    Raises AuthToken, saying how to mend it, when there is none, when it is shorter than 32 characters or
    holds anything but visible ASCII, and when others may read the file.
    """
    given = environ.get(VARIABLE)
    if given is not None:
        return Token(_checked(given, VARIABLE, "set it to 32 or more random characters, or unset it"))
    mend = f"remove {path} and start goclaw again to have a new one made"
    return Token(_checked(_private_text(path), str(path), mend))


def _private_text(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise AuthToken(f"{path} is not a file; remove it and start goclaw again")
            if about.st_mode & 0o077:
                mode = stat.S_IMODE(about.st_mode)
                raise AuthToken(f"{path} can be read by others (mode {mode:04o}); run: chmod 600 {path}")
            return file.read(4 * MAX_CHARS).decode("ascii").removesuffix("\n").removesuffix("\r")
    except FileNotFoundError as error:
        raise AuthToken(f"{path} is not there; start goclaw to have it made, or set {VARIABLE}") from error
    except UnicodeDecodeError as error:
        raise AuthToken(f"{path} is not text; remove it and start goclaw again to have a new one made") from error
    except OSError as error:
        raise AuthToken(f"{path} cannot be read: {error.strerror or error}") from error


def _checked(value: str, source: str, mend: str) -> str:
    if not value.strip():
        raise AuthToken(f"the token in {source} is empty; {mend}")
    if not MIN_CHARS <= len(value) <= MAX_CHARS:
        raise AuthToken(f"the token in {source} has {len(value)} characters, not {MIN_CHARS} to {MAX_CHARS}; {mend}")
    if not all("!" <= char <= "~" for char in value):
        raise AuthToken(f"the token in {source} holds blanks or characters that no header can carry; {mend}")
    return value


def _create(path: Path, value: str) -> None:
    """Write beside, then link: the name appears with its whole content or not at all, and never over
    another.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "w", encoding="ascii") as file:
            os.fchmod(fd, 0o600)
            file.write(value + "\n")
            file.flush()
            os.fsync(fd)
        with contextlib.suppress(FileExistsError):  # another process was first; its token is the one
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
