"""The chat with a real daemon: under a pilot, and as the real program on a real (pseudo) terminal."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from goclaw.client import find_daemon
from goclaw.clock import SystemClock
from goclaw.config.home import locate_home
from goclaw.tui.desk import Start
from goclaw.tui.turn import TurnState
from tests.system.running import REPOSITORY, RunningDaemon
from tests.unit.tui.screens import Screen, screen

PATIENCE_S = 60
AGENTS = "agents:\n  coder: {display_name: Coder, soul: You write code.}\n"
_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|P[^\x1b]*\x1b\\|[ -/]*[0-Z\\^_`-~])")
_COLOUR = re.compile(r"\x1b\[(?:[0-9;:]*[;:])?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:[;:][0-9;:]*)?m")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a file to read and a second agent."""
    place = tmp_path / "home"
    (place / "workspace").mkdir(parents=True)
    place.chmod(0o700)
    (place / "workspace" / "a.txt").write_text("hello from the file\n")
    (place / "config.yaml").write_text(AGENTS)
    return place


@asynccontextmanager
async def serving(home: Path) -> AsyncIterator[RunningDaemon]:
    """A daemon; it takes its time to start, and the screen goes on meanwhile."""
    daemon = RunningDaemon(home)
    await asyncio.to_thread(daemon.__enter__)
    try:
        yield daemon
    finally:
        await asyncio.to_thread(daemon.kill)


def chat(home: Path, session: str = "here") -> AbstractAsyncContextManager[Screen]:
    """A chat with whichever daemon serves `home`."""
    place = locate_home({}, str(home))
    return screen(lambda: find_daemon(place, {}), SystemClock(), start=Start(session=session), size=(100, 36))


@pytest.mark.spec("GC-TUI-003", "GC-TUI-004", "GC-TUI-012")
async def test_directives_run_tools_and_a_plain_prompt_is_told_how_to_get_a_model(home: Path) -> None:
    async with serving(home), chat(home) as shown:
        await shown.sees("No model is configured", "no model", "policy")
        await shown.type("/read_file file_path=a.txt")
        await shown.sees("\u2713 read_file a.txt 1 hello from the file", "ready")
        await shown.until(lambda: shown.flat.count("hello from the file") == 2)
        assert shown.flat.index("\u2713 read_file") < shown.flat.rindex("hello from the file"), "calls stand first"
        await shown.type('/exec {"argv":["rm","-r","/"]}')
        await shown.sees("\u2298 exec rm -r / denied: no pattern of exec.allow covers", "ready")
        await shown.type("/read_file file_path=b.txt")
        await shown.sees("\u2717 read_file b.txt failed:", "does not exist", "ready")
        await shown.type("How are you?")
        await shown.sees("\u2717 No model is configured, so a plain prompt cannot be answered.", "NO_PROVIDER")
        states = [turn.state for turn in shown.turns]
        assert states == [TurnState.DONE, TurnState.DONE, TurnState.DONE, TurnState.FAILED]


@pytest.mark.spec("GC-TUI-009")
async def test_what_was_said_before_is_there_again_failures_and_calls_too(home: Path) -> None:
    async with serving(home):
        async with chat(home) as shown:
            await shown.type("/read_file file_path=a.txt", "Hello?")
            await shown.sees("hello from the file", "NO_PROVIDER", "ready")
        async with chat(home) as again:
            await again.sees("\u2713 read_file a.txt 1 hello from the file", "Hello?", "NO_PROVIDER", "ready")
            assert [turn.state for turn in again.turns] == [TurnState.DONE, TurnState.FAILED]


@pytest.mark.spec("GC-TUI-005", "GC-TUI-006")
async def test_a_running_turn_is_stopped_and_the_next_one_goes_on(home: Path) -> None:
    async with serving(home), chat(home) as shown:
        await shown.type('/exec {"argv":["sleep","600"]}', "/read_file file_path=a.txt")
        await shown.sees("\u25b8 exec sleep 600 running", "1 queued")
        await shown.pilot.press("escape")
        await shown.sees("canceled", "\u2713 read_file a.txt 1 hello from the file", "ready")
        assert [turn.state for turn in shown.turns] == [TurnState.CANCELED, TurnState.DONE]


@pytest.mark.spec("GC-TUI-007")
async def test_agents_have_sessions_of_their_own(home: Path) -> None:
    async with serving(home) as daemon, chat(home) as shown:
        await shown.type("/agent coder", "/read_file file_path=a.txt")
        await shown.sees("coder", "\u2713 read_file a.txt", "ready")
        theirs = shown.app.place.session_id
        assert daemon.call("session.get", session_id=theirs)["agent_id"] == "coder"
        await shown.type("/agent default")
        await shown.sees("here", "You are talking to goclaw.")
        assert "read_file a.txt" not in shown.text


@pytest.mark.spec("GC-TUI-010", "GC-TUI-011")
async def test_a_killed_daemon_comes_back_and_every_turn_goes_on_where_it_was(home: Path) -> None:
    async with chat_over_a_kill(home) as shown:
        await shown.sees("\u2713 exec sleep 1", "\u2713 read_file a.txt 1 hello from the file", "ready")
        await shown.sees("? exec sleep 601 unknown: it may or may not have happened")
        prompts = [turn.prompt for turn in shown.turns]
        assert prompts == [PURE, "/read_file file_path=a.txt", "/list_directory path=.", UNSAFE]
        assert len({turn.task_id for turn in shown.turns}) == 4


