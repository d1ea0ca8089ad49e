"""The bearer token."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from goclaw.errors import AuthToken
from goclaw.secrets import Token, ensure_token, read_token

GOOD = "0123456789abcdef0123456789ABCDEF"


@pytest.mark.spec("GC-SEC-001")
def test_a_token_has_256_bits_and_a_private_file_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "auth.token"
    before = os.umask(0)
    try:
        token = ensure_token(path, {})
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(token.value) == 43  # 32 bytes in base64
    assert path.read_text() == token.value + "\n"
    assert [one.name for one in tmp_path.iterdir()] == ["auth.token"]
    assert ensure_token(path, {}).value == read_token(path, {}).value == token.value
    assert ensure_token(tmp_path / "other", {}).value != token.value


@pytest.mark.spec("GC-SEC-001")
def test_many_callers_at_once_get_one_token(tmp_path: Path) -> None:
    found: list[str] = []
    start = threading.Barrier(8)

    def call() -> None:
        start.wait()
        found.append(ensure_token(tmp_path / "auth.token", {}).value)

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


@pytest.mark.spec("GC-SEC-002")
def test_the_environment_wins_and_makes_no_file(tmp_path: Path) -> None:
    path = tmp_path / "auth.token"
    assert ensure_token(path, {"GOCLAW_AUTH_TOKEN": GOOD}).value == GOOD
    assert not path.exists()


@pytest.mark.spec("GC-SEC-002")
@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("", "is empty"),
        ("   ", "is empty"),
        ("short", "has 5 characters"),
        ("x" * 31, "has 31 characters"),
        ("x" * 513, "has 513 characters"),
        ("with blanks " * 4, "holds blanks"),
        ("ü" * 40, "holds blanks or characters"),
    ],
)
def test_a_weak_token_is_refused_wherever_it_stands(tmp_path: Path, value: str, why: str) -> None:
    path = tmp_path / "auth.token"
    with pytest.raises(AuthToken, match=why) as caught:
        read_token(path, {"GOCLAW_AUTH_TOKEN": value})
    assert caught.value.code == "E_AUTH_TOKEN"
    path.write_text(value + "\n", encoding="utf-8")
    path.chmod(0o600)
    with pytest.raises(AuthToken):
        ensure_token(path, {})


@pytest.mark.spec("GC-SEC-002")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620])
def test_a_file_that_others_may_touch_is_refused_with_the_command_that_mends_it(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "auth.token"
    path.write_text(GOOD)
    path.chmod(mode)
    with pytest.raises(AuthToken, match=f"mode 0{mode:o}.*chmod 600 {path}"):
        ensure_token(path, {})


def test_a_missing_or_strange_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AuthToken, match="is not there"):
        read_token(tmp_path / "none", {})
    (tmp_path / "folder").mkdir(mode=0o700)
    with pytest.raises(AuthToken):
        ensure_token(tmp_path / "folder", {})
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(AuthToken):
        ensure_token(tmp_path / "dangling", {})
    with pytest.raises(AuthToken, match="cannot be written"):
        ensure_token(tmp_path / "no" / "auth.token", {})


def test_a_token_matches_only_itself_and_hides() -> None:
    token = Token(GOOD)
    assert token.matches(GOOD)
    for other in ("", GOOD[:-1], GOOD + "x", GOOD.lower(), "ü", "\ud800"):
        assert not token.matches(other)
    assert GOOD not in f"{token!r} {token}"
