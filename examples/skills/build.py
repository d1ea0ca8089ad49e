"""Builds the example skills: NAME/NAME.wat becomes NAME/NAME.wasm, with text.wat put in where it is asked
for.

    python examples/skills/build.py

The .wasm files in the repository are exactly what this makes (a test compares them), so nothing binary has to
be taken on trust. It needs goclaw's own dependency wasmtime and no other compiler.
"""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent
INCLUDE = "(;include text.wat;)"


def assemble(source: Path) -> bytes:
    """The module that `source` describes."""
    from wasmtime import wat2wasm

    text = source.read_text(encoding="utf-8")
    return bytes(wat2wasm(text.replace(INCLUDE, (HERE / "text.wat").read_text(encoding="utf-8"))))


def sources() -> list[Path]:
    """The text of every example skill."""
    return sorted(HERE.glob("*/*.wat"))


def main() -> None:
    """Write every module beside its text."""
    for source in sources():
        module = source.with_suffix(".wasm")
        module.write_bytes(assemble(source))
        print(f"{module.relative_to(HERE)}: {module.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
