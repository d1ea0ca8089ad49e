"""Programs run bounded, clean and watched, and nothing of them is left."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from goclaw.clock import SystemClock
from goclaw.core.tool import CallContext
from goclaw.errors import RecoveryFailed, ToolFailed
from goclaw.sandbox import sweep
from goclaw.sandbox.process import (
    ProcessResult,
    ProcessSandbox,
    ProcessSpec,
    find_program,
    is_plain_variable,
    kill_marked,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sweep reads /proc")


class Bench:
    """A sandbox with a mark of its own, and how to run scripts in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mark = f"test-{folder}"
        self.sandbox = ProcessSandbox(home_mark=self.mark, workspace=str(folder), clock=SystemClock())
        self.context = CallContext(
            task_id="task-1", session_id="s", agent_id="default", attempt=2, effect_key=f"key-{folder}"
        )

    def spec(self, *argv: str, **changes: Any) -> ProcessSpec:
        spec = ProcessSpec(
            program=find_program(argv[0]),
            argv=argv,
            cwd=str(self.folder),
            context=self.context,
            timeout_ms=60_000,
        )
        return replace(spec, **changes)

    async def run(self, *argv: str, **changes: Any) -> ProcessResult:
        with tempfile.TemporaryFile() as spool:
            return await self.sandbox.run(self.spec(*argv, **changes), spool)

    async def fifo_line(self, name: str) -> str:
        """What a script writes into the named pipe it was given."""
        async with asyncio.timeout(20):
            return await asyncio.to_thread((self.folder / name).read_text)

    def fifo(self, name: str) -> str:
        os.mkfifo(self.folder / name)
        return str(self.folder / name)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(Path(os.path.realpath(tmp_path)))


def is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except FileNotFoundError:
        return False
    return stat[stat.rindex(b")") + 2 :].split()[0] not in {b"Z", b"X"}


async def test_a_program_that_ends_by_itself_has_its_exit_code_and_both_streams(bench: Bench) -> None:
    result = await bench.run("sh", "-c", "echo out; echo err >&2; exit 3")
    assert (result.exit_code, result.signal, result.timed_out) == (3, None, False)
    assert (result.stdout.text, result.stderr.text) == ("out\n", "err\n")


async def test_a_program_killed_by_a_signal_has_no_exit_code(bench: Bench) -> None:
    result = await bench.run("sh", "-c", "kill -TERM $$")
    assert (result.exit_code, result.signal, result.timed_out) == (None, signal.SIGTERM, False)


@pytest.mark.spec("GC-SEC-121")
async def test_the_environment_is_the_allow_list_with_the_marks_and_no_secret(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret")
    result = await bench.run("env", env={"COLOR": "blue"})
    seen = dict(line.split("=", 1) for line in result.stdout.text.splitlines())
    assert seen == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(bench.folder),
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "COLOR": "blue",
        "GOCLAW_MARK": bench.mark,
        "GOCLAW_EFFECT_KEY": bench.context.effect_key,
        "GOCLAW_TASK_ID": "task-1",
        "GOCLAW_SESSION_ID": "s",
        "GOCLAW_ATTEMPT": "2",
    }


@pytest.mark.spec("GC-SEC-121")
async def test_no_descriptor_of_the_daemon_is_inherited_and_stdin_is_empty(bench: Bench) -> None:
    with tempfile.TemporaryFile() as secret:
        os.set_inheritable(secret.fileno(), True)
        result = await bench.run("sh", "-c", "cat; ls /proc/self/fd")
    # 3 is the folder that ls itself reads.
    assert result.stdout.text.split() == ["0", "1", "2", "3"]


async def test_a_program_that_takes_too_long_is_killed_and_what_it_said_is_kept(bench: Bench) -> None:
    result = await bench.run("sh", "-c", "trap '' TERM; echo begun; sleep 600", timeout_ms=300)
    assert (result.exit_code, result.signal, result.timed_out) == (None, signal.SIGKILL, True)
    assert result.stdout.text == "begun\n"


@pytest.mark.spec("GC-SEC-122")
async def test_a_grandchild_in_its_own_session_dies_at_the_time_limit(bench: Bench) -> None:
    pipe = bench.fifo("pid")
    script = f"setsid sh -c 'echo $$ > {pipe}; exec sleep 600' & sleep 600"
    running = asyncio.create_task(bench.run("sh", "-c", script, timeout_ms=1_500))
    pid = int(await bench.fifo_line("pid"))
    assert is_alive(pid)
    assert os.getsid(pid) == pid
    assert (await running).timed_out
    assert not is_alive(pid)


async def test_what_a_program_leaves_behind_dies_with_its_ordinary_end(bench: Bench) -> None:
    pipe = bench.fifo("pid")
    script = f"setsid sh -c 'echo $$ > {pipe}; exec sleep 600' & read line < {pipe}; echo $line"
    result = await bench.run("sh", "-c", script)
    assert result.exit_code == 0
    assert not is_alive(int(result.stdout.text))


