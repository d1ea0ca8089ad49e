"""The kinds of value that speak of time: a duration, an instant, a cron expression."""

from __future__ import annotations

import re
from datetime import datetime

from goclaw.config.kinds import Kind, Place, Unfit, name_of

LONGEST_MS = 366 * 86_400_000
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?")
_UNITS_MS = (86_400_000, 3_600_000, 60_000, 1_000, 1)
_FIELD = r"[0-9A-Za-z*/,#?-]+"
_CRON = re.compile(rf"@[a-z]+|{_FIELD}(?:[ \t]+{_FIELD}){{4}}")


def duration() -> Kind[int]:
    """A length of time in milliseconds, written as 90s or 1h30m or as whole milliseconds; at least one
    second.
    """
    says = "a duration such as 30s, 5m, 1h30m"

    def read(value: object, _place: Place) -> int:
        if isinstance(value, int) and not isinstance(value, bool):
            total = value
        else:
            found = _DURATION.fullmatch(value) if isinstance(value, str) and len(value) < 40 else None
            if found is None:
                raise Unfit(f"expected {says} (or whole milliseconds)")
            total = sum(int(part or 0) * unit for part, unit in zip(found.groups(), _UNITS_MS, strict=True))
        if not 1_000 <= total <= LONGEST_MS:
            raise Unfit(f"expected {says}, from 1s to 366d")
        return total

    return Kind(says, read)


def instant() -> Kind[int]:
    """A point in time as milliseconds since 1970 UTC, written in ISO 8601 with its offset or as the number
    itself.
    """
    says = "an instant such as 2027-01-31T08:00:00+01:00"

    def read(value: object, _place: Place) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**14:
            return value
        try:
            when = datetime.fromisoformat(value) if isinstance(value, str) else None
        except ValueError:
            when = None
        if when is None or when.tzinfo is None:
            raise Unfit(f"expected {says}, with its offset (or milliseconds since 1970 UTC)")
        return round(when.timestamp() * 1000)

    return Kind(says, read)


def cron() -> Kind[str]:
    """Five fields or an @alias. Only the shape is looked at here; the scheduler reads the meaning."""
    says = "five cron fields or @hourly, @daily, ..."

    def read(value: object, _place: Place) -> str:
        if not isinstance(value, str) or not _CRON.fullmatch(value.strip()):
            raise Unfit(f"is {name_of(value)}; expected {says}")
        return value.strip()

    return Kind(says, read, textual=True)
