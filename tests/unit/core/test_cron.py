from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goclaw.core.cron import ALIASES, days, local, parse, zone_of
from goclaw.errors import BadRequest

MINUTE = 60_000


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def following(expr: str, zone: str, after: str, count: int) -> list[str]:
    """The next instants as local times, their offset with them."""
    instants = islice((one for day in days(expr, zone, ms(after)) for one in day), count)
    return [local(one, zone)[5:].replace(":00+", "+").replace(":00-", "-") for one in instants]


# Each line: zone, expression, instant before, the next local times. The comment says which edge it is.
EDGES = [
    # Berlin, spring: 02:00 -> 03:00 on 29 March 2026
    (
        "Europe/Berlin",
        "30 2 * * *",
        "2026-03-28T12:00+01:00",
        ["03-29T03:00+02:00", "03-30T02:30+02:00"],
    ),
    ("Europe/Berlin", "15,45 2 * * *", "2026-03-28T12:00+01:00", ["03-29T03:00+02:00", "03-30T02:15+02:00"]),
    ("Europe/Berlin", "0 2,3 * * *", "2026-03-28T12:00+01:00", ["03-29T03:00+02:00", "03-30T02:00+02:00"]),
    ("Europe/Berlin", "0 3 * * *", "2026-03-28T12:00+01:00", ["03-29T03:00+02:00", "03-30T03:00+02:00"]),
    ("Europe/Berlin", "*/15 2 * * *", "2026-03-28T12:00+01:00", ["03-30T02:00+02:00", "03-30T02:15+02:00"]),
    ("Europe/Berlin", "30 * * * *", "2026-03-29T01:00+01:00", ["03-29T01:30+01:00", "03-29T03:30+02:00"]),
    ("Europe/Berlin", "0-59 2 * * *", "2026-03-28T12:00+01:00", ["03-29T03:00+02:00", "03-30T02:00+02:00"]),
    # Berlin, autumn: 03:00 -> 02:00 on 25 October 2026
    ("Europe/Berlin", "30 2 * * *", "2026-10-24T12:00+02:00", ["10-25T02:30+02:00", "10-26T02:30+01:00"]),
    # ... asked for in the second pass, before the same time on the wall: it has fired already
    ("Europe/Berlin", "30 2 * * *", "2026-10-25T02:10+01:00", ["10-26T02:30+01:00"]),
    ("Europe/Berlin", "*/30 2 * * *", "2026-10-25T01:00+02:00", [
        "10-25T02:00+02:00", "10-25T02:30+02:00", "10-25T02:00+01:00", "10-25T02:30+01:00", "10-26T02:00+01:00",
    ]),
    ("Europe/Berlin", "0 * * * *", "2026-10-25T01:30+02:00", [
        "10-25T02:00+02:00", "10-25T02:00+01:00", "10-25T03:00+01:00",
    ]),
    # New York: 8 March and 1 November 2026
    ("America/New_York", "30 2 * * *", "2026-03-07T12:00-05:00", ["03-08T03:00-04:00", "03-09T02:30-04:00"]),
    ("America/New_York", "30 1 * * *", "2026-10-31T12:00-04:00", ["11-01T01:30-04:00", "11-02T01:30-05:00"]),
    ("America/New_York", "*/30 1 * * *", "2026-11-01T00:00-04:00", [
        "11-01T01:00-04:00", "11-01T01:30-04:00", "11-01T01:00-05:00", "11-01T01:30-05:00",
    ]),
    # Lord Howe: thirty minutes, 02:00 -> 02:30 on 4 October 2026 and 02:00 -> 01:30 on 5 April 2026
    ("Australia/Lord_Howe", "10 2 * * *", "2026-10-03T12:00+10:30", ["10-04T02:30+11:00", "10-05T02:10+11:00"]),
    ("Australia/Lord_Howe", "40 2 * * *", "2026-10-03T12:00+10:30", ["10-04T02:40+11:00", "10-05T02:40+11:00"]),
    ("Australia/Lord_Howe", "45 1 * * *", "2026-04-04T12:00+11:00", ["04-05T01:45+11:00", "04-06T01:45+10:30"]),
    ("Australia/Lord_Howe", "45 * * * *", "2026-04-05T01:00+11:00", [
        "04-05T01:45+11:00", "04-05T01:45+10:30", "04-05T02:45+10:30",
    ]),
    # Casablanca: summer time but for Ramadan; 03:00 -> 02:00 on 15 February, 02:00 -> 03:00 on 22 March 2026
    ("Africa/Casablanca", "30 2 * * *", "2026-02-14T12:00+01:00", ["02-15T02:30+01:00", "02-16T02:30+00:00"]),
    ("Africa/Casablanca", "30 2 * * *", "2026-03-21T12:00+00:00", ["03-22T03:00+01:00", "03-23T02:30+01:00"]),
    # Zones without shifts
    ("Asia/Kolkata", "30 2 * * *", "2026-03-28T12:00+05:30", ["03-29T02:30+05:30", "03-30T02:30+05:30"]),
    ("UTC", "*/30 1 * * *", "2026-10-25T00:00+00:00", ["10-25T01:00+00:00", "10-25T01:30+00:00"]),
    # Midnight that does not exist (Cairo, 24 April 2026) and a whole day that does not (Apia, 30 December 2011)
    ("Africa/Cairo", "0 0 * * *", "2026-04-23T12:00+02:00", ["04-24T01:00+03:00", "04-25T00:00+03:00"]),
    ("Pacific/Apia", "0 12 30 12 *", "2011-12-01T00:00-10:00", ["12-31T00:00+14:00", "12-30T12:00+14:00"]),
    # A gap that ends at midnight (Nuuk, 30 March 2024, 23:00 -> 24:00): skipped and planned there is one occurrence
    ("America/Nuuk", "0 0,23 * * *", "2024-03-30T12:00-02:00", ["03-31T00:00-01:00", "03-31T23:00-01:00"]),
    # 00:01 -> 23:01 of the day before (St. John's, 7 November 2010): elapsed time stays in its order over midnight
    ("America/St_Johns", "30 * * * *", "2010-11-06T22:45-02:30", [
        "11-06T23:30-02:30", "11-06T23:30-03:30", "11-07T00:30-03:30",
    ]),
    ("America/St_Johns", "30 23 * * *", "2010-11-06T12:00-02:30", ["11-06T23:30-02:30", "11-07T23:30-03:30"]),
]  # fmt: skip


