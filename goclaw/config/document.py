"""config.yaml as text becomes a value whose parts know their lines.

Scalars follow YAML 1.2, not 1.1: `no` and `on` are words, `12:30` is text and a date is text, because in a
settings file everything else is a trap. Keys are always text. Two equal keys, a tag and a second document are
refused instead of guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import yaml

Path = tuple[str | int, ...]
MAX_BYTES = 1024 * 1024
MAX_DEPTH = 64
MAX_VALUES = 100_000

_INTEGER = re.compile(r"[-+]?[0-9][0-9_]*")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: Mapping[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Flaw:
    """Why the text cannot be read: the path, the line (1 is the first; 0 is unknown) and one sentence."""

    path: Path
    line: int
    message: str


@dataclass(frozen=True, slots=True)
class Document:
    """What the text says. `value` is None when the text is empty or cannot be read at all."""

    value: object
    lines: Mapping[Path, int]
    flaws: tuple[Flaw, ...]

    def line(self, path: Path) -> int:
        """The line of the value at `path`, or of the nearest part around it; 0 when nothing is known."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 0)


def read_document(text: str) -> Document:
    """Read one YAML document. Never raises: what is wrong stands in `flaws`, with its line."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        return Document(None, {}, (Flaw((), 0, f"is larger than {MAX_BYTES} bytes"),))
    builder = _Builder()
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except UnicodeEncodeError:
        return Document(None, {}, (Flaw((), 0, "is not valid YAML: it holds half a character"),))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be read"
        line = mark.line + 1 if mark is not None else 0
        return Document(None, {}, (*builder.flaws, Flaw((), line, f"is not valid YAML: {reason}")))
    except _TooMuch as error:
        return Document(None, {}, (*builder.flaws, error.flaw))
    return Document(builder.value, builder.lines, tuple(builder.flaws))


def plain_scalar(text: str) -> str | int | float | bool | None:
    """What an unquoted word means: null, true, false, a decimal number, else the text itself."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text) and len(text) < 100:
        return int(text.replace("_", "")) if not text.endswith("_") else text
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


class _TooMuch(Exception):
    def __init__(self, flaw: Flaw) -> None:
        super().__init__(flaw.message)
        self.flaw = flaw


@dataclass(slots=True)
class _Open:
    """A mapping or list that is being read; `key` is the mapping key whose value comes next."""

    path: Path
    value: dict[str, object] | list[object]
    anchor: str | None
    key: str | None = None
    seen: set[str] = field(default_factory=set)


class _Builder:
    """Builds the value from parser events with a stack of its own, so that deep nesting cannot exhaust
    Python's.
    """

    def __init__(self) -> None:
        self.value: object = None
        self.lines: dict[Path, int] = {}
        self.flaws: list[Flaw] = []
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[object, int]] = {}
        self._count = 0
        self._documents = 0

    def take(self, event: yaml.Event) -> None:
        line = event.start_mark.line + 1 if event.start_mark is not None else 0
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise _TooMuch(Flaw((), line, "holds a second document; only one is read"))
        elif isinstance(event, yaml.ScalarEvent):
            self._scalar(event, line)
        elif isinstance(event, yaml.AliasEvent):
            value, size = self._anchors.get(event.anchor or "", (None, 0))
            if not size:
                raise _TooMuch(Flaw(self._path(), line, f"*{event.anchor} names no value that ended above it"))
            self._add(value, line, size)
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            self._begin(event, line)
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            ended = self._open.pop()
            if ended.anchor is not None:
                self._anchors[ended.anchor] = (ended.value, _size(ended.value))

    def _path(self) -> Path:
        if not self._open:
            return ()
        top = self._open[-1]
        part = top.key if isinstance(top.value, dict) else len(top.value)
        return (*top.path, part if part is not None else "")

    def _awaits_key(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1].value, dict) and self._open[-1].key is None

    def _scalar(self, event: yaml.ScalarEvent, line: int) -> None:
        if self._awaits_key():
            self._key(event.value, line)
            return
        if event.tag not in (None, "!", "tag:yaml.org,2002:str"):
            self.flaws.append(Flaw(self._path(), line, f"has the tag {event.tag}; tags are not used here"))
        value = plain_scalar(event.value) if event.implicit[0] else event.value
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, 1)
        self._add(value, line, 1)

    def _key(self, key: str, line: int) -> None:
        top = self._open[-1]
        if key in top.seen:
            self.flaws.append(Flaw((*top.path, key), line, "is set twice; keep one"))
        top.seen.add(key)
        top.key = key
        self.lines.setdefault((*top.path, key), line)

    def _begin(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent, line: int) -> None:
        if self._awaits_key():
            raise _TooMuch(Flaw(self._open[-1].path, line, "has a key that is not plain text"))
        if len(self._open) >= MAX_DEPTH:
            raise _TooMuch(Flaw((), line, f"is nested deeper than {MAX_DEPTH} levels"))
        if event.tag not in (None, "!"):
            self.flaws.append(Flaw(self._path(), line, f"has the tag {event.tag}; tags are not used here"))
        path = self._path()
        value: dict[str, object] | list[object] = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._add(value, line, 1)
        self._open.append(_Open(path, value, event.anchor))

    def _add(self, value: object, line: int, size: int) -> None:
        self._count += size
        if self._count > MAX_VALUES:
            raise _TooMuch(Flaw((), line, f"holds more than {MAX_VALUES} values"))
        if not self._open:
            self.value = value
            return
        top = self._open[-1]
        if isinstance(top.value, list):
            self.lines.setdefault((*top.path, len(top.value)), line)
            top.value.append(value)
        elif top.key is None:
            raise _TooMuch(Flaw(top.path, line, "has a key that is not plain text"))
        else:
            top.value[top.key] = value
            top.key = None


def _size(value: object) -> int:
    """How many values there are in `value`, counting a repeated one each time."""
    total, rest = 0, [value]
    while rest and total <= MAX_VALUES:
        one = rest.pop()
        total += 1
        if isinstance(one, dict):
            rest.extend(one.values())
        elif isinstance(one, list):
            rest.extend(one)
    return total
