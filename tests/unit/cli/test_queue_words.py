"""The words of the command line for the queue: what they send, print and end with."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from goclaw.cli.batches import BATCH, BATCH_BYTES, submissions
from goclaw.errors import BadRequest
from tests.unit.cli.conftest import Goclaw
from tests.unit.client.conftest import FakeDaemon, Peer, Refusal

pytestmark = pytest.mark.spec("GC-QUE-421")


def answers(daemon: FakeDaemon, method: str, result: Any) -> None:
    async def answer(_: Peer, params: dict[str, Any]) -> Any:
        if isinstance(result, Exception):
            raise result
        return result(params) if callable(result) else result

    daemon.on(method, answer)


def stored(params: dict[str, Any]) -> dict[str, Any]:
    """What task.submit_many answers: ids after the payload of each task."""
    one = [{"task_id": f"t{task['payload']['result']}", "state": "QUEUED"} for task in params["tasks"]]
    return {"results": one}


def lines(count: int, first: int = 0) -> str:
    return "".join(json.dumps({"kind": "noop", "payload": {"result": n}}) + "\n" for n in range(first, first + count))


async def test_submit_names_its_keys_and_its_deadline(goclaw: Goclaw, daemon: FakeDaemon) -> None:
    answers(daemon, "task.submit", {"task_id": "t", "session_id": None, "state": "QUEUED", "deduplicated": False})
    words = ["--concurrency-key", "deploy", "--unique-key", "nightly", "--deadline", "60"]
    assert (await goclaw("task", "submit", "--kind", "noop", *words)).code == 0
    (sent,) = daemon.params_of("task.submit")
    assert (sent["concurrency_key"], sent["unique_key"], sent["deadline_ms"]) == ("deploy", "nightly", 60_000)


async def test_snooze_says_until_when(goclaw: Goclaw, daemon: FakeDaemon) -> None:
    answers(daemon, "task.snooze", {"id": "t", "state": "QUEUED", "available_at": 1_789_948_800_000})
    ended = await goclaw("task", "snooze", "t", "--delay", "90")
    assert (ended.code, daemon.params_of("task.snooze")) == (0, [{"task_id": "t", "delay_ms": 90_000}])
    assert "waits until 2026-" in ended.err
    assert json.loads((await goclaw("task", "snooze", "t", "--delay", "90", "--json")).out)["id"] == "t"
    answers(daemon, "task.snooze", Refusal(4090, "a RUNNING task cannot be snoozed", code="CONFLICT"))
    assert (await goclaw("task", "snooze", "t", "--delay", "90")).code == 1
    assert (await goclaw("task", "snooze", "t", "--delay", "-1")).code == 2
    assert (await goclaw("task", "snooze", "t")).code == 2


async def test_retry_of_several_says_which_could_not_be(goclaw: Goclaw, daemon: FakeDaemon) -> None:
    refused = [{"task_id": "b", "code": "CONFLICT", "message": "a QUEUED task cannot be retried"}]
    answers(daemon, "task.retry_many", {"count": 1, "skipped": 1, "refused": refused})
    ended = await goclaw("task", "retry", "a", "b")
    assert (ended.code, daemon.params_of("task.retry_many")) == (1, [{"task_ids": ["a", "b"]}])
    assert "1 tasks are queued again, 1 could not be" in ended.err
    assert ended.out.splitlines()[1].split(maxsplit=1) == ["b", "a QUEUED task cannot be retried"]
    assert (await goclaw("task", "retry", "--all", "--state", "failed")).code == 0, "those that match and can be"


async def test_cancel_counts_what_stood_below(goclaw: Goclaw, daemon: FakeDaemon) -> None:
    answers(daemon, "task.cancel", {"canceled": True, "state": "CANCELED", "descendants": 3})
    assert (await goclaw("task", "cancel", "t")).err == "canceled, and 3 below it\n"


@pytest.mark.parametrize(
    ("words", "params"),
    [
        ([], {"scope": "all"}),
        (["--agent", "a"], {"scope": "agent", "agent_id": "a"}),
        (["--kind", "chat"], {"scope": "kind", "kind": "chat"}),
    ],
)
async def test_pause_and_resume_name_a_scope(
    goclaw: Goclaw, daemon: FakeDaemon, words: list[str], params: dict[str, Any]
) -> None:
    name = params.get("agent_id") or params.get("kind") or ""
    answer = {"paused": True, "scope": params["scope"], "name": name, "killed": 2}
    answers(daemon, "system.pause", answer)
    answers(daemon, "system.resume", answer | {"paused": False})
    ended = await goclaw("pause", *words, "--kill")
    assert (ended.code, daemon.params_of("system.pause")) == (0, [params | {"kill": True}])
    assert "2 tasks were ended" in ended.err
    assert json.loads((await goclaw("resume", *words, "--json")).out)["paused"] is False
    assert daemon.params_of("system.resume") == [params]
    assert (await goclaw("pause", "--agent", "a", "--kind", "k")).code == 2


async def test_many_are_sent_in_batches_and_their_ids_printed(
    goclaw: Goclaw, daemon: FakeDaemon, tmp_path: Path
) -> None:
    answers(daemon, "task.submit_many", stored)
    (tmp_path / "work.jsonl").write_text(lines(2) + "\n" + lines(BATCH, 2))
    ended = await goclaw("task", "submit-many", str(tmp_path / "work.jsonl"))
    assert (ended.code, ended.out.split()) == (0, [f"t{n}" for n in range(BATCH + 2)])
    assert [len(sent["tasks"]) for sent in daemon.params_of("task.submit_many")] == [BATCH, 2]
    (tmp_path / "few.jsonl").write_text(lines(2))
    shown = await goclaw("task", "submit-many", str(tmp_path / "few.jsonl"), "--json")
    assert [json.loads(line)["task_id"] for line in shown.out.splitlines()] == ["t0", "t1"]


async def test_many_may_come_from_stdin(goclaw: Goclaw, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(daemon, "task.submit_many", stored)
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines(3)))
    assert (await goclaw("task", "submit-many", "-")).out.split() == ["t0", "t1", "t2"]
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    ended = await goclaw("task", "submit-many", "-")
    assert (ended.code, ended.out) == (0, "")


@pytest.mark.parametrize("bad", ["{", "[1]", "7", '{"kind": "noop"} x'])
async def test_a_line_that_is_no_object_is_named_and_its_batch_not_sent(
    goclaw: Goclaw, daemon: FakeDaemon, tmp_path: Path, bad: str
) -> None:
    answers(daemon, "task.submit_many", stored)
    (tmp_path / "work.jsonl").write_text(lines(2) + bad + "\n")
    ended = await goclaw("task", "submit-many", str(tmp_path / "work.jsonl"))
    assert (ended.code, ended.out) == (2, "")
    assert "line 3" in ended.err
    assert "nothing was stored" in ended.err
    assert daemon.params_of("task.submit_many") == []
    assert (await goclaw("task", "submit-many", str(tmp_path / "missing"))).code == 2


async def test_a_refusal_names_the_line_and_what_was_stored_before(
    goclaw: Goclaw, daemon: FakeDaemon, tmp_path: Path
) -> None:
    def refuse_the_second(params: dict[str, Any]) -> Any:
        if len(params["tasks"]) < BATCH:
            raise Refusal(4290, "the queue is full", code="SATURATED", index=1, retryable=True)
        return stored(params)

    answers(daemon, "task.submit_many", refuse_the_second)
    (tmp_path / "work.jsonl").write_text(lines(BATCH) + "\n" + lines(3, BATCH))
    ended = await goclaw("task", "submit-many", str(tmp_path / "work.jsonl"))
    assert (ended.code, len(ended.out.split())) == (1, BATCH)
    assert f"line {BATCH + 3}: the queue is full" in ended.err
    assert f"{BATCH} tasks were stored" in ended.err


def test_a_batch_stays_below_the_largest_frame(tmp_path: Path) -> None:
    large = json.dumps({"kind": "noop", "payload": {"result": "x" * (BATCH_BYTES // 2)}}) + "\n"
    (tmp_path / "work.jsonl").write_text(large * 3)
    assert [len(batch) for batch in submissions(str(tmp_path / "work.jsonl"))] == [1, 1, 1]
    (tmp_path / "binary").write_bytes(b"\xff\xfe\n")
    with pytest.raises(BadRequest, match="UTF-8"):
        list(submissions(str(tmp_path / "binary")))
