"""Lines about one who is forgotten are overwritten in place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from goclaw.log.blank import blank_lines


@pytest.mark.spec("GC-DATA-326")
def test_lines_of_the_ids_are_overwritten_where_they_stand_and_no_other(tmp_path: Path) -> None:
    lines = [
        '{"msg":"one","task_id":"t1","path":"/secret"}',
        '{"msg":"two","task_id":"t2"}',
        '{"msg":"three","session_id":"s","task_id":null}',
        "no json, but it says secret and t1",
        '{"msg":"four","trace_id":"t1"}',
    ]
    for name in ("audit.jsonl", "audit.jsonl.1", "daemon.out"):
        (tmp_path / name).write_text("\n".join(lines) + '\n{"msg":"torn","task_id":"t1"')
    size = (tmp_path / "audit.jsonl").stat().st_size
    assert blank_lines(tmp_path, {"t1", "s"}) == 6
    for name in ("audit.jsonl", "audit.jsonl.1", "daemon.out"):
        text = (tmp_path / name).read_text()
        assert len(text.encode()) == size
        found = text.split("\n")
        assert [json.loads(found[at])["msg"] for at in (0, 2)] == ["purged", "purged"]
        assert [found[at] for at in (1, 3, 4)] == [lines[1], lines[3], lines[4]]
    assert blank_lines(tmp_path, {"t1", "s"}) == 0


@pytest.mark.spec("GC-DATA-326")
def test_what_is_appended_meanwhile_is_not_touched(tmp_path: Path) -> None:
    file = tmp_path / "system.jsonl"
    with file.open("ab", buffering=0) as writer:
        writer.write(b'{"task_id":"t1","msg":"a long line about something"}\n')
        assert blank_lines(tmp_path, {"t1"}) == 1
        writer.write(b'{"task_id":"t2"}\n')
    assert [json.loads(line) for line in file.read_text().splitlines()] == [{"msg": "purged"}, {"task_id": "t2"}]
