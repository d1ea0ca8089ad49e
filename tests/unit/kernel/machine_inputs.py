"""What the stateful test of the task machine submits, and how its attempts end."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from goclaw.core import intake
from goclaw.core.outcome import Canceled, Died, Failed, HandedBack, Outcome, Snoozed, Succeeded, Unknown
from goclaw.core.task import NewTask

PAYLOADS: dict[str, dict[str, Any]] = {"noop": {}, "exec": {"argv": ["true"]}, "chat": {"content": "hi"}}
NEWS = st.builds(
    lambda kind, **fields: intake.complete(NewTask(kind=kind, payload=PAYLOADS[kind], **fields)),
    kind=st.sampled_from(["noop", "noop", "exec", "chat", "chat", "chat"]),
    agent_id=st.sampled_from(["default", "default", "other", None]),
    session_id=st.sampled_from(["s1", "s1", "s2", None]),
    idempotency_key=st.sampled_from([None, None, None, None, "k1", "k2"]),
    priority=st.sampled_from([0, 0, 1, -1, 10]),
    delay_ms=st.sampled_from([0, 0, 0, 400, 3_000]),
    deadline_ms=st.sampled_from([None, None, None, 500, 5_000]),
    max_attempts=st.integers(1, 4),
    concurrency_key=st.sampled_from([None, None, "n1", "n1", "n2"]),
    unique_key=st.sampled_from([None, None, None, "u1"]),
)
OUTCOMES: st.SearchStrategy[Outcome] = st.sampled_from(
    [
        Succeeded({"n": 1}),
        Succeeded({"n": 1}),
        Failed("E", "one"),
        Failed("E", "one"),
        Failed("E", "one"),
        Failed("E", "two", retry_after_ms=4_000),
        Failed("E", "one", permanent=True),
        Unknown("who knows"),
        Canceled(),
        HandedBack(),
        Snoozed(400),
        Died(lease_lost=True),
    ]
)
