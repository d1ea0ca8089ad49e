"""docs/configuration.md, made from the settings themselves so that the two cannot part."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from goclaw.config.environment import VARIABLES
from goclaw.config.kinds import Key, keys_of
from goclaw.config.settings import Settings

_HEAD = """\
# Configuration

<!-- Made by scripts/make_configuration_doc.py from goclaw/config/settings.py; a test compares the two. -->

goclaw reads `config.yaml` in GOCLAW_HOME (default `~/.goclaw`). Nothing in it is required. A flag wins over
the environment, the environment over `config.yaml`, and that over the default. A key that does not exist is
refused with the nearest one that does, a wrong type with what was expected, and all problems are reported
at once.

The file is read again whenever it is saved. A file with a problem changes nothing: the last good settings
stay in force, and an event tells why. Keys marked *restart* take effect at the next start.

`${NAME}` in a text is replaced from the environment; `$${` is a literal `${`. Texts of souls and payloads
are taken literally. Scalars follow YAML 1.2: only `true` and `false` are booleans.

`goclaw config get KEY` and `goclaw config set KEY VALUE` take the dotted names below; `set` keeps the
comments and writes nothing unless the whole file is valid afterwards.

## Keys

| key | type | default | environment | change | meaning |
|---|---|---|---|---|---|
"""
_TAIL = """
## Environment

The variables named in the table above, and these:

| variable | meaning |
|---|---|
{variables}

Variables may also stand in `.env` in GOCLAW_HOME (`NAME=value` lines; the process's own environment wins).
For safety `.env` may not set `GOCLAW_*` or `*_BASE_URL`, and no `.env` in any other folder is read.

## Providers

Without `providers`, the first key found decides, in this order: ANTHROPIC_API_KEY, OPENAI_API_KEY,
OPENROUTER_API_KEY; else OLLAMA_HOST; else goclaw runs offline. A provider that bears its vendor's name
(`anthropic`, `openai`, `openrouter`, `ollama`) takes key and address from the vendor's variables, which win
over `config.yaml`. A provider of another name takes them only when it sets neither itself, so a vendor's
key never goes to another address. The provider `offline` always exists.
"""


def configuration_page() -> str:
    """The whole page, the same for equal settings classes."""
    rows = "".join(f"{row}\n" for row in _rows(Settings, "", live=None))
    variables = "\n".join(f"| `{name}` | {meaning} |" for name, meaning in VARIABLES)
    return _HEAD + rows + _TAIL.replace("{variables}", variables)


def _rows(section: type, prefix: str, live: bool | None) -> Iterator[str]:
    for name, (one, about) in keys_of(section).items():
        path = prefix + name
        takes_effect = about.live if live is None else live
        cells = (
            f"`{path}`",
            about.kind.says,
            _default(one, about),
            f"`{about.environment}`" if about.environment else "",
            "live" if takes_effect else "restart",
            about.meaning,
        )
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
        if about.kind.section is not None:
            repeats = about.kind.repeats
            inside = path + (repeats if repeats in ("", "[]") else f".{repeats}")
            yield from _rows(about.kind.section, f"{inside}.", takes_effect)


def _default(one: dataclasses.Field[Any], about: Key) -> str:
    if about.required:
        return "required"
    if about.shown_default is not None:
        return about.shown_default
    value = one.default
    if value is dataclasses.MISSING:
        return "empty"
    if value is None or value == ():
        return "empty"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, float):
        return f"`{value:g}`"
    return f"`{value}`"
