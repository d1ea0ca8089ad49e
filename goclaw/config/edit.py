"""`config get` and `config set`: one value by its dotted name, with every comment in the file kept.

The edit works on the text. Where a value lies is known from the parser's own marks, and the result is read
again and must say exactly what was said before plus the one change; so an edit that would go wrong is
refused, not made.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from goclaw.config.document import plain_scalar, read_document
from goclaw.config.files import write_atomic
from goclaw.config.home import Home
from goclaw.config.kinds import Key, keys_of, nearest
from goclaw.config.load import assemble, refusal
from goclaw.config.settings import Settings
from goclaw.errors import BadRequest, ConfigInvalid, HomeUnwritable

_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*")
_INDENT = 2


@dataclass(frozen=True, slots=True)
class Edited:
    """A change that was written: the key, and whether a running daemon takes it up at once."""

    key: str
    live: bool


def get_value(settings: Settings, dotted: str) -> Any:
    """The value of a dotted key as JSON, secrets hidden. Raises BadRequest, naming the nearest key."""
    value: Any = settings.redacted()
    done = ""
    for part in _parts(dotted):
        inside: Mapping[str, Any] = value if isinstance(value, dict) else {}
        if isinstance(value, list) and part.isdecimal():
            inside = {str(at): one for at, one in enumerate(value)}
        if part not in inside:
            raise BadRequest(f"there is no setting {dotted!r}{nearest(part, [done + name for name in inside])}")
        value = inside[part]
    return value


def set_value(home: Home, dotted: str, word: str, environ: Mapping[str, str]) -> Edited:
    """Set one key in config.yaml. `word` is text where the key takes text, else YAML (a number, a list).

    The whole file is checked first; an invalid result is not written. Raises BadRequest when there is no such
    key, ConfigInvalid when the result would not be valid or the edit cannot be made safely, HomeUnwritable.
    """
    path = _parts(dotted)
    about = find_key(path)
    value = word if about.kind.textual else _yaml_value(dotted, word)
    try:
        text = home.config.read_bytes().decode("utf-8")
    except FileNotFoundError:
        text = ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"config.yaml cannot be read: {error}") from error
    changed = edit_text(text, path, value)
    _, problems = assemble(home, changed, environ, {})
    if problems:
        raise refusal(problems)
    try:
        write_atomic(home.config, changed)
    except OSError as error:
        raise HomeUnwritable(f"{home.config}: {error.strerror or error}; config.yaml is unchanged") from error
    return Edited(dotted, keys_of(Settings)[path[0]][1].live)


def find_key(path: tuple[str, ...]) -> Key:
    """What is known of the setting at `path`. Raises BadRequest, naming the nearest one."""
    section: type | None = Settings
    about: Key | None = None
    rest = list(path)
    while rest:
        if section is None:
            raise BadRequest(f"{'.'.join(path)!r} goes deeper than the settings do")
        known = keys_of(section)
        name = rest.pop(0)
        if name not in known:
            raise BadRequest(f"there is no setting {'.'.join(path)!r}{nearest(name, known)}")
        about = known[name][1]
        section = about.kind.section
        if about.kind.repeats == "[]" and rest:
            raise BadRequest(f"{name} is a list of entries; edit config.yaml by hand")
        if about.kind.repeats and rest:
            rest.pop(0)  # the name of the entry
            if not rest and section is not None:
                raise BadRequest(f"{'.'.join(path)!r} is a group of settings; name one of them")
    if about is None or about.kind.section is not None:
        raise BadRequest(f"{'.'.join(path)!r} is a group of settings; name one of them")
    return about


def edit_text(text: str, path: tuple[str, ...], value: object) -> str:
    """`text` with the value at `path` set. Raises ConfigInvalid where the text cannot be changed safely."""
    before = read_document(text)
    if before.flaws:
        flaw = before.flaws[0]
        where = ".".join(map(str, flaw.path))
        raise ConfigInvalid(f"config.yaml line {flaw.line}: {where} {flaw.message}; mend that first")
    wanted = copy.deepcopy(before.value) if before.value is not None else {}
    if not isinstance(wanted, dict):
        raise _by_hand(path, "the file is not a mapping")
    _put(wanted, path, value)
    if any(isinstance(one, yaml.AliasEvent) for one in yaml.parse(text, Loader=yaml.SafeLoader)):
        raise _by_hand(path, "the file uses anchors, and a change could reach further than meant")
    changed = _spliced(text, path, value)
    after = read_document(changed)
    if after.flaws or after.value != wanted:
        raise _by_hand(path, "the change would alter other settings")
    return changed


def _spliced(text: str, path: tuple[str, ...], value: object) -> str:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if root is None or (isinstance(root, yaml.ScalarNode) and not root.value):
        return _appended(text, _block(path, value, 0))
    node: yaml.Node = root
    for depth, name in enumerate(path):
        if not isinstance(node, yaml.MappingNode):
            raise _by_hand(path, f"{'.'.join(path[:depth])} is not a mapping")
        found = next((pair for pair in node.value if pair[0].value == name), None)
        if found is None:
            return _inserted(text, node, path[depth:], value)
        key, node = found
        empty = isinstance(node, yaml.ScalarNode) and node.start_mark.index == node.end_mark.index
        if empty and depth < len(path) - 1:
            block = _block(path[depth + 1 :], value, key.start_mark.column + _INDENT)
            return _after_line(text, key.end_mark.line, block)
        if empty:
            at = text.index(":", key.end_mark.index) + 1
            return f"{text[:at]} {_render(value)}{text[at:]}"
    return _replaced(text, node, path, value)


def _replaced(text: str, node: yaml.Node, path: tuple[str, ...], value: object) -> str:
    start, end = node.start_mark.index, node.end_mark.index
    if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
        raise _by_hand(path, "its value is a block of lines")
    if isinstance(node, yaml.CollectionNode) and not node.flow_style:
        raise _by_hand(path, "its value takes several lines")
    return text[:start] + _render(value) + text[end:]


def _inserted(text: str, node: yaml.MappingNode, path: tuple[str, ...], value: object) -> str:
    if not node.value:  # {}: the only mapping without an entry
        inner: object = value
        for name in reversed(path):
            inner = {name: inner}
        return text[: node.start_mark.index] + _render(inner) + text[node.end_mark.index :]
    if node.flow_style:
        raise _by_hand(path, "it stands inside braces")
    column = node.value[0][0].start_mark.column
    block = _block(path, value, column)
    return _appended(text, block) if column == 0 else _after_line(text, _last_line(node), block)


def _last_line(node: yaml.Node) -> int:
    """The line on which the last value inside `node` ends; comments after it do not count."""
    while isinstance(node, yaml.CollectionNode) and node.value and not node.flow_style:
        last = node.value[-1]
        if isinstance(last, tuple):
            key, node = last
            if node.start_mark.index == node.end_mark.index:
                return int(key.end_mark.line)
        else:
            node = last
    end = node.end_mark
    return int(end.line) - 1 if end.column == 0 else int(end.line)


def _after_line(text: str, line: int, block: str) -> str:
    lines = text.splitlines(keepends=True)
    return _appended("".join(lines[: line + 1]), block) + "".join(lines[line + 1 :])


def _appended(text: str, block: str) -> str:
    return f"{text}{'' if not text or text.endswith(chr(10)) else chr(10)}{block}"


def _block(path: tuple[str, ...], value: object, column: int) -> str:
    """The lines that say `value` at `path`, beginning in `column`."""
    lines = [f"{' ' * (column + _INDENT * at)}{_render(name)}:" for at, name in enumerate(path)]
    return "\n".join(lines) + f" {_render(value)}\n"


def _render(value: object) -> str:
    """A value as YAML on one line: a plain word where that is unmistakable, else JSON, which YAML
    contains.
    """
    if isinstance(value, str) and _PLAIN.fullmatch(value) and plain_scalar(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)


def _put(target: dict[str, Any], path: tuple[str, ...], value: object) -> None:
    for name in path[:-1]:
        inside = target.get(name)
        if inside is None:
            inside = target[name] = {}
        if not isinstance(inside, dict):
            raise _by_hand(path, f"{name} is not a mapping")
        target = inside
    target[path[-1]] = value


def _parts(dotted: str) -> tuple[str, ...]:
    parts = tuple(dotted.split("."))
    if not all(parts):
        raise BadRequest(f"{dotted!r} is not a dotted name such as providers.claude.model")
    return parts


def _yaml_value(dotted: str, word: str) -> object:
    document = read_document(word)
    if document.flaws:
        raise BadRequest(f"the value for {dotted} {document.flaws[0].message}")
    return document.value


def _by_hand(path: tuple[str, ...], why: str) -> ConfigInvalid:
    return ConfigInvalid(f"{'.'.join(path)} cannot be set here: {why}; edit config.yaml by hand")
