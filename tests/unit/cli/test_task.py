"""`goclaw task` says to the daemon what was said to it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.cli.conftest import Goclaw
from tests.unit.client.conftest import FakeDaemon, Peer, Refusal

TASK = {
    "id": "t",
    "kind": "noop",
    "state": "SUCCEEDED",
    "agent_id": "default",
    "attempt": 1,
    "max_attempts": 3,
    "created_at": 1_789_948_800_000,
    "payload": {},
}


def _answers(daemon: FakeDaemon, method: str, result: Any) -> None:
    async def answer(_: Peer, params: dict[str, Any]) -> Any:
        return result

    daemon.on(method, answer)


async def test_submit_sends_exactly_what_was_said(goclaw: Goclaw, daemon: FakeDaemon) -> None:
    _answers(daemon, "task.submit", {"task_id": "t", "session_id": None, "state": "QUEUED", "deduplicated": False})
    words = [
        "--kind",
        "exec",
        "--session",
        "s",
        "--agent",
        "a",
        "--key",
        "k",
        "--priority",
        "3",
        "--delay",
        "1.5",
        "--max-attempts",
        "2",
        "--timeout",
        "4",
    ]
    ended = await goclaw("task", "submit", *words, "--", "ls", "-l", "--json")
    assert (ended.code, ended.out) == (0, "t\n")
    assert daemon.params_of("task.submit") == [
        {
            "kind": "exec",
            "payload": {"argv": ["ls", "-l", "--json"]},
            "session_id": "s",
            "agent_id": "a",
            "idempotency_key": "k",
            "priority": 3,
            "delay_ms": 1500,
            "max_attempts": 2,
            "timeout_ms": 4000,
        }
    ]


async def test_a_payload_may_come_from_a_file(goclaw: Goclaw, daemon: FakeDaemon, tmp_path: Any) -> None:
    _answers(daemon, "task.submit", {"task_id": "t", "session_id": None, "state": "QUEUED", "deduplicated": True})
    (tmp_path / "p.json").write_text('{"result": 1}')
    ended = await goclaw("task", "submit", "--kind", "noop", "--payload", f"@{tmp_path / 'p.json'}")
    assert daemon.params_of("task.submit")[0]["payload"] == {"result": 1}
    assert "known by its key" in ended.err


@pytest.mark.parametrize("payload", ["{", "[1]", '{"a": NaN}', "@/nowhere/at/all"])
async def test_a_payload_that_is_no_object_is_a_usage_error(goclaw: Goclaw, payload: str) -> None:
    ended = await goclaw("task", "submit", "--kind", "noop", "--payload", payload)
    assert ended.code == 2
    assert "--payload" in ended.err


async def test_a_program_is_for_exec_only(goclaw: Goclaw) -> None:
    assert (await goclaw("task", "submit", "--kind", "noop", "--", "ls")).code == 2


@pytest.mark.spec("GC-RUN-103")
async def test_submit_and_wait_ends_with_the_code_of_the_task(goclaw: Goclaw, daemon: FakeDaemon) -> None:
    _answers(daemon, "task.submit", {"task_id": "t", "session_id": None, "state": "QUEUED", "deduplicated": False})
    _answers(daemon, "task.wait", TASK | {"state": "FAILED", "error_code": "POLICY_DENIED", "error": "no"})
    ended = await goclaw("task", "submit", "--kind", "noop", "--wait", "--json")
    assert ended.code == 5
    assert json.loads(ended.out)["error"] == "no"


@pytest.mark.spec("GC-RUN-101")
async def test_list_prints_a_table_or_one_json_document_on_one_line(goclaw: Goclaw, daemon: FakeDaemon) -> None:
    page = {"tasks": [TASK], "next_cursor": "5"}
    _answers(daemon, "task.list", page)
    plain = await goclaw("task", "list", "--state", "succeeded", "--limit", "1", "--since", "1789948800000")
    assert plain.out.splitlines()[0].split() == ["ID", "KIND", "STATE", "ATTEMPT", "AGENT", "CREATED", "NOTE"]
    assert plain.out.splitlines()[1].split()[:4] == ["t", "noop", "SUCCEEDED", "1/3"]
    shown = await goclaw("task", "list", "--json")
    assert json.loads(shown.out) == page
    assert shown.out.count("\n") == 1
    assert daemon.params_of("task.list")[0] == {"state": "SUCCEEDED", "since": 1789948800000, "limit": 1}


async def test_an_error_of_the_daemon_is_told_in_its_words(goclaw: Goclaw, daemon: FakeDaemon) -> None:
    async def get(_: Peer, params: dict[str, Any]) -> Any:
        raise Refusal(4040, "there is no task x", code="NOT_FOUND")

    daemon.on("task.get", get)
    ended = await goclaw("task", "show", "x", "--json")
    assert (ended.code, ended.out, ended.err) == (6, "", "goclaw: there is no task x\n")


async def test_a_wrong_token_is_exit_code_4(
    goclaw: Goclaw, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOCLAW_AUTH_TOKEN", "another")
    assert (await goclaw("task", "list")).code == 4


async def test_retry_wants_one_task_or_all_with_a_filter(goclaw: Goclaw, daemon: FakeDaemon) -> None:
    _answers(daemon, "task.retry_many", {"count": 2, "skipped": 0, "refused": []})
    assert (await goclaw("task", "retry")).code == 2
    assert (await goclaw("task", "retry", "--all")).code == 2
    assert (await goclaw("task", "retry", "t", "--all", "--kind", "noop")).code == 2
    ended = await goclaw("task", "retry", "--all", "--kind", "noop")
    assert (ended.code, daemon.params_of("task.retry_many")) == (0, [{"kind": "noop"}])


async def test_a_cancel_that_came_too_late_is_exit_code_1(goclaw: Goclaw, daemon: FakeDaemon) -> None:
    _answers(daemon, "task.cancel", {"canceled": False, "state": "SUCCEEDED"})
    ended = await goclaw("task", "cancel", "t", "--reason", "enough")
    assert (ended.code, daemon.params_of("task.cancel")) == (1, [{"task_id": "t", "reason": "enough"}])


def _event(number: int, kind: str, before: str | None, after: str | None) -> dict[str, Any]:
    return {
        "event_id": number,
        "event_type": kind,
        "task_id": "t",
        "session_id": None,
        "state_from": before,
        "state_to": after,
        "run_id": None,
        "trace_id": None,
        "payload": {},
        "created_at": 1,
    }


async def test_watch_shows_what_was_and_what_comes_until_the_end(goclaw: Goclaw, daemon: FakeDaemon) -> None:
    _answers(daemon, "task.events", {"events": [_event(3, "task.enqueued", None, "QUEUED")]})
    _answers(daemon, "task.get", TASK)

    async def subscribe(peer: Peer, params: dict[str, Any]) -> Any:
        await peer.notify("session.event", _event(4, "task.claimed", "QUEUED", "CLAIMED"))
        await peer.notify("session.event", _event(5, "task.succeeded", "RUNNING", "SUCCEEDED") | {"task_id": "other"})
        await peer.notify("session.event", _event(6, "task.succeeded", "RUNNING", "SUCCEEDED"))
        return {"subscribed": True, "replayed": 3, "latest_event_id": 6}

    daemon.on("session.events.subscribe", subscribe)
    ended = await goclaw("task", "watch", "t", "--json")
    assert ended.code == 0
    assert [json.loads(line)["event_id"] for line in ended.out.splitlines()] == [3, 4, 6]
    assert daemon.params_of("session.events.subscribe")[0]["from_event_id"] == 3


async def test_watch_of_a_task_at_rest_ends_at_once(goclaw: Goclaw, daemon: FakeDaemon) -> None:
    _answers(daemon, "task.events", {"events": [_event(3, "task.failed", "RUNNING", "FAILED")]})
    _answers(daemon, "task.get", TASK | {"state": "FAILED"})
    assert (await goclaw("task", "watch", "t")).code == 1
