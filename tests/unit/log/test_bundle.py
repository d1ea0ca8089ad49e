"""What goes into a bundle, and how much of it."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest

from goclaw.log import bundle
from goclaw.log.bundle import Lines, pack, pick_lines, thin_out


def line(**fields: Any) -> str:
    return json.dumps({"timestamp": 100, "level": "info", "msg": "m", **fields})


@pytest.mark.spec("GC-DATA-333")
def test_the_lines_of_the_ids_and_the_loud_ones_of_the_time_belong(tmp_path: Path) -> None:
    (tmp_path / "system.jsonl.1").write_text(line(task_id="t", msg="a") + "\n")
    os.utime(tmp_path / "system.jsonl.1", (1, 1))
    others = [line(level="error", msg="b"), line(level="error", timestamp=999), line(level="info"), "torn {"]
    (tmp_path / "system.jsonl").write_text("\n".join([*others, line(session_id="s", msg="c"), "[1]"]) + "\n")
    found = pick_lines(tmp_path, Lines(ids={"t", "s"}, since=50, until=150))
    assert [one["msg"] for one in found] == ["a", "b", "c"]


@pytest.mark.spec("GC-DATA-333")
def test_a_bundle_is_private_bounded_and_says_what_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "MAX_BYTES", 120)
    rows = [{"n": number, "text": "secret"} for number in range(10)]

    def redact(value: Any) -> Any:
        return json.loads(json.dumps(value).replace("secret", "***"))

    path = tmp_path / "made" / "b.zip"
    manifest = pack(path, {"rows": rows, "none": []}, {"about": "secret"}, redact)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    with zipfile.ZipFile(path) as made:
        body = made.read("rows.jsonl")
        assert json.loads(made.read("manifest.json")) == manifest
    assert len(body) <= 120
    told = manifest["files"][0]
    assert told == {
        "name": "rows.jsonl",
        "rows": len(body.splitlines()),
        "bytes": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
        "truncated": True,
    }
    assert 0 < told["rows"] < 10
    assert manifest["about"] == "***"
    assert b"secret" not in body


@pytest.mark.spec("GC-DATA-333")
def test_a_bundle_that_cannot_be_finished_leaves_nothing(tmp_path: Path) -> None:
    def broken(_: Any) -> Any:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        pack(tmp_path / "b.zip", {"rows": [{}]}, {}, broken)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.spec("GC-DATA-333")
def test_the_newest_bundles_stay(tmp_path: Path) -> None:
    for number in range(25):
        path = tmp_path / f"incident-{number:02}.zip"
        path.touch()
        os.utime(path, (number, number))
    (tmp_path / "mine.zip").touch()
    thin_out(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir())[:2] == ["incident-05.zip", "incident-06.zip"]
    assert (tmp_path / "mine.zip").exists()
