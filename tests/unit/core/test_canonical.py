"""One form for equal values."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from goclaw.core.canonical import canonical_json, digest
from goclaw.core.event import Event
from goclaw.core.step import effect_key

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_canonical_json_reads_back_as_what_it_was(value: Any) -> None:
    assert json.loads(canonical_json(value)) == value


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_the_order_of_fields_changes_nothing(value: dict[str, Any]) -> None:
    turned = dict(reversed(value.items()))
    assert canonical_json(turned) == canonical_json(value)
    assert digest(turned) == digest(value)


def test_the_form_is_the_one_written_down() -> None:
    assert canonical_json({"b": [1, 2.5, None], "a": "é"}) == '{"a":"é","b":[1,2.5,null]}'
    assert digest({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"x": float("-inf")}])
def test_what_is_no_json_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json(value)


@pytest.mark.spec("GC-DATA-101")
def test_an_effect_key_names_one_call_whoever_asked_for_it() -> None:
    key = effect_key("T", "llm:1", 0, "exec", {"argv": ["a", "b"], "cwd": "."})
    assert key == effect_key("T", "llm:1", 0, "exec", {"cwd": ".", "argv": ["a", "b"]})
    others = {
        effect_key("U", "llm:1", 0, "exec", {"argv": ["a", "b"], "cwd": "."}),
        effect_key("T", "llm:2", 0, "exec", {"argv": ["a", "b"], "cwd": "."}),
        effect_key("T", "llm:1", 1, "exec", {"argv": ["a", "b"], "cwd": "."}),
        effect_key("T", "llm:1", 0, "shell", {"argv": ["a", "b"], "cwd": "."}),
        effect_key("T", "llm:1", 0, "exec", {"argv": ["ab"], "cwd": "."}),
    }
    assert len(others | {key}) == 6
    assert len(key) == 32


def test_values_cannot_be_changed() -> None:
    event = Event(
        event_id=1,
        event_type="task.enqueued",
        task_id=None,
        session_id=None,
        state_from=None,
        state_to=None,
        run_id=None,
        trace_id=None,
        payload={},
        created_at=0,
    )
    with pytest.raises(AttributeError):
        event.event_id = 2  # type: ignore[misc]
