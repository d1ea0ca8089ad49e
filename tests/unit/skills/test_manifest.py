"""SKILL.md: what is tolerated, what is refused, what it means."""

from __future__ import annotations

import pytest

from goclaw.core.step import Effect
from goclaw.errors import SkillRejected
from goclaw.sandbox.wasm import WasmLimits
from goclaw.skills.manifest import Manifest, read_manifest

HEAD = "name: weather\ndescription: Tells the weather.\n"


def read(header: str = HEAD, *, folder: str = "weather", schema: str | None = None) -> Manifest:
    return read_manifest(f"---\n{header}---\nBody.\n", folder, schema)


def reason(header: str, *, folder: str = "weather", schema: str | None = None) -> str:
    with pytest.raises(SkillRejected) as caught:
        read(header, folder=folder, schema=schema)
    return caught.value.message


@pytest.mark.spec("GC-SKL-010")
def test_a_full_manifest_is_read_as_written() -> None:
    manifest = read(
        HEAD + "license: MIT\ncompatibility: Linux\nallowed-tools: Read Bash(git:*)\n"
        "metadata:\n  author: ada\n  version: 1.0\n  goclaw-effect: pure\n  goclaw-fuel: 5_000\n"
        "  goclaw-memory-mb: 2\n  goclaw-timeout-ms: 250\n"
        '  goclaw-input-schema: \'{"type": "object", "required": ["city"]}\'\n'
    )
    assert (manifest.name, manifest.description, manifest.body) == ("weather", "Tells the weather.", "Body.")
    assert (manifest.license, manifest.compatibility) == ("MIT", "Linux")
    assert manifest.allowed_tools == ("Read", "Bash(git:*)")
    assert manifest.metadata["version"] == "1.0"
    assert manifest.effect is Effect.PURE
    assert manifest.limits == WasmLimits(fuel=5_000, memory_bytes=2 * 1024 * 1024, timeout_ms=250)
    assert manifest.input_schema == {"type": "object", "required": ["city"]}
    assert manifest.warnings == ()


@pytest.mark.spec("GC-SKL-010")
def test_what_is_not_said_takes_the_careful_default() -> None:
    manifest = read()
    assert manifest.effect is Effect.UNSAFE
    assert manifest.limits == WasmLimits()
    assert manifest.input_schema == {"type": "object"}
    assert (manifest.license, dict(manifest.metadata), manifest.allowed_tools) == (None, {}, ())


@pytest.mark.spec("GC-SKL-011")
@pytest.mark.parametrize(
    ("header", "word"),
    [
        ("name: weather\n", "description is missing"),
        ("name: weather\ndescription: ''\n", "description is missing"),
        ("name: weather\ndescription: '   '\n", "description is missing"),
        ("name: weather\ndescription: [a]\n", "description is missing"),
        ("description: x\n", "no name"),
        ("name: other\ndescription: x\n", "not the name of its folder"),
        ("name: [weather\ndescription: x\n", "not YAML"),
        ("- name\n", "not a YAML mapping"),
        ("", "not a YAML mapping"),
        ("? [a]\n: b\n", "not YAML"),
        ("[" * 5_000 + "\n", "nested too deeply"),
        ("x: " + "y" * 70_000 + "\n", "more than 65,536 characters"),
        (HEAD + "metadata: text\n", "metadata is not a mapping"),
        (HEAD + "metadata:\n  goclaw-fuel: [1]\n", "goclaw-fuel is not a string"),
        (HEAD + "metadata:\n  goclaw-fuel: many\n", "whole number"),
        (HEAD + "metadata:\n  goclaw-fuel: 0\n", "whole number"),
        (HEAD + "metadata:\n  goclaw-fuel: -1\n", "whole number"),
        (HEAD + "metadata:\n  goclaw-fuel: '1000000000001'\n", "whole number from 1 to 1,000,000,000,000"),
        (HEAD + "metadata:\n  goclaw-memory-mb: 513\n", "from 1 to 512"),
        (HEAD + "metadata:\n  goclaw-timeout-ms: 300001\n", "from 1 to 300,000"),
        (HEAD + "metadata:\n  goclaw-effect: harmless\n", "pure, idempotent, unsafe"),
        (HEAD + "metadata:\n  goclaw-effect: verifiable\n", "pure, idempotent, unsafe"),
        (HEAD + "metadata:\n  goclaw-input-schema: '{'\n", "not JSON"),
    ],
)
def test_a_manifest_that_cannot_be_honoured_is_refused_with_its_reason(header: str, word: str) -> None:
    assert word in reason(header)


@pytest.mark.parametrize("text", ["", "# Title\n", "--- \n", "---\nname: weather\n"])
def test_a_file_without_a_whole_frontmatter_is_refused(text: str) -> None:
    with pytest.raises(SkillRejected, match="frontmatter"):
        read_manifest(text, "weather")


@pytest.mark.spec("GC-SKL-012")
@pytest.mark.parametrize(
    ("header", "word"),
    [
        (HEAD + "version: 2\n", "unknown key 'version'"),
        (HEAD + "metadata:\n  goclaw-feul: 5\n", "unknown setting 'goclaw-feul'"),
        (HEAD + "metadata:\n  tags: [a, b]\n", "metadata 'tags' is not a string"),
        ("name: weather\ndescription: " + "d" * 2_000 + "\n", "cut after 1,024"),
        (HEAD + "compatibility: " + "c" * 501 + "\n", "at most 500"),
        ("name: weather\ndescription: Use when: it rains\n", "should be quoted"),
    ],
)
def test_harmless_faults_are_told_and_tolerated(header: str, word: str) -> None:
    manifest = read(header)
    assert len(manifest.warnings) == 1
    assert word in manifest.warnings[0]
    assert len(manifest.description) <= 1_024


def test_a_description_with_a_colon_is_kept_whole() -> None:
    manifest = read("name: weather\ndescription: It's for this: rain\nmetadata:\n  goclaw-fuel: 7\n")
    assert manifest.description == "It's for this: rain"
    assert manifest.limits.fuel == 7


@pytest.mark.parametrize("name", ["Weather", "my_skill", "a--b", "a-"])
def test_a_name_out_of_the_standard_is_tolerated_where_every_provider_accepts_it(name: str) -> None:
    manifest = read(f"name: {name}\ndescription: x\n", folder=name)
    assert "lowercase" in manifest.warnings[0]


@pytest.mark.parametrize("name", ["a.b", "ä", "a b", "-a", "x" * 65, "../x"])
def test_a_name_that_cannot_be_a_tool_is_refused(name: str) -> None:
    assert "1 to 64" in reason(f"name: '{name}'\ndescription: x\n", folder=name)


def test_words_that_yaml_would_turn_into_something_else_stay_text() -> None:
    manifest = read("name: weather\ndescription: yes\nlicense: 2024-01-01\nmetadata:\n  a: 1e3\n  b: null\n")
    assert (manifest.description, manifest.license) == ("yes", "2024-01-01")
    assert dict(manifest.metadata) == {"a": "1e3", "b": "null"}


def test_windows_line_ends_and_a_byte_order_mark_do_no_harm() -> None:
    text = "\ufeff---\r\nname: weather\r\ndescription: x\r\n---\r\nBody.\r\n"
    manifest = read_manifest(text, "weather")
    assert (manifest.description, manifest.body) == ("x", "Body.")


def test_two_schemas_are_one_too_many() -> None:
    header = HEAD + 'metadata:\n  goclaw-input-schema: \'{"type": "object"}\'\n'
    assert "twice" in reason(header, schema='{"type": "object"}')