@pytest.mark.spec("GC-SEC-122")
async def test_cancellation_leaves_nothing_running(bench: Bench) -> None:
    pipe = bench.fifo("pid")
    script = f"trap '' TERM; (setsid sh -c 'echo $$ > {pipe}; exec sleep 600' &); sleep 600"
    running = asyncio.create_task(bench.run("sh", "-c", script))
    pid = int(await bench.fifo_line("pid"))
    running.cancel()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not is_alive(pid)


async def test_a_child_that_dropped_its_environment_dies_while_its_parents_live(bench: Bench) -> None:
    pipe = bench.fifo("pid")
    script = f"env -i setsid sh -c 'echo $$ > {pipe}; exec sleep 600' & wait"
    running = asyncio.create_task(bench.run("sh", "-c", script))
    pid = int(await bench.fifo_line("pid"))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert not is_alive(pid)


@pytest.mark.spec("GC-SEC-124")
async def test_output_is_kept_head_and_tail_and_whole_in_the_spool(bench: Bench) -> None:
    with tempfile.TemporaryFile() as spool:
        result = await bench.sandbox.run(bench.spec("seq", "100000", output_cap=1_000), spool)
        spool.seek(0)
        whole = spool.read()
    expected = b"".join(b"%d\n" % i for i in range(1, 100_001))
    assert whole == expected
    assert result.spooled == result.stdout.total == len(expected)
    assert len(result.stdout.head) == len(result.stdout.tail) == 500
    assert result.stdout.text.startswith("1\n2\n")
    assert result.stdout.text.endswith("99999\n100000\n")
    assert f"[... {len(expected) - 1_000} bytes left out ...]" in result.stdout.text


async def test_the_spool_stops_growing_at_its_limit_and_the_program_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("goclaw.sandbox.process.SPOOL_CAP", 1_000)
    result = await bench.run("seq", "100000")
    assert (result.exit_code, result.spooled) == (0, 1_000)


async def test_the_working_folder_is_entered_only_without_links(bench: Bench, tmp_path: Path) -> None:
    (bench.folder / "real").mkdir()
    (bench.folder / "link").symlink_to(bench.folder / "real")
    result = await bench.run("pwd", cwd=str(bench.folder / "real"))
    assert result.stdout.text.strip() == str(bench.folder / "real")
    with pytest.raises(ToolFailed, match="cannot be opened"):
        await bench.run("pwd", cwd=str(bench.folder / "link"))


async def test_what_cannot_be_started_says_so(bench: Bench) -> None:
    broken = bench.folder / "broken"
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(0o755)
    with pytest.raises(ToolFailed, match="cannot be started"):
        await bench.run("true", program=str(broken))
    with pytest.raises(ToolFailed, match="no program"):
        find_program("no-such-program-here")
    with pytest.raises(ToolFailed, match="plain name or its absolute path"):
        find_program("./script")


@pytest.mark.parametrize(
    "name",
    ["LD_PRELOAD", "GOCLAW_MARK", "PATH", "BASH_ENV", "PYTHONPATH", "GIT_SSH_COMMAND", "a b", "", "1A", "A="],
)
def test_variables_that_steer_the_loader_or_forge_marks_are_refused(name: str) -> None:
    assert not is_plain_variable(name)


def test_plain_variables_are_accepted() -> None:
    assert is_plain_variable("COLOR")
    assert is_plain_variable("MY_SETTING_2")


def marked(mark: str, *argv: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(argv, env={"GOCLAW_MARK": mark, "PATH": "/usr/bin:/bin"}, start_new_session=True)


@pytest.mark.spec("GC-SEC-123")
async def test_recovery_kills_what_carries_this_home_mark_and_nothing_else(bench: Bench) -> None:
    ours = [marked(bench.mark, "sleep", "600") for _ in range(3)]
    other = marked(bench.mark + "-other", "sleep", "600")
    try:
        assert await kill_marked(bench.mark, SystemClock()) == sorted(process.pid for process in ours)
        assert not any(is_alive(process.pid) for process in ours)
        assert is_alive(other.pid)
    finally:
        other.kill()
        for process in [*ours, other]:
            process.wait()


async def test_recovery_with_nothing_left_kills_nothing(bench: Bench) -> None:
    assert await kill_marked(bench.mark, SystemClock()) == []


@pytest.mark.spec("GC-SEC-123")
async def test_recovery_names_the_processes_that_do_not_die(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    process = marked(bench.mark, "sleep", "600")
    try:
        monkeypatch.setattr(sweep, "_kill", lambda pids: None)
        with pytest.raises(RecoveryFailed, match=str(process.pid)) as caught:
            await kill_marked(bench.mark, SystemClock(), timeout_ms=20)
        assert caught.value.data["pids"] == [process.pid]
    finally:
        process.kill()
        process.wait()