@pytest.mark.spec("GC-QUE-303")
@pytest.mark.parametrize(("zone", "expr", "after", "expected"), EDGES)
def test_daylight_saving_misses_and_doubles_nothing(zone: str, expr: str, after: str, expected: list[str]) -> None:
    assert following(expr, zone, after, len(expected)) == expected


def oracle(minutes: set[int], hours: set[int], elapsed: bool, zone: str, window: tuple[int, int]) -> list[int]:
    """The rules of the contract, minute by minute on zoneinfo alone: what the wall shows, and what it skipped."""
    rules, found, shown = ZoneInfo(zone), [], set()
    at = window[0] - 48 * 60 * MINUTE
    before = datetime.fromtimestamp(at / 1000, UTC).astimezone(rules).replace(tzinfo=None)
    while (at := at + MINUTE) <= window[1]:
        wall = datetime.fromtimestamp(at / 1000, UTC).astimezone(rules).replace(tzinfo=None)
        passed = [wall]
        if not elapsed:
            # Everything the wall has gone past since the last minute, and never shows again.
            passed += [before + timedelta(minutes=n) for n in range(1, int((wall - before).total_seconds() // 60))]
            passed = [one for one in passed if one not in shown]
            shown.update(passed)
        if any(one.minute in minutes and one.hour in hours for one in passed) and at > window[0]:
            found.append(at)
        before = wall
    return found


SHIFTS = [
    ("Europe/Berlin", "2026-03-29T01:00+00:00"),
    ("Europe/Berlin", "2026-10-25T01:00+00:00"),
    ("America/New_York", "2026-03-08T07:00+00:00"),
    ("America/New_York", "2026-11-01T06:00+00:00"),
    ("Australia/Lord_Howe", "2026-04-04T15:00+00:00"),
    ("Australia/Lord_Howe", "2026-10-03T15:30+00:00"),
    ("Africa/Casablanca", "2026-02-15T02:00+00:00"),
    ("Africa/Casablanca", "2026-03-22T02:00+00:00"),
    ("America/St_Johns", "2010-11-07T02:31+00:00"),
    ("America/St_Johns", "2011-03-13T03:31+00:00"),
    ("Africa/Cairo", "2026-04-23T22:00+00:00"),
    ("Asia/Kathmandu", "1985-12-31T18:30+00:00"),
    ("Antarctica/Troll", "2026-03-29T01:00+00:00"),
    ("Antarctica/Troll", "2026-10-25T01:00+00:00"),
    ("America/Nuuk", "2024-03-31T01:00+00:00"),
    ("America/Scoresbysund", "2024-03-31T01:00+00:00"),
    ("Asia/Kolkata", "2026-03-29T01:00+00:00"),
    ("UTC", "2026-03-29T01:00+00:00"),
]


@pytest.mark.spec("GC-QUE-303")
@settings(max_examples=120, deadline=None)
@given(
    shift=st.sampled_from(SHIFTS),
    minutes=st.sets(st.integers(0, 59), min_size=1, max_size=4),
    hours=st.sets(st.sampled_from([0, 1, 2, 3, 4, 22, 23]), min_size=1, max_size=3),
    step=st.sampled_from([None, None, 1, 7, 15, 30]),
    start=st.integers(-600, 300),
)
def test_the_timetable_around_a_shift_is_that_of_the_oracle(
    shift: tuple[str, str], minutes: set[int], hours: set[int], step: int | None, start: int
) -> None:
    zone, instant = shift
    after = ms(instant) + start * MINUTE
    until = after + 30 * 60 * MINUTE
    if step is not None:
        minutes = set(range(0, 60, step))
    words = ",".join(map(str, sorted(minutes))) if step is None else f"*/{step}"
    expr = f"{words} {','.join(map(str, sorted(hours)))} * * *"
    found = [one for day in days(expr, zone, after, until) for one in day]
    assert found == oracle(minutes, hours, step is not None, zone, (after, until))


def test_a_timetable_does_not_depend_on_where_it_is_asked_from() -> None:
    after, until = ms("2026-10-24T00:00+02:00"), ms("2026-10-27T00:00+01:00")
    whole = [one for day in days("*/30 1-3 * * *", "Europe/Berlin", after, until) for one in day]
    single = [next(days("*/30 1-3 * * *", "Europe/Berlin", one - 1))[0] for one in whole]
    assert single == whole


@pytest.mark.spec("GC-QUE-302")
@pytest.mark.parametrize("alias", ALIASES)
def test_an_alias_means_its_five_fields(alias: str) -> None:
    assert following(alias, "UTC", "2026-01-15T10:20+00:00", 3) == following(
        ALIASES[alias], "UTC", "2026-01-15T10:20+00:00", 3
    )


def test_weekly_is_sunday_at_midnight() -> None:
    assert following("@weekly", "UTC", "2026-09-21T00:00+00:00", 1) == ["09-27T00:00+00:00"]


def test_day_of_month_and_weekday_are_alternatives_unless_one_is_a_star() -> None:
    either = parse("0 0 13 * FRI").matches
    assert either(date(2026, 9, 13))
    assert either(date(2026, 9, 18))
    both = parse("0 0 13 * */5").matches
    assert both(date(2026, 11, 13))
    assert not both(date(2026, 9, 13) + timedelta(days=1))


def test_a_rare_date_is_found() -> None:
    assert local(next(days("0 0 29 2 *", "UTC", ms("2096-03-01T00:00+00:00")))[0], "UTC").startswith("2104-02-29")


@pytest.mark.spec("GC-QUE-302")
@pytest.mark.parametrize(
    ("expr", "says"),
    [
        ("* * * * * *", "five fields"),
        ("* * * *", "five fields"),
        ("", "five fields"),
        ("0 0 L * *", "day-of-month 'L' is not standard"),
        ("0 0 LW * *", "day-of-month 'LW' is not standard"),
        ("0 0 * * 5L", "day-of-week '5L' is not standard"),
        ("0 0 * * MON#2", "day-of-week 'MON#2' is not standard"),
        ("0 0 ? * *", "day-of-month '?' is not standard"),
        ("@reboot", "unknown alias"),
        ("@every 5m", "unknown alias"),
        ("60 * * * *", "bad minute"),
        ("* 24 * * *", "bad hour"),
        ("0 0 31 2 *", "never comes"),
        ("0 0 31 4,6 *", "never comes"),
        ("*/0 * * * *", "bad minute"),
        ("5-1 * * * *", "bad minute"),
        ("٣ * * * *", "minute"),
    ],
)
def test_an_expression_that_is_not_standard_is_refused_with_what_is_wrong(expr: str, says: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse(expr)
    assert says in caught.value.message
    assert caught.value.data["field"] == "cron"


@pytest.mark.spec("GC-QUE-302")
@pytest.mark.parametrize(
    ("zone", "says"),
    [
        ("Europe/Berln", "did you mean Europe/Berlin?"),
        ("CEST", "did you mean"),
        ("America", "unknown time zone"),
        ("../etc/passwd", "unknown time zone"),
        ("/etc/localtime", "unknown time zone"),
        ("", "unknown time zone"),
        ("a\0b", "unknown time zone"),
        ("x" * 5_000, "unknown time zone"),
    ],
)
def test_an_unknown_zone_is_refused_with_the_nearest_name(zone: str, says: str) -> None:
    with pytest.raises(BadRequest) as caught:
        zone_of(zone)
    assert says in caught.value.message
    assert caught.value.data["field"] == "zone"
    assert len(caught.value.message) < 200
