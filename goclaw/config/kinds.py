"""The kinds of value a setting can have: how each is read, and how it is called in messages and in the
manual.

A kind refuses a value by raising `Unfit` with what it expects. Whatever holds several values (a list, a
section) catches that, reports it with the path and goes on, so that one look at a file finds every problem in
it.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from goclaw.config.document import Path

T = TypeVar("T")
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
NAME_SAYS = "a name of 1 to 64 letters, digits and . _ -"
_VARIABLE = re.compile(r"\$(\$\{|\{([^}]*)\})")
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Unfit(ValueError):
    """The value is not of the kind; the text says what is expected."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands: its path, whom to tell of problems, and the variables that text may name."""

    path: Path
    report: Callable[[Path, str], None]
    variables: Mapping[str, str]

    def at(self, part: str | int) -> Place:
        """The place of one part of this value."""
        return Place((*self.path, part), self.report, self.variables)

    def expand(self, text: str) -> str:
        """`text` with each ${VAR} replaced from the environment; `$${` is a literal `${`."""
        return _VARIABLE.sub(self._variable, text)

    def _variable(self, found: re.Match[str]) -> str:
        name = found.group(2)
        if name is None:
            return "${"
        if name.startswith("secret:"):
            raise Unfit(f"${{{name}}} refers to the credential store, which this version does not have; use ${{VAR}}")
        if not _ENVIRONMENT_NAME.fullmatch(name):
            raise Unfit(f"${{{name}}} is not the name of an environment variable; write $${{ for a literal ${{")
        value = self.variables.get(name)
        if not value:
            raise Unfit(f"${{{name}}} is not set in the environment or in .env")
        return value


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """How a value is read. `says` names it for people; `textual`: a word from outside is taken as it is.

    `section` is the class whose keys stand inside, `repeats` how they are reached ("", "<name>" or "[]").
    """

    says: str
    read: Callable[[object, Place], T]
    textual: bool = False
    section: type | None = None
    repeats: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What there is to know of one setting besides its name and default."""

    kind: Kind[Any]
    meaning: str
    environment: str | None = None
    live: bool = True
    """A change takes effect on reload; else at the next start."""
    secret: bool = False
    required: bool = False
    shown_default: str | None = None
    """The default in words, where the value itself would not tell."""


def key(kind: Kind[Any], meaning: str, **rest: Any) -> dict[str, Key]:
    """Field metadata that makes a dataclass field a setting."""
    return {"key": Key(kind=kind, meaning=meaning, **rest)}


def keys_of(section: type) -> Mapping[str, tuple[dataclasses.Field[Any], Key]]:
    """The settings of a section class by the name they have in the file, in their order."""
    return {
        one.metadata.get("name", one.name): (one, one.metadata["key"])
        for one in dataclasses.fields(section)
        if "key" in one.metadata
    }


def text(says: str = "text", pattern: str | None = None, limit: int = 4096) -> Kind[str]:
    """One line of text that is not empty; ${VAR} is replaced."""
    shape = re.compile(pattern) if pattern else None

    def read(value: object, place: Place) -> str:
        if not isinstance(value, str):
            quotes = " (put it in quotes)" if isinstance(value, (int, float)) else ""
            raise Unfit(f"is {name_of(value)}; expected {says}{quotes}")
        word = place.expand(value).strip()
        if not word or len(word) > limit or any(ord(char) < 32 for char in word):
            raise Unfit(f"expected {says}: one line of 1 to {limit} characters")
        if shape is not None and not shape.fullmatch(word):
            raise Unfit(f"expected {says}")
        return word

    return Kind(says, read, textual=True)


def prose(says: str, limit: int) -> Kind[str]:
    """Text of any number of lines, taken literally."""

    def read(value: object, _place: Place) -> str:
        if not isinstance(value, str):
            raise Unfit(f"is {name_of(value)}; expected {says}")
        if not value.strip() or len(value) > limit or "\0" in value:
            raise Unfit(f"expected {says}: 1 to {limit} characters")
        return value

    return Kind(says, read, textual=True)


def choice(*words: str) -> Kind[str]:
    """One of a few words; their case does not matter."""
    says = " | ".join(words)

    def read(value: object, _place: Place) -> str:
        word = str(value).lower() if isinstance(value, str) else ""
        if word in words:
            return word
        raise Unfit(f"is {shown(value)}; expected one of {', '.join(words)}{nearest(str(value), words)}")

    return Kind(says, read, textual=True)


def flag() -> Kind[bool]:
    """True or false."""

    def read(value: object, _place: Place) -> bool:
        if isinstance(value, bool):
            return value
        raise Unfit(f"is {shown(value)}; expected true or false")

    return Kind("true | false", read)


def integer(low: int, high: int) -> Kind[int]:
    """A whole number within bounds, both included."""
    says = f"integer {low:,} to {high:,}"

    def read(value: object, _place: Place) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        raise Unfit(f"is {shown(value)}; expected an {says}")

    return Kind(says, read)


def seconds(low: float, high: float) -> Kind[float]:
    """A number of seconds within bounds, both included."""
    says = f"seconds {low:g} to {high:g}"

    def read(value: object, _place: Place) -> float:
        number = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
        if low <= number <= high:
            return number
        raise Unfit(f"is {shown(value)}; expected {says}")

    return Kind(says, read)


def any_json(says: str) -> Kind[Mapping[str, Any]]:
    """A mapping that is handed on as it stands."""

    def read(value: object, _place: Place) -> Mapping[str, Any]:
        if isinstance(value, dict):
            return value
        raise Unfit(f"is {name_of(value)}; expected {says}")

    return Kind(says, read)


def list_of(kind: Kind[T], limit: int) -> Kind[tuple[T, ...]]:
    """A list of values of one kind."""
    says = f"list of {kind.says}"

    def read(value: object, place: Place) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise Unfit(f"is {name_of(value)}; expected a {says}")
        if len(value) > limit:
            raise Unfit(f"has {len(value)} entries; at most {limit} are taken")
        return tuple(_each(kind, ((place.at(at), one) for at, one in enumerate(value))))

    return Kind(says, read, section=kind.section, repeats="[]" if kind.section else "")


def map_of(word: str, names: Kind[str], kind: Kind[T], limit: int) -> Kind[Mapping[str, T]]:
    """Values of one kind by name; `word` stands for the name in the manual."""
    says = f"mapping of {word} to {kind.says}"

    def read(value: object, place: Place) -> Mapping[str, T]:
        if not isinstance(value, dict):
            raise Unfit(f"is {name_of(value)}; expected a {says}")
        if len(value) > limit:
            raise Unfit(f"has {len(value)} entries; at most {limit} are taken")
        found: dict[str, T] = {}
        for name, one in value.items():
            for fit in _each(names, [(place.at(name), name)]):
                for result in _each(kind, [(place.at(name), {} if one is None and kind.section else one)]):
                    found[fit] = result
        return found

    return Kind(says, read, section=kind.section, repeats=f"<{word}>")


def _trust(_value: object, _place: Place) -> None:
    """There is nothing to verify between the keys."""


def section(cls: type[T], verify: Callable[[T, Place], None] = _trust) -> Kind[T]:
    """A mapping with the keys of a dataclass. Unknown keys are refused with the nearest known one; null is
    default.
    """

    def read(value: object, place: Place) -> T:
        if not isinstance(value, dict):
            raise Unfit(f"is {name_of(value)}; expected keys: {', '.join(keys_of(cls))}")
        reported: list[Path] = []

        def report(path: Path, message: str) -> None:
            reported.append(path)
            place.report(path, message)

        filled = _fill(cls, value, Place(place.path, report, place.variables))
        if not reported:  # else what is missing was refused already, and saying it twice helps nobody
            verify(filled, place)
        return filled

    return Kind("settings", read, section=cls)


def _fill(cls: type[T], value: Mapping[str, object], place: Place) -> T:
    known = keys_of(cls)
    for name in value:
        if name not in known:
            place.report((*place.path, name), f"is not a known key{nearest(name, known)}")
    given: dict[str, Any] = {}
    for name, (one, about) in known.items():
        if value.get(name) is not None:
            for fit in _each(about.kind, [(place.at(name), value[name])]):
                given[one.name] = fit
        elif about.required:
            place.report((*place.path, name), f"is missing; expected {about.kind.says}")
    if any(about.required and one.name not in given for one, about in known.values()):
        raise Unfit("")  # already reported, part by part
    return cls(**given)


def _each(kind: Kind[T], values: Iterable[tuple[Place, object]]) -> Iterable[T]:
    """The values that fit; the others are reported and left out."""
    for place, value in values:
        try:
            yield kind.read(value, place)
        except Unfit as error:
            if str(error):
                place.report(place.path, str(error))


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean X?`, or nothing when no known word is near."""
    match = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return f"; did you mean {match[0]}?" if match else ""


def shown(value: object) -> str:
    """A short value for a message; long ones are only named by their kind."""
    if isinstance(value, str) and (len(value) > 40 or "\n" in value):
        return name_of(value)
    return repr(value) if isinstance(value, (str, int, float)) else name_of(value)


def name_of(value: object) -> str:
    """What kind of value this is, in YAML's words."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true or false"
    names = {str: "text", int: "a number", float: "a number", list: "a list", dict: "a mapping"}
    return names.get(type(value), type(value).__name__)
