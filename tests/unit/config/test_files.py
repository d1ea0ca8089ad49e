"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from goclaw.config.files import write_new


def test_a_new_file_is_there_whole_private_and_without_a_trace_of_its_making(tmp_path: Path) -> None:
    assert write_new(tmp_path / "config.yaml", "a: 1\n")
    assert (tmp_path / "config.yaml").read_text() == "a: 1\n"
    assert (tmp_path / "config.yaml").stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["config.yaml"]


def test_a_name_that_is_taken_is_left_alone_also_by_a_link_to_nowhere(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").symlink_to(tmp_path / "nowhere")
    assert not write_new(tmp_path / "config.yaml", "a: 1\n")
    assert os.listdir(tmp_path) == ["config.yaml"]


@pytest.mark.spec("GC-REL-117")
def test_the_name_appears_only_when_the_content_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OSError, match="Input/output error"):
        write_new(tmp_path / "config.yaml", "a: 1\n")
    assert os.listdir(tmp_path) == []