PURE = '/exec {"argv":["sleep","1"],"effect":"pure"}'
UNSAFE = '/exec {"argv":["sleep","601"]}'


@asynccontextmanager
async def chat_over_a_kill(home: Path) -> AsyncIterator[Screen]:
    """Killed twice: in a call that may be repeated, with one turn queued and one typed while nobody was
    there; and in a call that may not.
    """
    async with serving(home) as daemon, chat(home) as shown:
        await shown.type(PURE, "/read_file file_path=a.txt")
        await shown.sees("\u25b8 exec sleep 1 effect=pure running", "1 queued")
        await asyncio.to_thread(daemon.kill)
        await shown.sees("daemon gone", "goclaw daemon start")
        await shown.type("/list_directory path=.")
        await shown.sees("sending")
        async with serving(home) as second:
            await shown.sees("\u2713 list_directory .", "ready")
            await shown.type(UNSAFE)
            await shown.sees("\u25b8 exec sleep 601 running")
            await asyncio.to_thread(second.kill)
            await shown.sees("daemon gone")
            async with serving(home):
                yield shown


class Terminal:
    """The real program on a pseudo terminal of 80x24. `seen` is everything it has written."""

    def __init__(self, fd: int, process: subprocess.Popen[bytes]) -> None:
        self._fd = fd
        self.process = process
        self.seen = ""

    @property
    def words(self) -> str:
        """What was written, without what only moves and colours."""
        return _ESCAPE.sub("", self.seen)

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._fd, text.encode())

    def until(self, words: str, after: int = 0) -> int:
        """Read until `words` come behind place `after` of `words`; the place behind them."""
        until = time.monotonic() + PATIENCE_S
        while (at := self.words.find(words, after)) < 0:
            if time.monotonic() > until or not self._read():
                raise AssertionError(f"{words!r} never came; the end of it:\n{self.words[-2_000:]}")
        return at + len(words)

    def close(self) -> None:
        """Close the terminal under it, as when a window or a connection is gone."""
        os.dup2(os.open(os.devnull, os.O_RDWR), self._fd)

    def end(self) -> int:
        """Read to the end; the exit code."""
        while self._read():
            pass
        return self.process.wait(PATIENCE_S)

    def _read(self) -> bool:
        if not select.select([self._fd], [], [], PATIENCE_S)[0]:
            return False
        try:
            piece = os.read(self._fd, 65_536)
        except OSError:  # the other end is closed
            return False
        self.seen += piece.decode("utf-8", "replace")
        return bool(piece)


@contextmanager
def terminal(home: Path, env: Mapping[str, str]) -> Iterator[Terminal]:
    """`goclaw` alone, where somebody sits; the daemon it starts is stopped in the end."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    passed = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    known = {"GOCLAW_HOME": str(home), "GOCLAW_BIND_ADDR": "127.0.0.1:0", "PYTHONPATH": str(REPOSITORY)}
    environ = {
        **passed,
        **known,
        "TERM": "xterm-256color",
        "COLORTERM": "truecolor",
        "LANG": "C.UTF-8",
        **env,
    }
    command = [sys.executable, "-m", "goclaw"]
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ, cwd=home, start_new_session=True
    )
    os.close(theirs)
    try:
        yield Terminal(ours, process)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        subprocess.run([*command, "daemon", "stop", "--now"], env=environ, cwd=home, check=True, capture_output=True)


@pytest.mark.spec("GC-TUI-019")
def test_goclaw_alone_on_a_terminal_starts_a_daemon_and_a_chat_that_answers(home: Path) -> None:
    with terminal(home, {}) as tty:
        at = tty.until("started a daemon in the background")
        at = tty.until("Message, or /help", at)
        at = tty.until("connected", at)
        tty.type("/read_file file_path=a.txt\r")
        at = tty.until("hello from the file", at)
        tty.type("/help\r")
        at = tty.until("/agent NAME", at)
        tty.type("/quit\r")
        assert tty.end() == 0
        assert "\x1b[?1049l" in tty.seen, "the screen that was there before is there again"
        assert "The daemon goes on in the background" in tty.words[at:]
        assert "Traceback" not in tty.words
        assert _COLOUR.search(tty.seen), "on a terminal with colours there are some"


@pytest.mark.spec("GC-TUI-017")
def test_no_colour_is_sent_where_none_is_wanted(home: Path) -> None:
    with terminal(home, {"NO_COLOR": "1"}) as tty:
        at = tty.until("connected")
        tty.type('/exec {"argv":["rm"]}\r')
        tty.until("denied", at)
        tty.type("\x03\x03")
        assert tty.end() == 0
        assert _COLOUR.findall(tty.seen) == []


@pytest.mark.spec("GC-TUI-019")
def test_a_terminated_chat_puts_the_terminal_back_in_order(home: Path) -> None:
    with terminal(home, {}) as tty:
        tty.until("connected")
        tty.process.terminate()
        assert tty.end() == 143
        assert "\x1b[?1049l" in tty.seen
        assert "\x1b[?25h" in tty.seen[tty.seen.rfind("\x1b[?1049l") - 200 :], "the cursor is visible again"


@pytest.mark.spec("GC-TUI-020")
def test_a_chat_ends_with_its_terminal(home: Path) -> None:
    with terminal(home, {}) as tty:
        tty.until("connected")
        tty.close()
        assert tty.process.wait(PATIENCE_S) != 0
