"""`goclaw ask`: what is sent, and what stands on stdout in the end."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.conftest import Goclaw
from tests.unit.client.conftest import FakeDaemon, Peer

DONE = {"id": "t", "state": "SUCCEEDED", "result": {"text": "Hello there"}}


@pytest.fixture
def talking(daemon: FakeDaemon) -> FakeDaemon:
    """A daemon that answers every turn with `Hello there`."""

    async def ping(_: Peer, params: dict[str, Any]) -> Any:
        return {}

    async def chat(_: Peer, params: dict[str, Any]) -> Any:
        return {"task_id": "t", "session_id": "s", "deduplicated": False}

    async def done(_: Peer, params: dict[str, Any]) -> Any:
        return DONE

    for method, answer in (
        ("system.ping", ping),
        ("agent.chat", chat),
        ("task.wait", done),
        ("task.get", done),
    ):
        daemon.on(method, answer)
    return daemon


def _streams(daemon: FakeDaemon, *pieces: tuple[str, bool]) -> None:
    async def stream(peer: Peer, params: dict[str, Any]) -> Any:
        for number, (content, reset) in enumerate(pieces):
            told = {"task_id": "t", "session_id": "s", "seq": number, "content": content, "reset": reset}
            await peer.notify("agent.delta", told)
        return {"task_id": "t", "session_id": "s", "state": "SUCCEEDED", "result": DONE["result"]}

    daemon.on("agent.chat.stream", stream)


@pytest.mark.spec("GC-RUN-106")
async def test_the_answer_and_nothing_else_goes_to_stdout(goclaw: Goclaw, talking: FakeDaemon) -> None:
    ended = await goclaw("ask", "-a", "anna", "-s", "s", "-m", "big", "how", "are", "you?")
    assert (ended.code, ended.out, ended.err) == (0, "Hello there\n", "")
    (sent,) = talking.params_of("agent.chat")
    assert sent.pop("idempotency_key").startswith("ask-")
    assert sent == {"content": "how are you?", "agent_id": "anna", "session_id": "s", "model": "big"}


async def test_a_dash_reads_stdin_and_files_are_appended_as_such(
    goclaw: Goclaw, talking: FakeDaemon, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("Sum it up.\n"))
    file = tmp_path / "notes.txt"
    file.write_text("one\ntwo\n")
    await goclaw("ask", "--file", str(file), "-")
    content = talking.params_of("agent.chat")[0]["content"]
    assert content == f"Sum it up.\n\n--- file: {file} ---\none\ntwo\n--- end of file: {file} ---"


@pytest.mark.parametrize("words", [["   "], ["--file", "/nowhere/at/all", "x"]])
async def test_nothing_to_ask_is_a_usage_error_before_any_daemon_is_needed(goclaw: Goclaw, words: list[str]) -> None:
    assert (await goclaw("ask", *words)).code == 2


async def test_json_prints_the_whole_task(goclaw: Goclaw, talking: FakeDaemon) -> None:
    ended = await goclaw("ask", "--json", "hi")
    assert json.loads(ended.out) == DONE


@pytest.mark.spec("GC-RUN-103")
async def test_a_turn_that_fails_says_why_and_prints_no_answer(goclaw: Goclaw, talking: FakeDaemon) -> None:
    async def failed(_: Peer, params: dict[str, Any]) -> Any:
        return {"id": "t", "state": "FAILED", "error": "no model", "error_code": "NO_PROVIDER"}

    talking.on("task.wait", failed)
    ended = await goclaw("ask", "hi")
    assert (ended.code, ended.out, ended.err) == (8, "", "goclaw: no model (NO_PROVIDER)\n")


async def test_a_streamed_answer_is_printed_once(goclaw: Goclaw, talking: FakeDaemon) -> None:
    _streams(talking, ("Hello ", False), ("there", False))
    ended = await goclaw("ask", "--stream", "hi")
    assert (ended.code, ended.out) == (0, "Hello there\n")


async def test_a_tail_that_was_lost_on_the_way_is_printed_in_the_end(goclaw: Goclaw, talking: FakeDaemon) -> None:
    _streams(talking, ("Hello ", False))
    assert (await goclaw("ask", "--stream", "hi")).out == "Hello there\n"


async def test_an_answer_that_starts_over_is_printed_whole(goclaw: Goclaw, talking: FakeDaemon) -> None:
    _streams(talking, ("Good ev", False), ("Hello there", True))
    ended = await goclaw("ask", "--stream", "hi")
    assert ended.out.endswith("Hello there\n")
    assert "starts over" in ended.err


async def test_without_any_delta_the_answer_is_printed_still(goclaw: Goclaw, talking: FakeDaemon) -> None:
    _streams(talking)
    assert (await goclaw("ask", "--stream", "hi")).out == "Hello there\n"


async def test_an_answer_cannot_steer_the_terminal(goclaw: Goclaw, talking: FakeDaemon) -> None:
    async def done(_: Peer, params: dict[str, Any]) -> Any:
        return {"id": "t", "state": "SUCCEEDED", "result": {"text": "a\x1b[2Jb\tc\nd"}}

    talking.on("task.wait", done)
    assert (await goclaw("ask", "hi")).out == "a\ufffd[2Jb\tc\nd\n"
