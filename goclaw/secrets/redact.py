"""Takes secrets out of text before anybody can read it: logs, events, tool results, messages.

Registered values are found exactly, in the spellings in which they usually travel. Well-known shapes of keys
are found by pattern. Not promised: a secret that was split, encrypted or retold in other words.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus

MARKER = "[redacted]"
MIN_CHARS = 8
"""Shorter values are not taken: to remove every `test` would destroy more than it protects."""
MAX_CHARS = 65_536
MAX_VALUES = 1_000
MAX_DEPTH = 64

_WORD = r"[A-Za-z0-9_-]"
_PATTERNS: tuple[tuple[tuple[str, ...], re.Pattern[str]], ...] = (
    (("sk-",), re.compile(rf"\bsk-{_WORD}{{20,400}}")),
    (("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), re.compile(r"\bgh[pousr]_[A-Za-z0-9]{36,255}")),
    (("github_pat_",), re.compile(r"\bgithub_pat_[A-Za-z0-9_]{22,255}")),
    (("glpat-",), re.compile(rf"\bglpat-{_WORD}{{20,100}}")),
    (("AKIA", "ASIA"), re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b")),
    (("AIza",), re.compile(rf"\bAIza{_WORD}{{35}}")),
    (("xox",), re.compile(r"\bxox[abeprs]-[A-Za-z0-9-]{10,200}")),
    (("eyJ",), re.compile(rf"\beyJ{_WORD}{{10,4000}}\.eyJ{_WORD}{{10,8000}}\.{_WORD}{{10,2000}}")),
    (
        ("PRIVATE KEY-----",),
        re.compile(
            r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----"
            r"(?:[^-]|-(?!----)){1,20000}-----END [A-Z ]{0,30}PRIVATE KEY-----"
        ),
    ),
    (("earer ",), re.compile(r"(?<=[Bb]earer )[A-Za-z0-9._~+/=-]{16,4000}")),
    (("://",), re.compile(r"(?<=://)[^/\s:@]{0,200}:[^/\s@]{1,500}(?=@)")),
)


class Redactor:
    """Replaces secrets by `[redacted]`. Safe to call from any thread, also while values are added."""

    def __init__(self, *values: str) -> None:
        self._lock = threading.Lock()
        self._values: frozenset[str] = frozenset()
        self._forms: tuple[str, ...] = ()
        self.add(*values)

    def add(self, *values: str) -> None:
        """Register secret values. Those under 8 characters are passed over.

        Raises ValueError when there are more than 1,000 or one is longer than 65,536 characters.
        """
        wanted = {value for value in values if len(value) >= MIN_CHARS}
        with self._lock:
            everything = self._values | wanted
            if len(everything) > MAX_VALUES or any(len(value) > MAX_CHARS for value in wanted):
                raise ValueError(f"at most {MAX_VALUES} secrets of at most {MAX_CHARS} characters are taken")
            forms = {form for value in everything for form in _forms(value)}
            self._values = everything
            # The longest first, so that a secret inside another one leaves no rest of the other.
            self._forms = tuple(sorted(forms, key=lambda form: (-len(form), form)))

    def __call__(self, text: str) -> str:
        """`text` without secrets. Text that holds none is returned as it is."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, MARKER)
        for hints, pattern in _PATTERNS:
            for hint in hints:
                if hint in text:
                    text = pattern.sub(MARKER, text)
                    break
        return text

    def json(self, value: Any) -> Any:
        """A JSON value with every text in it redacted, names included. Deeper than 64 levels it is cut
        off.
        """
        # Nearly always there is nothing to find: one look over all texts at once is a third of the work of one at each.
        # A pattern may match across the marks between them, never miss inside; then each text is looked at.
        texts: list[str] = []
        _gather(value, MAX_DEPTH, texts)
        together = "\0".join(texts)
        return _rebuilt(value, MAX_DEPTH, str if self(together) == together else self)


def _gather(value: Any, depth: int, texts: list[str]) -> None:
    if isinstance(value, str):
        texts.append(value)
    elif depth and isinstance(value, dict):
        for name, part in value.items():
            texts.append(str(name))
            _gather(part, depth - 1, texts)
    elif depth and isinstance(value, (list, tuple)):
        for part in value:
            _gather(part, depth - 1, texts)


def _rebuilt(value: Any, depth: int, redact: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return redact(value)
    if not isinstance(value, (dict, list, tuple)):
        return value
    if depth == 0:
        return MARKER
    if isinstance(value, dict):
        return {redact(str(name)): _rebuilt(part, depth - 1, redact) for name, part in value.items()}
    return [_rebuilt(part, depth - 1, redact) for part in value]


def _forms(value: str) -> set[str]:
    """The spellings of a value: itself, hexadecimal, percent-encoded, inside JSON, and base64 at every
    offset.
    """
    raw = value.encode("utf-8", "surrogatepass")
    percent = {quote(raw, safe=""), quote(raw), quote_plus(raw)}
    escaped = {json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
    forms = {value, raw.hex(), raw.hex().upper(), *escaped, *percent, *map(_lower_escapes, percent)}
    for offset in range(3):
        forms |= _base64_core(raw, offset)
    return {form for form in forms if len(form) >= MIN_CHARS}


def _lower_escapes(text: str) -> str:
    return re.sub(r"%[0-9A-F]{2}", lambda found: found.group().lower(), text)


def _base64_core(raw: bytes, offset: int) -> set[str]:
    """The characters of base64 text that depend on `raw` alone when `offset` (mod 3) bytes stand before
    it.
    """
    encoded = base64.b64encode(b"\0" * offset + raw).decode("ascii").rstrip("=")
    first = (0, 2, 3)[offset]
    last = len(encoded) - (1 if (len(raw) + offset) % 3 else 0)
    core = encoded[first:last]
    return {core, core.replace("+", "-").replace("/", "_")}
