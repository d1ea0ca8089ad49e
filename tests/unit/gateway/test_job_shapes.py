from __future__ import annotations

from typing import Any

from goclaw.core.schedule import Draft, Job, Occurrence, Outcome, build
from goclaw.gateway.job_shapes import instant_object, job_object, occurrence_object

NOW = 1_789_948_800_000
HOUR = 3_600_000


def job(**fields: Any) -> Job:
    given: dict[str, Any] = {"kind": "noop", "every_ms": HOUR} | fields
    return Job(
        schedule=build(Draft(**given), "job", NOW),
        source="api",
        declared=None,
        watermark=NOW,
        next_at=NOW + HOUR,
        last_at=None,
        created_at=NOW,
        updated_at=NOW,
    )


def test_a_job_is_shown_as_the_wire_promises() -> None:
    assert job_object(job(payload={"result": 1}, missed="catch_up(2)", name="hourly")) == {
        "id": "job",
        "name": "hourly",
        "kind": "every",
        "every_ms": HOUR,
        "anchor": NOW,
        "task": {
            "kind": "noop",
            "payload": {"result": 1},
            "agent_id": None,
            "session_id": None,
            "priority": 0,
            "max_attempts": 3,
            "deadline_ms": None,
        },
        "enabled": True,
        "missed": "catch_up(2)",
        "overlap": "skip",
        "next_at": NOW + HOUR,
        "last_at": None,
        "source": "api",
        "created_at": NOW,
        "updated_at": NOW,
    }


def test_each_form_of_a_timetable_has_its_own_fields() -> None:
    cron = job_object(job(every_ms=None, cron="@daily", zone="Asia/Kolkata"))
    assert (cron["kind"], cron["cron"], cron["zone"]) == ("cron", "@daily", "Asia/Kolkata")
    once = job_object(job(every_ms=None, at=NOW + 1))
    assert (once["kind"], once["at"]) == ("at", NOW + 1)
    assert "zone" not in once


def test_an_occurrence_shows_its_reason_and_task_where_it_has_them() -> None:
    one = Occurrence(job_id="job", planned_at=NOW, outcome=Outcome.MISSED, first=NOW, last=NOW + HOUR, count=2)
    shown = {"job_id": "job", "planned_at": NOW, "outcome": "missed", "first": NOW, "last": NOW + HOUR, "count": 2}
    assert occurrence_object(one) == shown
    ran = Occurrence(
        job_id="job", planned_at=NOW, outcome=Outcome.RAN, reason="manual", task_id="t", first=NOW, last=NOW
    )
    expected = shown | {"outcome": "ran", "reason": "manual", "task_id": "t", "last": NOW, "count": 1}
    assert occurrence_object(ran) == expected


def test_a_coming_instant_is_shown_in_local_and_utc_time() -> None:
    assert instant_object(job(every_ms=None, cron="0 2 * * *", zone="Europe/Berlin"), NOW) == {
        "at": NOW,
        "local": "2026-09-21T02:00:00+02:00",
        "utc": "2026-09-21T00:00:00+00:00",
        "zone": "Europe/Berlin",
    }
