"""Lines on their way out."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from goclaw.log import AuditMirror
from goclaw.log import writer as module
from goclaw.log.writer import Entry, LineWriter, RotatingFile


def notice(count: int) -> Entry:
    return {"lost": count}


class Gathering:
    """A sink that a test can stop and break."""

    def __init__(self) -> None:
        self.written: list[Entry] = []
        self.broken = False
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.closed = False

    def write(self, entries: Sequence[Entry]) -> None:
        self.entered.set()
        assert self.gate.wait(10)
        if self.broken:
            raise OSError(28, "No space left on device")
        self.written += entries

    def close(self) -> None:
        self.closed = True


def test_entries_are_written_in_their_order_and_all_of_them_at_the_end() -> None:
    sink = Gathering()
    writer = LineWriter(notice, sink)
    for number in range(1_000):
        writer.put({"n": number})
    writer.close()
    writer.close()
    writer.put({"n": "too late"})
    assert [entry["n"] for entry in sink.written] == list(range(1_000))
    assert sink.closed


@pytest.mark.spec("GC-OBS-007")
def test_a_full_disk_costs_lines_that_are_counted_and_nothing_else() -> None:
    sink = Gathering()
    writer = LineWriter(notice, sink)
    sink.broken = True
    for _ in range(3):
        writer.put({"n": 1})
        assert writer.flush()
    sink.broken = False
    writer.put({"n": 2})
    writer.close()
    assert sink.written == [{"lost": 3}, {"n": 2}]


@pytest.mark.spec("GC-OBS-007")
def test_a_stopped_terminal_holds_nobody_up_and_what_is_dropped_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 5)
    sink = Gathering()
    sink.gate.clear()
    writer = LineWriter(notice, sink)
    writer.put({"n": 0})
    assert sink.entered.wait(10)
    for number in range(1, 20):
        writer.put({"n": number})
    assert not writer.flush(0)
    sink.gate.set()
    assert writer.flush()
    writer.put({"n": 99})
    writer.close()
    assert sink.written == [*({"n": number} for number in range(6)), {"lost": 14}, {"n": 99}]


def test_entries_that_are_gathered_are_written_together_and_a_close_does_not_wait_for_more() -> None:
    class Counting(Gathering):
        def write(self, entries: Sequence[Entry]) -> None:
            super().write([{"together": len(entries)}])

    sink = Counting()
    writer = LineWriter(notice, sink, gather_s=60.0)
    for number in range(3):
        writer.put({"n": number})
    writer.close()
    assert sink.written == [{"together": 3}]


def test_one_broken_sink_does_not_hurt_another() -> None:
    good, bad = Gathering(), Gathering()
    bad.broken = True
    writer = LineWriter(notice, bad, good)
    writer.put({"n": 1})
    writer.close()
    assert good.written == [{"n": 1}]


def entry(text: str) -> list[Entry]:
    return [{"m": text}]


@pytest.mark.spec("GC-OBS-008")
def test_a_file_rotates_by_size_and_the_oldest_goes(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    file = RotatingFile(path, max_bytes=100)
    for number in range(40):
        file.write(entry(f"{number:02d}" + "x" * 38))
    file.close()
    names = sorted(one.name for one in tmp_path.iterdir())
    assert names == ["x.jsonl", "x.jsonl.1", "x.jsonl.2", "x.jsonl.3", "x.jsonl.4"]
    assert all(one.stat().st_size <= 100 for one in tmp_path.iterdir())
    order = [*(f"{path}.{number}" for number in (4, 3, 2, 1)), str(path)]
    kept = [int(json.loads(line)["m"][:2]) for name in order for line in Path(name).read_text().splitlines()]
    assert kept == list(range(30, 40))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_goes_on_where_it_was_and_after_it_was_deleted(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    for text in ("one", "two"):
        file = RotatingFile(path)
        file.write(entry(text))
        file.close()
    file = RotatingFile(path)
    path.rename(tmp_path / "moved")
    file.write(entry("three"))
    (tmp_path / "x.jsonl").unlink()
    file.write(entry("four"))
    file.close()
    assert (tmp_path / "moved").read_text().count("\n") == 2
    assert json.loads(path.read_text()) == {"m": "four"}


def test_a_torn_line_does_not_spoil_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = RotatingFile(tmp_path / "x.jsonl")
    write = os.write
    monkeypatch.setattr("goclaw.log.writer.os.write", lambda fd, data: write(fd, data[:4]))
    with pytest.raises(OSError, match="only a part"):
        file.write(entry("one"))
    monkeypatch.undo()
    file.write(entry("two"))
    file.close()
    assert (tmp_path / "x.jsonl").read_text() == '{"m"\n{"m":"two"}\n'


def test_the_audit_mirror_is_json_lines(tmp_path: Path) -> None:
    mirror = AuditMirror(tmp_path / "audit.jsonl")
    rows: list[dict[str, Any]] = [{"id": 1, "what": "ü"}, {"id": 2, "what": None}]
    for row in rows:
        mirror.append(row)
    mirror.close()
    assert [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()] == rows


def test_a_mirror_whose_folder_is_gone_raises_nothing(tmp_path: Path) -> None:
    mirror = AuditMirror(tmp_path / "gone" / "audit.jsonl")
    mirror.append({"id": 1})
    mirror.close()


@pytest.mark.spec("GC-OBS-007")
def test_what_waits_is_written_when_the_process_ends(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from goclaw.log import AuditMirror\n"
        "mirror = AuditMirror(Path(sys.argv[1]))\n"
        "for n in range(5000): mirror.append({'n': n})\n"
        "sys.exit(3)"
    )
    path = tmp_path / "audit.jsonl"
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 3
    assert path.read_text().count("\n") == 5_000
