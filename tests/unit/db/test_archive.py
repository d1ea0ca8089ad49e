"""The file of a backup: what is written comes back, and nothing else than that is taken."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from goclaw.db import archive
from goclaw.db.archive import ArchiveWriter, extract, read_body, read_members
from goclaw.errors import BackupDamaged, Conflict
from tests.fakes_clock import START


def written(*files: tuple[str, bytes]) -> io.BytesIO:
    out = io.BytesIO()
    writer = ArchiveWriter(out, START)
    for name, body in files:
        writer.add_bytes(name, body)
    writer.close()
    return out


def tar(*heads: tarfile.TarInfo, form: int = tarfile.USTAR_FORMAT) -> io.BytesIO:
    """A tar made by others."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as made:
        for head in heads:
            made.addfile(head, io.BytesIO(bytes(head.size)))
    return out


def info(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    head = tarfile.TarInfo(name)
    head.type, head.linkname = kind, link
    return head


@pytest.mark.spec("GC-DATA-210")
def test_what_was_written_comes_back_and_any_tar_can_list_it(tmp_path: Path) -> None:
    long = "skills/" + "/".join(["a" * 30] * 5) + "/run.sh"
    (tmp_path / "run.sh").write_bytes(b"#!/bin/sh\n")
    (tmp_path / "run.sh").chmod(0o755)
    out = io.BytesIO()
    writer = ArchiveWriter(out, START)
    for name, body in (("a.txt", b"one"), ("empty", b""), ("block", bytes(512)), ("süß.md", b"\xff" * 1000)):
        writer.add_bytes(name, body)
    writer.add(long, tmp_path / "run.sh")
    writer.close()
    members = list(read_members(out))
    assert [(one.name, one.size) for one in members] == [
        ("a.txt", 3), ("empty", 0), ("block", 512), ("süß.md", 1000), (long, 10),
    ]  # fmt: skip
    assert b"".join(read_body(out, members[3])) == b"\xff" * 1000
    extract(out, members[4], tmp_path / "x" / "run.sh")
    assert (tmp_path / "x" / "run.sh").read_bytes() == b"#!/bin/sh\n"
    assert (tmp_path / "x" / "run.sh").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o700
    out.seek(0)
    with tarfile.open(fileobj=out) as standard:
        assert standard.getnames() == [one.name for one in members]


@pytest.mark.spec("GC-DATA-211")
@pytest.mark.parametrize(
    "head",
    [
        info("/etc/passwd"),
        info("../outside"),
        info("skills/../../outside"),
        info("skills/./a"),
        info("skills//a"),
        info("skills\\a"),
        info("skills/\x1b[31m"),
        info("/".join(["a"] * 40)),
        info("skills", tarfile.DIRTYPE),
        info("skills/a", tarfile.SYMTYPE, "/etc/passwd"),
        info("skills/a", tarfile.LNKTYPE, "auth.token"),
        info("skills/a", tarfile.CHRTYPE),
        info("skills/a", tarfile.FIFOTYPE),
        info("skills/a", tarfile.CONTTYPE),
        info("skills/a", tarfile.GNUTYPE_SPARSE),
    ],
    ids=lambda head: repr((head.name[:20], head.type)),
)
def test_nothing_but_regular_files_with_ordinary_names_is_taken(head: tarfile.TarInfo) -> None:
    with pytest.raises(BackupDamaged):
        list(read_members(tar(head)))


@pytest.mark.spec("GC-DATA-211")
def test_extended_headers_and_doubled_names_are_refused() -> None:
    with pytest.raises(BackupDamaged):
        list(read_members(tar(info("ä" * 200), form=tarfile.PAX_FORMAT)))
    with pytest.raises(BackupDamaged):
        list(read_members(tar(info("a" * 200), form=tarfile.GNU_FORMAT)))
    with pytest.raises(BackupDamaged, match="twice"):
        list(read_members(written(("a", b"1"), ("b", b"2"), ("a", b"3"))))


@pytest.mark.spec("GC-DATA-211")
def test_the_number_of_files_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MOST_MEMBERS", 3)
    assert len(list(read_members(written(*((str(n), b"") for n in range(3)))))) == 3
    with pytest.raises(BackupDamaged, match="more than 3"):
        list(read_members(written(*((str(n), b"") for n in range(4)))))


@pytest.mark.spec("GC-DATA-211")
def test_an_archive_cut_off_anywhere_is_refused() -> None:
    whole = written(("a", b"x" * 700), ("b", b"y" * 10)).getvalue()
    content = len(whole) - 2 * archive.BLOCK
    for length in (0, 1, 511, 513, 800, 1024 + 512, content - archive.BLOCK, content):
        with pytest.raises(BackupDamaged):
            list(read_members(io.BytesIO(whole[:length])))
    assert len(list(read_members(io.BytesIO(whole)))) == 2


@pytest.mark.spec("GC-DATA-211")
def test_a_header_that_does_not_add_up_is_refused() -> None:
    whole = bytearray(written(("a", b"x")).getvalue())
    whole[0] = ord("b")
    with pytest.raises(BackupDamaged):
        list(read_members(io.BytesIO(bytes(whole))))


def test_a_name_that_could_not_be_read_back_is_not_written() -> None:
    for name in ("../a", "/a", "", "a/", "a\0b"):
        with pytest.raises(BackupDamaged):
            written((name, b""))
    with pytest.raises(Conflict, match="too long"):
        written(("a" * 150, b""))


def test_a_file_is_never_extracted_over_another(tmp_path: Path) -> None:
    out = written(("a", b"new"))
    (tmp_path / "a").write_bytes(b"mine")
    (member,) = read_members(out)
    with pytest.raises(FileExistsError):
        extract(out, member, tmp_path / "a")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"exists|symbolic"):
        extract(out, member, tmp_path / "link")
    assert (tmp_path / "a").read_bytes() == b"mine"
    assert not (tmp_path / "elsewhere").exists()
