"""SQL lives in `.sql` files: blocks with a name and a line of intent."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib import resources

_HEAD = re.compile(r"^-- name: (\w+)\n((?:--.*\n)+)", re.MULTILINE)


class Queries(Mapping[str, str]):
    """The statements of one file, as attributes or by name. Immutable."""

    def __init__(self, statements: Mapping[str, str]) -> None:
        self._statements = dict(statements)

    def __getattr__(self, name: str) -> str:
        try:
            return self._statements[name]
        except KeyError:
            raise AttributeError(f"no query named {name!r}") from None

    def __getitem__(self, name: str) -> str:
        return self._statements[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._statements)

    def __len__(self) -> int:
        return len(self._statements)


def parse_queries(text: str) -> Queries:
    """Split `text` at its `-- name:` lines. Raises ValueError for a block without intent, or a name used twice."""
    heads = list(_HEAD.finditer(text))
    if len(heads) != text.count("-- name:"):
        raise ValueError("every '-- name:' line is followed by a comment line that says what the query is for")
    statements: dict[str, str] = {}
    for head, following in zip(heads, [*heads[1:], None], strict=True):
        body = text[head.end() : following.start() if following else len(text)].strip().rstrip(";")
        if head.group(1) in statements:
            raise ValueError(f"two queries are named {head.group(1)!r}")
        statements[head.group(1)] = body
    return Queries(statements)


def load_queries(name: str, package: str = "goclaw.store") -> Queries:
    """The queries of `package`/`name`.sql."""
    return parse_queries(resources.files(package).joinpath(f"{name}.sql").read_text("utf-8"))
