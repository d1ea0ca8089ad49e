"""`goclaw serve`: the daemon in the foreground. Parsed by hand, so that a serving process loads no parser."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

USAGE = """\
Usage: goclaw serve [--bind HOST:PORT] [--home DIR] [--json]

Serve in the foreground until SIGTERM or Ctrl-C. Logs one JSON line with msg "ready" and the url; port 0 takes any.

  --bind HOST:PORT  where to listen (GOCLAW_BIND_ADDR, else bind_addr of config.yaml, else 127.0.0.1:18789)
  --home DIR        the home to serve (GOCLAW_HOME, else ~/.goclaw)
  --json            JSON lines on a terminal too
"""
_VALUES = ("--bind", "--home")
_WORDS = (*_VALUES, "--json", "--help", "-h")


def serve(arguments: Sequence[str], home: str | None = None, bind: str | None = None) -> int:
    """Parse and serve; the exit code. `home` and `bind` are what was said before the word `serve`."""
    try:
        said = parse(arguments)
    except ValueError as error:
        sys.stderr.write(f"goclaw serve: {error}\n{USAGE}")
        return 2
    if "--help" in said:
        sys.stdout.write(USAGE)
        return 0
    from goclaw.daemon import serve as run

    folder = said.get("--home") or home
    human = sys.stderr.isatty() and "--json" not in said
    return run(Path(folder) if folder else None, said.get("--bind") or bind, human=human)


def parse(arguments: Sequence[str]) -> dict[str, str]:
    """The options by name. Raises ValueError with one sentence that names the nearest option."""
    said: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        word, equals, value = rest.pop(0).partition("=")
        if word not in _WORDS:
            raise ValueError(f"unknown word {word!r}; the nearest is {_nearest(word)}")
        if word in _VALUES:
            if not equals:
                if not rest or rest[0].startswith("--"):
                    raise ValueError(f"{word} needs a value")
                value = rest.pop(0)
            if not value:
                raise ValueError(f"{word} needs a value")
        elif equals:
            raise ValueError(f"{word} takes no value")
        said["--help" if word == "-h" else word] = value
    return said


def _nearest(word: str) -> str:
    from difflib import get_close_matches

    return get_close_matches(word, _WORDS, n=1, cutoff=0.0)[0]
