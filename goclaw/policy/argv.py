"""The grammar of `exec.allow`: which argument vectors may run."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from goclaw.core.step import Effect
from goclaw.errors import PolicyInvalid
from goclaw.policy.paths import Fence

ONE, REST, PATH = "*", "**", "{path}"
_MILDNESS = {Effect.UNSAFE: 0, Effect.IDEMPOTENT: 1, Effect.PURE: 2}


@dataclass(frozen=True, slots=True)
class ArgvPattern:
    """One pattern: the program as written, then literals, `*` (exactly one argument), `{path}` (one
    argument that is no option and lies inside allow_paths), and at the very end `**` (any arguments).

    `effect` is the mildest effect class a call that matches may declare.
    """

    tokens: tuple[str, ...]
    effect: Effect = Effect.UNSAFE

    def matches(self, argv: Sequence[str], argv_paths: Sequence[str], fence: Fence) -> bool:
        """Whether this very vector is covered. `argv_paths` holds each argument resolved as a path."""
        tokens = self.tokens
        if tokens[-1] == REST:
            tokens = tokens[:-1]
            if len(argv) < len(tokens):
                return False
        elif len(argv) != len(tokens):
            return False
        return all(_fits(token, argv[i], i, argv_paths, fence) for i, token in enumerate(tokens))

    def permits(self, effect: Effect) -> bool:
        """Whether a matching call may declare `effect`."""
        return _MILDNESS.get(effect, 0) <= _MILDNESS[self.effect]

    def as_json(self) -> dict[str, Any]:
        """The pattern as `exec.allow` takes it."""
        return {"argv": list(self.tokens), "effect": str(self.effect)}

    def __str__(self) -> str:
        return shlex.join(self.tokens)


def parse_pattern(entry: Any, where: str) -> ArgvPattern:
    """A pattern from a string (split like a shell would), a list, or {argv, effect}. Raises PolicyInvalid."""
    effect = Effect.UNSAFE
    if isinstance(entry, dict):
        if unknown := set(entry) - {"argv", "effect"}:
            raise PolicyInvalid(f"{where}: unknown key {min(map(str, unknown))!r}; known: argv, effect")
        effect = _effect(entry.get("effect", "unsafe"), where)
        entry = entry.get("argv")
    tokens = _tokens(entry, where)
    program = tokens[0]
    if program in {ONE, REST, PATH} or ("/" in program and not os.path.isabs(program)):
        raise PolicyInvalid(f"{where}: the program must be a plain name or an absolute path, not {program!r}")
    if REST in tokens[:-1]:
        raise PolicyInvalid(f"{where}: ** stands only at the end of a pattern")
    return ArgvPattern(tokens, effect)


def _fits(token: str, argument: str, i: int, argv_paths: Sequence[str], fence: Fence) -> bool:
    if token == ONE:
        return True
    if token == PATH:
        return not argument.startswith("-") and i < len(argv_paths) and fence.refusal(argv_paths[i]) is None
    return token == argument


def _tokens(entry: Any, where: str) -> tuple[str, ...]:
    if isinstance(entry, str):
        try:
            entry = shlex.split(entry)
        except ValueError as error:
            raise PolicyInvalid(f"{where}: {error}") from None
    if not isinstance(entry, list) or not entry or not all(isinstance(token, str) for token in entry):
        raise PolicyInvalid(f"{where}: a pattern is a text or a list of texts, the program first")
    if not entry[0]:
        raise PolicyInvalid(f"{where}: the program is empty")
    return tuple(entry)


def _effect(value: Any, where: str) -> Effect:
    known = [str(effect) for effect in _MILDNESS]
    if value not in known:
        raise PolicyInvalid(f"{where}: effect must be one of {', '.join(known)}, not {value!r}")
    return Effect(value)
