"""The timetable of a cron expression in a time zone, as UTC instants.

cronsim reads the five fields and says which dates match (Debian's rules, the OR of day and weekday included).
Which instants a matching date stands for is decided here, on zoneinfo alone, because daylight saving is where
schedulers miss and double runs:

* A job with fixed minute and hour means a time on the wall. If that time is skipped it fires once just after
  the gap; if it comes twice it fires in the first pass only.
* A job whose minute or hour field begins with `*` means elapsed time: it fires in both passes of a repeated
  hour, and a gap holds nothing for it.

Everything is pure; a zone's rules are those of the installed time zone data.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from goclaw.errors import BadRequest

ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
HORIZON_DAYS = 41 * 366
"""How far ahead an occurrence is looked for: 29 February on one weekday can be forty years away."""
_DAY = 86_400_000
_MARGIN = 3 * 3_600_000
_FIELDS = ("minute", "hour", "day-of-month", "month", "day-of-week")
_WORDS = re.compile(r"[0-9A-Za-z*,/-]+")
_FOREIGN = re.compile(r"[?#]|\bL|L\b|W", re.IGNORECASE)
_NAMES = re.compile(r"JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC|SUN|MON|TUE|WED|THU|FRI|SAT", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Fields:
    """What an expression says: times of day in minutes after midnight, ascending, and which dates match."""

    times: tuple[int, ...]
    months: frozenset[int]
    matches: Callable[[date], bool]
    elapsed: bool
    """True when the minute or the hour field begins with `*`."""


@lru_cache(maxsize=4_096)
def parse(expr: str) -> Fields:
    """Read five fields or an @alias. Raises BadRequest (field `cron`) that says what would be right."""
    from cronsim import CronSim, CronSimError

    text = ALIASES.get(expr.strip().lower(), expr.strip())
    if text.startswith("@"):
        raise _bad(f"unknown alias {text!r}; there are {', '.join(ALIASES)}")
    words = text.split()
    if len(words) != 5:
        raise _bad(f"cron has five fields ({' '.join(_FIELDS)}), not {len(words)}; there are no seconds or years")
    for name, word in zip(_FIELDS, words, strict=True):
        if not _WORDS.fullmatch(word) or _FOREIGN.search(_NAMES.sub("", word)):
            raise _bad(f"{name} {word!r} is not standard cron; a field is made of numbers, names and * , - /")
    try:
        read = CronSim(text, datetime(2000, 1, 1))  # noqa: DTZ001 (only the fields are read, no instant)
    except CronSimError as error:
        what = str(error).lower()
        raise _bad(f"cron {text!r}: {what}: there is no such value, or the date never comes") from None
    return Fields(
        times=tuple(60 * hour + minute for hour in sorted(read.hours) for minute in sorted(read.minutes)),
        months=frozenset(read.months),
        matches=read.match_day,
        elapsed=words[0].startswith("*") or words[1].startswith("*"),
    )


def zone_of(name: str) -> ZoneInfo:
    """The IANA zone. Raises BadRequest (field `zone`) that names the nearest known one."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise BadRequest(f"unknown time zone {name[:64]!r}{_nearest(name[:64])}", field="zone") from None


def days(expr: str, zone: str, after: int, until: int | None = None) -> Iterator[list[int]]:
    """The planned instants above `after` (and up to `until`), ascending, in lists of about a day; none is
    empty.

    Without `until` it ends after `HORIZON_DAYS` days.
    """
    fields, rules = parse(expr), zone_of(zone)
    # An hour that comes twice may reach back over midnight, hence one day earlier.
    today = datetime.fromtimestamp(after // 1000, rules).date() - timedelta(days=1)
    irregular: set[int] = set()
    for _ in range(HORIZON_DAYS):
        start = _regular_start(today, rules)
        if start is None:
            if today.month in fields.months and fields.matches(today):
                irregular.update(_irregular(fields, today, rules))
        else:
            # Around a shift the instants of neighbouring dates may interleave; they are sorted as one.
            yield from _within(sorted(irregular), after, until)
            irregular.clear()
            if until is not None and start > until:
                return
            if today.month in fields.months and fields.matches(today):
                yield from _within([start + minutes * 60_000 for minutes in fields.times], after, until)
        today += timedelta(days=1)


def local(instant: int, zone: str) -> str:
    """An instant as ISO 8601 local time with its offset."""
    return datetime.fromtimestamp(instant / 1000, zone_of(zone)).isoformat(timespec="seconds")


def _within(instants: list[int], after: int, until: int | None) -> Iterator[list[int]]:
    if instants and (instants[0] <= after or (until is not None and instants[-1] > until)):
        instants = [one for one in instants if one > after and (until is None or one <= until)]
    if instants:
        yield instants


def _regular_start(day: date, rules: ZoneInfo) -> int | None:
    """The instant of midnight when the offset stays the same from 3 h before the day to 3 h after it, else
    None."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=rules)
    start = _instant(midnight)
    probes = (start - _MARGIN, start + _DAY // 2, start + _DAY, start + _DAY + _MARGIN)
    offset = midnight.utcoffset()
    steady = all(datetime.fromtimestamp(probe // 1000, rules).utcoffset() == offset for probe in probes)
    return start if steady else None


def _irregular(fields: Fields, day: date, rules: ZoneInfo) -> Iterator[int]:
    """The instants of a date near a shift of the zone, in no order."""
    for minutes in fields.times:
        first = datetime(day.year, day.month, day.day, *divmod(minutes, 60), tzinfo=rules)
        second = first.replace(fold=1)
        before, after = first.utcoffset(), second.utcoffset()
        assert before is not None  # noqa: S101 (a ZoneInfo of a whole date always knows)
        assert after is not None  # noqa: S101
        if before >= after:
            yield _instant(first)
            if before > after and fields.elapsed:
                yield _instant(second)
        elif not fields.elapsed:
            yield _end_of_gap(_instant(second), _instant(first), rules)


def _end_of_gap(low: int, high: int, rules: ZoneInfo) -> int:
    """The instant of the shift: the first one in (low, high] that has another offset than `low`."""
    before = datetime.fromtimestamp(low // 1000, rules).utcoffset()
    while high - low > 1_000:
        middle = (low + high) // 2_000 * 1_000
        if datetime.fromtimestamp(middle // 1000, rules).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high


def _instant(moment: datetime) -> int:
    return int(moment.astimezone(UTC).timestamp()) * 1000


def _nearest(name: str) -> str:
    import difflib
    import zoneinfo

    near = difflib.get_close_matches(name, zoneinfo.available_timezones(), n=1)
    return f"; did you mean {near[0]}?" if near else "; it is a name such as Europe/Berlin or UTC"


def _bad(message: str) -> BadRequest:
    return BadRequest(message, field="cron")
