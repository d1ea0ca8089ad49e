"""The example skills: built from their text, and right."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from goclaw.core.step import Effect
from goclaw.core.tool import CallContext
from goclaw.errors import BadArguments, SkillFault
from goclaw.sandbox.wasm import WasmEngine, WasmLimits, WasmModule
from goclaw.skills.catalog import Catalog

EXAMPLES = Path(__file__).parents[3] / "examples" / "skills"
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
MANY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def build_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("example_skills_build", EXAMPLES / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
async def catalog(engine: WasmEngine, registry: Any, recorder: Any) -> Catalog:
    catalog = Catalog([EXAMPLES], engine, registry, recorder)
    await catalog.scan()
    return catalog


def module(name: str) -> WasmModule:
    return WasmModule((EXAMPLES / name / f"{name}.wasm").read_bytes())


async def asked(engine: WasmEngine, name: str, stdin: str) -> Any:
    return json.loads((await engine.run(module(name), stdin.encode(), WasmLimits())).stdout)


@pytest.mark.spec("GC-SKL-020")
def test_every_module_in_the_repository_is_what_its_text_builds() -> None:
    script = build_script()
    names = [source.parent.name for source in script.sources()]
    assert names == ["echo-json", "sha256", "word-count"]
    for source in script.sources():
        assert source.with_suffix(".wasm").read_bytes() == script.assemble(source), source.name


async def test_all_examples_load_without_a_warning_and_are_pure(catalog: Catalog) -> None:
    await catalog.reload()
    assert [info.name for info in catalog.list()] == ["echo-json", "sha256", "word-count"]
    for info in catalog.list():
        assert (info.state, info.callable, info.warnings, info.effect) == ("active", True, (), Effect.PURE)


@MANY
@given(text=TEXTS)
async def test_sha256_agrees_with_hashlib(catalog: Catalog, context: CallContext, text: str) -> None:
    output = await catalog.tool("sha256").run({"text": text}, context)
    assert output.data["output"] == {"sha256": hashlib.sha256(text.encode()).hexdigest()}


@pytest.mark.parametrize("length", [0, 1, 54, 55, 56, 57, 63, 64, 65, 119, 120, 128, 32_767, 65_536, 700_000])
async def test_sha256_is_right_around_its_block_and_buffer_borders(engine: WasmEngine, length: int) -> None:
    text = ("0123456789abcdef" * 43_751)[:length]
    answer = await asked(engine, "sha256", json.dumps({"text": text}))
    assert answer == {"sha256": hashlib.sha256(text.encode()).hexdigest()}


@MANY
@given(text=TEXTS)
async def test_word_count_agrees_with_python(catalog: Catalog, context: CallContext, text: str) -> None:
    output = await catalog.tool("word-count").run({"text": text}, context)
    body = text.encode()
    lines = body.count(b"\n") + (1 if body and not body.endswith(b"\n") else 0)
    expected = {"bytes": len(body), "characters": len(text), "words": len(body.split()), "lines": lines}
    assert output.data["output"] == expected


@MANY
@given(text=TEXTS, ascii_only=st.booleans(), blank=st.sampled_from(["", " ", "\n\t ", "\r\n"]))
async def test_any_spelling_of_the_same_json_gives_the_same_answer(
    engine: WasmEngine, text: str, ascii_only: bool, blank: str
) -> None:
    string = json.dumps(text, ensure_ascii=ascii_only)
    stdin = f'{blank}{{{blank}"text"{blank}:{blank}{string}{blank}}}{blank}'
    assert (await asked(engine, "word-count", stdin))["bytes"] == len(text.encode())


@pytest.mark.parametrize(
    "stdin",
    [
        "",
        "null",
        "{}",
        '{"text"}',
        '{"text": 1}',
        '{"text": "half',
        '{"text": "\\q"}',
        '{"text": "\\u12"}',
        '{"text": "\\ud800"}',
        '{"text": "\\udc00\\ud800"}',
        '{"text": "\\u00G0"}',
        '{"text": "a\nb"}',
        '{"text": "a"} "more"',
        '{"text": "a", "more": 1}',
        '{"texts": "a"}',
    ],
)
async def test_any_other_input_ends_with_exit_code_2_and_says_so(engine: WasmEngine, stdin: str) -> None:
    with pytest.raises(SkillFault) as caught:
        await engine.run(module("word-count"), stdin.encode(), WasmLimits())
    assert caught.value.data["exit_code"] == 2
    assert "the input is not" in caught.value.data["stderr"]


async def test_echo_json_returns_its_input(catalog: Catalog, context: CallContext) -> None:
    given = {"b": [1, 2.5, None, True, "ä\n\0"], "a": {"c": {}}}
    output = await catalog.tool("echo-json").run(given, context)
    assert output.data["output"] == given


async def test_an_input_that_the_schema_refuses_never_reaches_the_module(
    catalog: Catalog, context: CallContext
) -> None:
    for wrong in ({}, {"text": 5}, {"text": "x", "more": 1}):
        with pytest.raises(BadArguments):
            await catalog.tool("sha256").run(wrong, context)
