"""The line at the bottom."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from goclaw.tui.facts import AgentFacts, LinkState
from goclaw.tui.status import Standing, activity, line
from goclaw.tui.turn import Turn, TurnState

CODER = AgentFacts(id="coder", display_name="Coder", providers=("claude",), model="")
RUNNING = Turn(key="a", prompt="", state=TurnState.RUNNING, since=1_000)
QUEUED = Turn(key="b", prompt="", state=TurnState.QUEUED)


def standing(**given: object) -> Standing:
    known: dict[str, object] = {
        "agent": CODER,
        "session_id": "tui-0123456789ab",
        "policy_version": "70185db11d334a11",
        "link": LinkState.UP,
        "now": 13_000,
    }
    return Standing(**(known | given))  # type: ignore[arg-type]


def test_it_says_who_where_with_what_and_how_it_stands() -> None:
    words = "coder \u00b7 claude \u00b7 tui-0123456789ab \u00b7 policy 70185db1"
    shown = line(standing(), 80).plain
    assert (shown[: len(words) + 1], len(shown)) == (f" {words}", 80)
    assert shown.endswith(" ready \u00b7 \u25cf connected ")
    assert "claude-5" in line(standing(model="claude-5"), 80).plain
    assert "running 12 s \u00b7 1 queued" in line(standing(turns=(RUNNING, QUEUED)), 120).plain


def test_an_agent_without_a_model_says_so() -> None:
    agent = AgentFacts(id="default", display_name="", providers=("offline",), model="")
    assert "no model" in line(standing(agent=agent, model="offline"), 80).plain


@given(st.integers(10, 200), st.text(max_size=60), st.sampled_from(LinkState))
def test_what_has_no_room_is_left_out_the_agent_last(width: int, name: str, link: LinkState) -> None:
    agent = AgentFacts(id=name or "x", display_name="", providers=("claude",), model="")
    shown = line(standing(agent=agent, link=link), width)
    assert link in shown.plain
    if width >= 110:
        assert "policy 70185db1" in shown.plain
        assert shown.cell_length <= width


def test_what_goes_on_is_said_in_a_few_words() -> None:
    assert activity((), 0) == "ready"
    assert activity((QUEUED,), 0) == "queued"
    assert activity((QUEUED, QUEUED), 0) == "queued \u00b7 1 queued"
    assert activity((Turn(key="c", prompt="", state=TurnState.WAITING, since=0),), 61_000) == "waiting 1 min 01 s"
