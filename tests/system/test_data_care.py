"""Retention, purge, export, incidents and space as a user meets them: with a real daemon and the real command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from goclaw.policy.live import write_starter
from goclaw.store import chains, retention
from goclaw.store.retention import Due
from tests.fakes_clock import START
from tests.fakes_rows import DAY, Rows
from tests.scratch import commit, reopen, scratch
from tests.system.running import REPOSITORY, RpcFailed, RunningDaemon
from tests.system.speaking import speak

CANARY = "canary-of-the-data-tests"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def daemon(home: Path) -> Iterator[RunningDaemon]:
    with RunningDaemon(home) as running:
        yield running


def goclaw(home: Path, *words: str, bind: str | None = None) -> subprocess.CompletedProcess[str]:
    flags = [] if bind is None else ["--bind", bind.removeprefix("http://")]
    return subprocess.run(
        [sys.executable, "-m", "goclaw", "--home", str(home), *flags, *words],
        cwd=REPOSITORY,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def say(daemon: RunningDaemon, session: str, text: str) -> Any:
    asked = daemon.call("agent.chat", session_id=session, content=text)
    return daemon.wait(asked["task_id"])


def holding(folder: Path, word: str) -> list[str]:
    """Files under a folder in whose bytes the word stands."""
    found = [path for path in folder.rglob("*") if path.is_file() and word.encode() in path.read_bytes()]
    return sorted(path.relative_to(folder).as_posix() for path in found)


@pytest.mark.spec("GC-DATA-327")
def test_after_a_purge_no_file_of_the_home_holds_a_word_of_the_session(daemon: RunningDaemon) -> None:
    (daemon.home / "workspace" / "notes.txt").write_text("nothing\n")
    say(daemon, f"chat-{CANARY}", f"/grep pattern={CANARY}")
    failed = say(daemon, f"chat-{CANARY}", f"plain words {CANARY}")
    say(daemon, "other", "/grep pattern=harmless")
    assert failed["state"] == "FAILED"
    assert holding(daemon.home, CANARY)
    told = daemon.call("session.purge", session_id=f"chat-{CANARY}")
    assert (told["purged"], told["scrubbed"], told["found"]) == (True, True, 0)
    assert told["rows"]["tasks"] == 2
    assert told["samples"] > 0
    assert holding(daemon.home, CANARY) == []
    assert daemon.call("session.history", session_id="other")["items"][0]["text"].startswith("/grep")
    with pytest.raises(RpcFailed) as caught:
        daemon.call("task.retry", task_id=failed["id"])
    assert caught.value.error["code"] == 4090
    assert daemon.call("task.get", task_id=failed["id"])["payload"] == {}
    types = [event["event_type"] for event in daemon.call("task.events", task_id=failed["id"])["events"]]
    assert types[-1] == "task.failed"
    assert daemon.stop() == 0
    assert holding(daemon.home, CANARY) == []
    with closing(reopen(daemon.home / "goclaw.db")) as conn:
        assert chains.first_break(conn) is None


@pytest.mark.spec("GC-DATA-323")
def test_a_session_at_work_is_not_purged(daemon: RunningDaemon) -> None:
    task = daemon.call("task.submit", kind="noop", payload={"sleep_ms": 60_000}, session_id="s")
    with pytest.raises(RpcFailed) as caught:
        daemon.call("session.purge", session_id="s")
    assert (caught.value.error["code"], caught.value.error["data"]["task_id"]) == (4090, task["task_id"])
    daemon.call("task.cancel", task_id=task["task_id"])
    assert daemon.call("session.purge", session_id="s")["rows"]["tasks"] == 1
    with pytest.raises(RpcFailed) as caught:
        daemon.call("session.purge", session_id="s")
    assert caught.value.error["code"] == 4040


@pytest.mark.spec("GC-DATA-329")
def test_a_session_is_exported_page_by_page_as_json_and_as_markdown(daemon: RunningDaemon, tmp_path: Path) -> None:
    for number in range(3):
        say(daemon, "s", f"/grep pattern=word{number}")
    pages: list[Any] = []
    cursor: dict[str, str] = {}
    while not pages or cursor:
        page = daemon.call("session.export", session_id="s", limit=5, **cursor)
        pages += page["items"]
        cursor = {"cursor": page["next_cursor"]} if "next_cursor" in page else {}
    assert [one["id"] for one in pages] == sorted(one["id"] for one in pages)
    assert len(pages) == 12
    url = daemon.url
    done = goclaw(daemon.home, "session", "export", "s", bind=url)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[0]["session"]["id"] == "s"
    assert lines[1:] == pages
    page_file = tmp_path / "page.md"
    assert goclaw(daemon.home, "session", "export", "s", "--markdown", "-o", str(page_file), bind=url).returncode == 0
    text = page_file.read_text()
    assert text.startswith("# Session s\n")
    assert text.count("\n## user, ") == 3
    assert text.count("```") == 2 * text.count("```json")
    assert page_file.stat().st_mode & 0o777 == 0o600
    assert "File exists" in goclaw(daemon.home, "session", "export", "s", "-o", str(page_file), bind=url).stderr
    for params in ({"limit": 0}, {"limit": 501}, {"cursor": "x"}):
        with pytest.raises(RpcFailed) as caught:
            daemon.call("session.export", session_id="s", **params)
        assert caught.value.error["code"] == -32602


@pytest.mark.spec("GC-DATA-329")
def test_purge_on_the_command_line_asks_first(daemon: RunningDaemon) -> None:
    say(daemon, "s", "/grep pattern=word")
    asked = goclaw(daemon.home, "session", "purge", "s", bind=daemon.url)
    assert asked.returncode != 0
    assert daemon.call("session.get", session_id="s")["id"] == "s"
    done = goclaw(daemon.home, "session", "purge", "s", "--yes", "--json", bind=daemon.url)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["scrubbed"]


def unpacked(path: str | Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as bundle:
        assert bundle.testzip() is None
        whole = {name: bundle.read(name).decode() for name in bundle.namelist()}
    return {
        name: json.loads(text) if name == "manifest.json" else [json.loads(line) for line in text.splitlines()]
        for name, text in whole.items()
    }


@pytest.mark.spec("GC-DATA-332")
def test_an_incident_is_one_private_file_without_secrets_and_without_content(home: Path, tmp_path: Path) -> None:
    key = "sk-" + "a1B2" * 8
    with RunningDaemon(home) as daemon:
        failed = say(daemon, "s", f"{CANARY} and {key}")
        told = daemon.call("incident.export", task_id=failed["id"])
        assert os.stat(told["path"]).st_mode & 0o777 == 0o600
        plain = unpacked(told["path"])
        assert CANARY not in json.dumps(plain)
        assert [row["id"] for row in plain["tasks.jsonl"]] == [failed["id"]]
        assert [row["event_type"] for row in plain["events.jsonl"]][-1] == "task.failed"
        assert plain["steps.jsonl"]
        assert any(line.get("task_id") == failed["id"] for line in plain["log.jsonl"])
        assert plain["manifest.json"]["config_hash"] == daemon.call("system.status")["config_hash"]
        full = unpacked(daemon.call("incident.export", session_id="s", with_content=True)["path"])
        assert CANARY in json.dumps(full)
        assert key not in json.dumps(full)
        for params in ({}, {"task_id": "a", "since": 1}, {"until": 5, "task_id": "a"}, {"since": 5, "until": 4}):
            with pytest.raises(RpcFailed) as caught:
                daemon.call("incident.export", **params)
            assert caught.value.error["code"] == -32602
        with pytest.raises(RpcFailed) as caught:
            daemon.call("incident.export", task_id="never")
        assert caught.value.error["code"] == 4040
        by_line = goclaw(home, "incident", "export", failed["id"], str(tmp_path / "a.zip"), bind=daemon.url)
        assert by_line.returncode == 0, by_line.stderr
    alone = goclaw(home, "incident", "export", "--since", "1h", str(tmp_path / "b.zip"))
    assert alone.returncode == 0, alone.stderr
    offline = unpacked(tmp_path / "b.zip")
    assert [row["id"] for row in offline["tasks.jsonl"]] == [failed["id"]]
    assert offline["doctor.jsonl"]
    assert CANARY not in json.dumps(offline)
    assert unpacked(tmp_path / "a.zip")["doctor.jsonl"]


@pytest.mark.spec("GC-DATA-331")
async def test_a_cursor_below_what_was_removed_is_a_gap_and_one_at_it_is_not(home: Path) -> None:
    old = START - 100 * DAY
    write_starter(home / "policy.yaml")
    with closing(scratch(home / "goclaw.db")) as conn:
        rows = Rows(conn, old)
        kept = rows.task(at=old, state="FAILED")
        gone = [rows.task(at=old) for _ in range(3)]
        rows.event()
        commit(conn, retention.remove_tasks, gone, Due(before=START), START)
    with RunningDaemon(home) as daemon:
        async with speak(daemon) as client:
            for cursor in (1, 2, 7):
                with pytest.raises(RpcFailed) as caught:
                    await client.ask("session.events.subscribe", session_id="*", from_event_id=cursor)
                error = caught.value.error
                assert error["code"] == 4100
                assert (error["data"]["oldest_event_id"], error["data"]["resume_from"]) == (1, 8)
            resumed = await client.ask("session.events.subscribe", session_id="*", from_event_id=8)
            assert resumed["replayed"] > 0
        async with speak(daemon) as client:
            await client.ask("session.events.subscribe", session_id="*", from_event_id=0)
        status = daemon.call("system.status")["db"]
        assert status["removed_upto"] == 8
        assert kept == 1


@pytest.mark.spec("GC-DATA-330")
def test_compact_rewrites_a_database_that_nobody_serves_and_refuses_one_that_is_served(home: Path) -> None:
    write_starter(home / "policy.yaml")
    with closing(scratch(home / "goclaw.db")) as conn:
        rows = Rows(conn, START)
        conn.execute("BEGIN")
        for _ in range(50):
            rows.task(text="x" * 20_000)
        conn.execute("COMMIT")
        conn.execute("DELETE FROM step")
    done = goclaw(home, "compact", "--json")
    assert done.returncode == 0, done.stderr
    sizes = json.loads(done.stdout)
    assert sizes["after_bytes"] < sizes["before_bytes"] / 2
    with RunningDaemon(home) as daemon:
        refused = goclaw(home, "compact", bind=daemon.url)
        assert refused.returncode != 0
        assert "stop it first" in refused.stderr
        assert daemon.call("system.status")["db"]["file_bytes"] > 0


@pytest.mark.spec("GC-DATA-313")
def test_a_daemon_with_nothing_to_do_writes_nothing(daemon: RunningDaemon) -> None:
    say(daemon, "s", "/grep pattern=word")
    daemon.call("system.ping")

    def written() -> tuple[int, list[tuple[str, int, int]]]:
        about = Path(f"/proc/{daemon.pid}/io").read_text().splitlines()
        told = {line.split(": ")[0]: int(line.split(": ")[1]) for line in about}
        files = [
            (path.name, path.stat().st_size, path.stat().st_mtime_ns)
            for path in sorted(daemon.home.rglob("*"))
            # The index of the log is shared memory: the system writes it back when it likes.
            if path.is_file() and not path.name.endswith("-shm")
        ]
        return told["syscw"], files

    settled = wait_settled(written)
    assert settled == written()


def wait_settled(look: Any) -> Any:
    """What `look` says once it has said the same for a second: the last checkpoint is behind it."""
    import time

    before, since = look(), time.monotonic()
    while time.monotonic() - since < 1:
        time.sleep(0.05)
        now = look()
        if now != before:
            before, since = now, time.monotonic()
    return before
