"""The picture of all skills: what comes in, what stays out, what stays in use."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from goclaw.core.tool import CallContext
from goclaw.errors import NotFound
from goclaw.sandbox.wasm import WasmEngine
from goclaw.skills.catalog import Catalog

Put = Callable[..., Path]


@pytest.fixture
def catalog(engine: WasmEngine, registry: Any, recorder: Any, tmp_path: Path) -> Catalog:
    return Catalog([tmp_path / "skills"], engine, registry, recorder, frozenset({"exec"}))


def rejection(recorder: Any) -> dict[str, Any]:
    rejected = [payload for event, payload in recorder.take() if event == "skill.rejected"]
    assert len(rejected) == 1
    return dict(rejected[0])


@pytest.mark.spec("GC-SKL-040")
async def test_every_folder_with_a_skill_file_is_found_and_told_of(
    catalog: Catalog, put: Put, recorder: Any, tmp_path: Path
) -> None:
    put("zebra")
    put("advice", None)
    (tmp_path / "skills" / "no-skill").mkdir()
    (tmp_path / "skills" / ".hidden").mkdir()
    (tmp_path / "skills" / "file.txt").write_text("x")
    await catalog.scan()
    assert [tool.spec.name for tool in catalog.tools()] == ["zebra"]
    assert [(info.name, info.callable, info.effect) for info in catalog.list()] == [
        ("advice", False, None),
        ("zebra", True, "unsafe"),
    ]
    assert [(event, payload["skill"]) for event, payload in recorder.take()] == [
        ("skill.loaded", "advice"),
        ("skill.loaded", "zebra"),
    ]
    assert catalog.snapshot.skills["advice"].manifest.body == "Body of advice."


async def test_a_home_without_a_skill_folder_has_no_skills(catalog: Catalog) -> None:
    await catalog.scan()
    assert (catalog.tools(), catalog.list()) == ((), ())


@pytest.mark.spec("GC-SKL-040")
async def test_asking_for_a_tool_that_is_not_there_says_why(catalog: Catalog, put: Put) -> None:
    put("advice", None)
    put("broken", head="name: broken\n")
    await catalog.scan()
    with pytest.raises(NotFound, match="instructions only"):
        catalog.tool("advice")
    with pytest.raises(NotFound, match="description is missing"):
        catalog.tool("broken")
    with pytest.raises(NotFound, match="no skill 'unknown'"):
        catalog.tool("unknown")


def two_modules(folder: Path) -> None:
    (folder / "second.wasm").write_bytes(b"\0asm\x01\0\0\0")


def link_beside(folder: Path) -> None:
    (folder / "notes.md").symlink_to("/etc/hostname")


def linked_module(folder: Path) -> None:
    (folder / "skill.wasm").unlink()
    (folder / "skill.wasm").symlink_to(folder.parent / "elsewhere.wasm")


def named_pipe(folder: Path) -> None:
    (folder / "skill.wasm").unlink()
    os.mkfifo(folder / "skill.wasm")


def folder_as_module(folder: Path) -> None:
    (folder / "skill.wasm").unlink()
    (folder / "skill.wasm").mkdir()


def large_module(folder: Path) -> None:
    (folder / "skill.wasm").write_bytes(b"\0asm\x01\0\0\0" + bytes(1024 * 1024))


def text_as_module(folder: Path) -> None:
    (folder / "skill.wasm").write_text("(module)")


def large_text(folder: Path) -> None:
    (folder / "SKILL.md").write_text("---\nname: weather\ndescription: x\n---\n" + "x" * 300_000)


def not_utf8(folder: Path) -> None:
    (folder / "SKILL.md").write_bytes(b"---\nname: weather\ndescription: \xff\n---\n")


def bad_schema(folder: Path) -> None:
    (folder / "input.schema.json").write_text("{")


def crowd(folder: Path) -> None:
    for number in range(1_001):
        (folder / f"{number}.txt").touch()


@pytest.mark.spec("GC-SKL-041")
@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (two_modules, "more than one module"),
        (link_beside, "symbolic link"),
        (linked_module, "symbolic link"),
        (named_pipe, "not a regular file"),
        (folder_as_module, "cannot be read"),
        (large_module, "more than 1,048,576 bytes"),
        (text_as_module, "not a WASM binary"),
        (large_text, "more than 262,144 bytes"),
        (not_utf8, "not UTF-8"),
        (bad_schema, "not JSON"),
        (crowd, "more than 1,000 entries"),
    ],
)
async def test_a_folder_that_is_not_in_order_is_rejected_and_harms_no_other(
    catalog: Catalog, put: Put, recorder: Any, spoil: Callable[[Path], None], word: str
) -> None:
    spoil(put("weather"))
    put("other")
    await catalog.scan()
    told = rejection(recorder)
    assert (told["skill"], told["kept"]) == ("weather", False)
    assert word in told["reason"]
    assert [tool.spec.name for tool in catalog.tools()] == ["other"]
    assert catalog.info("weather").state == "rejected"


@pytest.mark.spec("GC-SKL-041")
async def test_a_linked_folder_is_rejected(catalog: Catalog, put: Put, recorder: Any, tmp_path: Path) -> None:
    real = put("weather")
    real.rename(tmp_path / "weather")
    (tmp_path / "skills" / "weather").symlink_to(tmp_path / "weather")
    await catalog.scan()
    assert "symbolic link" in rejection(recorder)["reason"]


@pytest.mark.spec("GC-SKL-041")
async def test_a_skill_cannot_take_the_name_of_a_tool_of_the_house(catalog: Catalog, put: Put, recorder: Any) -> None:
    put("exec")
    await catalog.scan()
    assert "has this name" in rejection(recorder)["reason"]


async def test_a_folder_name_that_is_not_text_is_rejected_in_words_that_can_be_stored(
    catalog: Catalog, put: Put, tmp_path: Path, recorder: Any
) -> None:
    put("bad").rename(tmp_path / "skills" / os.fsdecode(b"bad\xff"))
    await catalog.scan()
    told = rejection(recorder)
    assert f"{told}".encode()
    assert told["skill"] == "bad\ufffd"


async def test_the_first_source_owns_a_name_even_if_its_folder_is_not_in_order(
    engine: WasmEngine, registry: Any, recorder: Any, put: Put, tmp_path: Path
) -> None:
    put("weather", head="name: weather\n")
    second = tmp_path / "installed"
    (second / "weather").mkdir(parents=True)
    (second / "weather" / "SKILL.md").write_text("---\nname: weather\ndescription: second\n---\n")
    await Catalog([tmp_path / "skills", second], engine, registry, recorder).scan()
    assert "description is missing" in rejection(recorder)["reason"]
    catalog = Catalog([second, tmp_path / "skills"], engine, registry, recorder)
    await catalog.scan()
    assert catalog.info("weather").description == "second"


@pytest.mark.spec("GC-SKL-042")
async def test_a_reload_tells_what_was_added_changed_and_removed_and_nothing_else(
    catalog: Catalog, put: Put, recorder: Any
) -> None:
    put("same")
    put("changes")
    goes = put("goes")
    await catalog.scan()
    recorder.take()
    await catalog.reload()
    assert recorder.take() == []
    put("changes", head="name: changes\ndescription: Another.\n")
    put("comes")
    (goes / "SKILL.md").unlink()
    await catalog.reload()
    assert [(event, payload["skill"]) for event, payload in recorder.take()] == [
        ("skill.loaded", "changes"),
        ("skill.loaded", "comes"),
        ("skill.removed", "goes"),
    ]
    assert catalog.info("changes").description == "Another."


@pytest.mark.spec("GC-SKL-042")
@pytest.mark.parametrize("spoil", [text_as_module, not_utf8, bad_schema, link_beside])
async def test_a_bad_change_leaves_the_last_good_version_in_use(
    catalog: Catalog, put: Put, recorder: Any, context: CallContext, spoil: Callable[[Path], None]
) -> None:
    folder = put("weather")
    await catalog.scan()
    recorder.take()
    spoil(folder)
    for _ in range(2):
        await catalog.reload()
    assert rejection(recorder)["kept"] is True
    assert (await catalog.tool("weather").run({"a": 1}, context)).data["output"] == {"a": 1}
    info = catalog.info("weather")
    assert info.state == "active"
    assert "an older version is in use" in (info.reason or "")


@pytest.mark.spec("GC-SKL-042")
@pytest.mark.parametrize("module", ["library", "foreign_import", "no_memory", "unknown_wasi"])
async def test_a_module_that_cannot_be_used_does_not_replace_one_that_can(
    catalog: Catalog, put: Put, recorder: Any, context: CallContext, module: str
) -> None:
    put("weather")
    await catalog.scan()
    recorder.take()
    put("weather", module)
    await catalog.reload()
    assert rejection(recorder)["kept"] is True
    assert (await catalog.tool("weather").run({}, context)).text == "{}"


async def test_a_repaired_folder_comes_back_without_its_reason(catalog: Catalog, put: Put, recorder: Any) -> None:
    put("weather", head="name: weather\n")
    await catalog.scan()
    recorder.take()
    put("weather")
    await catalog.reload()
    assert [event for event, _ in recorder.take()] == ["skill.loaded"]
    assert catalog.info("weather").reason is None


@pytest.mark.spec("GC-SKL-042")
async def test_a_call_that_runs_while_its_skill_is_replaced_finishes_with_the_old_one(
    catalog: Catalog, put: Put, context: CallContext
) -> None:
    put("weather")
    await catalog.scan()
    old = catalog.tool("weather")
    call = asyncio.create_task(old.run({"x": "old"}, context))
    put("weather", "gives_up")
    await catalog.reload()
    assert (await call).data["output"] == {"x": "old"}
    assert catalog.tool("weather") is not old


async def test_an_unchanged_skill_keeps_its_tool_over_a_reload(catalog: Catalog, put: Put) -> None:
    put("weather")
    await catalog.scan()
    tool = catalog.tool("weather")
    put("other")
    await catalog.reload()
    assert catalog.tool("weather") is tool


async def test_a_source_that_cannot_be_read_keeps_what_was_loaded_from_it(
    catalog: Catalog, put: Put, recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("weather")
    await catalog.scan()
    recorder.take()

    def refuses(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("goclaw.skills.catalog.os.scandir", refuses)
        await catalog.reload()
    told = rejection(recorder)
    assert told["kept"] is True
    assert "cannot be read: Permission denied" in told["reason"]
    assert [tool.spec.name for tool in catalog.tools()] == ["weather"]


async def test_more_skills_than_the_house_holds_are_told_of(catalog: Catalog, tmp_path: Path, recorder: Any) -> None:
    for number in range(257):
        folder = tmp_path / "skills" / f"s{number:03}"
        folder.mkdir(parents=True)
        (folder / "SKILL.md").write_text(f"---\nname: s{number:03}\ndescription: x\n---\n")
    await catalog.scan()
    assert rejection(recorder) == {"skill": "s256", "reason": "there are more than 256 skills", "kept": False}
    assert len(catalog.snapshot.skills) == 256


async def test_a_changed_skill_starts_afresh_after_a_quarantine(catalog: Catalog, put: Put, registry: Any) -> None:
    put("weather")
    await catalog.scan()
    version = catalog.info("weather").version or ""
    for _ in range(3):
        await registry.record_fault("weather", version, 3)
    await catalog.scan()
    assert catalog.info("weather").state == "quarantined"
    put("weather", "exit_3")
    await catalog.reload()
    assert (catalog.info("weather").state, catalog.info("weather").faults) == ("active", 0)


async def test_enabling_what_does_not_exist_is_not_found(catalog: Catalog) -> None:
    await catalog.scan()
    with pytest.raises(NotFound):
        await catalog.enable("nothing")


async def test_a_line_of_the_list_is_plain_json(catalog: Catalog, put: Put) -> None:
    put("weather", metadata="goclaw-feul: 1")
    await catalog.scan()
    line = catalog.info("weather").as_json()
    assert line["warnings"] == ["unknown setting 'goclaw-feul' is ignored"]
    assert (line["state"], line["reason"], line["faults"]) == ("active", None, 0)
