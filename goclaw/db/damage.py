"""SQLite's own words for a file that is damaged, told from its other errors."""

from __future__ import annotations

import sqlite3

_WORDS = ("SQLITE_CORRUPT", "SQLITE_NOTADB")


def is_damage(error: BaseException) -> bool:
    """Whether SQLite says with this error, or one of this group, that the file is damaged or no database."""
    if isinstance(error, BaseExceptionGroup):
        return any(map(is_damage, error.exceptions))
    word = getattr(error, "sqlite_errorname", "") if isinstance(error, sqlite3.Error) else ""
    return any(word == one or word.startswith(f"{one}_") for one in _WORDS)
